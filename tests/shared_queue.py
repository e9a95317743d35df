"""One queue that runners in processes of their own share, on any service, and what a test may ask of it."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from adapters.credential_files import read_credential
from adapters.registry import open_broker, open_results
from runner.ports import Box, Queue, Results
from runner.receipt import JobRow, Receipt
from tests.at_work import AtWork, at_work

T = TypeVar("T")

NOBODY = Box("", (), 0, 0)
STARTS = 'touch "$(mktemp "{marks}/$RUNNER_JOB_ID.XXXXXX")"; '
WAITS = """
case "$PWD" in {first}/*) box=first;; *) box=second;; esac
echo begun; echo $box > made-by
while [ ! -e {marks}/go-$box ]; do sleep 0.05; done; echo over
"""


class SharedQueue:
    """
    One queue, the credential file for it, and a directory where jobs leave marks.

    ``service`` are the lines of the file that say where the queue is; ``{queue}`` in them is its name.
    """

    def __init__(self, directory: Path, service: str, *, lease_s: float = 3.0, more: str = "") -> None:
        self.directory, self.lease_s = directory, lease_s
        self.name = f"q{secrets.token_hex(4)}"
        self.marks, self.certs = directory / "marks", directory / "certs"
        self.marks.mkdir()
        self.marks.chmod(0o777)  # each job has a user of its own
        self.certs.mkdir(mode=0o700)
        own = f'runtime = "process"\npaths = ["{self.marks}"]\nlease = "{lease_s:g}s"\n{more}\n'
        self.text = service.replace("{queue}", self.name).replace("{directory}", str(directory)) + own
        self.credential = self.certs / "q.toml"
        self.credential.write_text(self.text)
        self.credential.chmod(0o600)

    @contextmanager
    def box(self, name: str, *options: object, environ: Mapping[str, str] | None = None) -> Iterator[AtWork]:
        """Let a runner serve the queue; its state stays from life to life."""
        given = ("--certs-dir", self.certs, "--no-own-queue", "--patience", "1s", *options)
        with at_work(self.directory / name, *given, environ=environ) as it:
            yield it

    def command(self, script: str) -> list[str]:
        """Return a command that leaves a mark as it starts."""
        return ["sh", "-c", (STARTS + script).format(marks=self.marks, first=self.directory / "first")]

    def ask(self, ask: Callable[[Queue, Results], Awaitable[T]]) -> T:
        """Ask the queue and its result backend as a client does."""
        return asyncio.run(self._ask(ask))

    async def _ask(self, ask: Callable[[Queue, Results], Awaitable[T]]) -> T:
        credential = read_credential(self.text.encode())
        broker, results = open_broker(credential, NOBODY), open_results(credential, self.name, NOBODY)
        assert results is not None
        try:
            queue = await broker.open(self.name)
            try:
                return await ask(queue, results)
            finally:
                await queue.close()
        finally:
            await results.close()
            await broker.close()

    def submit(self, jobs: Mapping[str, list[str]], **fields: object) -> None:
        """Put jobs into the queue at once."""

        async def put(queue: Queue, _: Results) -> None:
            for job_id, command in jobs.items():
                body = msgspec.json.encode({"id": job_id, "command": command, **fields})
                await queue.put(body, job_id=job_id)

        self.ask(put)

    def starts(self, job_id: str) -> int:
        """Count how often a job was started."""
        return len(list(self.marks.glob(f"{job_id}.*")))

    def ended(self) -> list[Receipt]:
        """Return the last receipt of the newest job of each id that ended for good."""

        async def read(_: Queue, results: Results) -> list[Receipt]:
            rows: tuple[JobRow, ...] = await results.list(ended=True)
            receipts = [await results.get(job_id) for job_id in {row.id for row in rows if row.state == "ended"}]
            return [receipt for receipt in receipts if receipt is not None]

        return self.ask(read)

    def ended_rows(self) -> list[JobRow]:
        """Return a row for each job that ended for good, also where several had one id."""

        async def read(_: Queue, results: Results) -> list[JobRow]:
            return [row for row in await results.list(ended=True) if row.state == "ended"]

        return self.ask(read)

    def depth(self) -> int:
        """Count the messages that wait."""

        async def read(queue: Queue, _: Results) -> int:
            return await queue.depth()

        return self.ask(read)

    def dead(self) -> list[str]:
        """Return the reasons of all dead letters."""

        async def read(queue: Queue, _: Results) -> list[str]:
            return [row.reason for row in await queue.dead()]

        return self.ask(read)

    def dead_bodies(self) -> list[bytes]:
        """Return the bytes of all dead letters."""

        async def read(queue: Queue, _: Results) -> list[bytes]:
            return [row.body for row in await queue.dead()]

        return self.ask(read)

    def go(self, box: str) -> None:
        """Let the jobs that wait on a box end."""
        (self.marks / f"go-{box}").touch()

    def box_id(self, name: str) -> str:
        """Return a box's id."""
        return (self.directory / name / "box-id").read_text().strip()


def service(name: str, *, url: str = "") -> str:
    """
    Return the lines of a credential file for a service of this run, or for the one at ``url``.

    Raises:
        KeyError: there is no such service here.
    """
    match name:
        case "folder":
            return 'kind = "folder"\nurl = "folder://{directory}/{queue}"\n'
        case "redis":
            return f'kind = "redis"\nurl = "{url or os.environ["RUNNER_TEST_REDIS"]}/0?queue={{queue}}"\n'
        case "rabbitmq":
            at = url or os.environ["RUNNER_TEST_RABBITMQ"]
            return f'kind = "rabbitmq"\nurl = "{at}?queue={{queue}}"\nresults = "folder://{{directory}}/results"\n'
        case _:
            at = url or os.environ["RUNNER_TEST_SQS"]
            keys = 'access_key = "112233445566"\nsecret_key = "made-up"\n'
            where = f'kind = "sqs"\nurl = "sqs://us-east-1/{{queue}}"\nendpoint = "{at}"\n'
            return f'{where}{keys}results = "folder://{{directory}}/results"\n'
