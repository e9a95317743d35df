"""
Who takes part: the runner and a bare consumer on each service, arq and Celery through Redis.

Each is one worker process that is started for its turn, and a client of its own kind in this process that puts jobs.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from adapters.credential_files import read_credential
from adapters.journal import JournalReader
from adapters.registry import open_broker
from bench.peers import AT_ONCE, Given
from bench.queue_arrivals import Arrivals
from bench.queue_bare import Order
from bench.queue_clients import Place, open_client
from bench.queue_peers import REDIS, arq_settings, celery_app
from runner.ports import Box
from runner.records import JournalEntry
from tests.shared_queue import service

if TYPE_CHECKING:
    from arq import ArqRedis
    from celery import Celery

LIMIT_S = 120.0
LOOK_AGAIN_S = 0.005
NOBODY = Box("", (), 0, 0)


class Contender(ABC):
    """
    One row: a worker, and how it is given jobs.

    ``command`` starts the worker. ``open`` comes before everything else and ``close`` behind it; ``put`` adds a job,
    ``until_settled`` waits until all that began are done for good.
    """

    who: str

    def __init__(self, place: Place, arrivals: Arrivals, directory: Path) -> None:
        self.place, self.arrivals, self.directory = place, arrivals, directory
        directory.mkdir()

    @property
    @abstractmethod
    def command(self) -> list[str]: ...

    @property
    def environ(self) -> dict[str, str]:
        return {}

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def put(self, job_id: str) -> None: ...

    @abstractmethod
    async def until_settled(self, ids: Sequence[str]) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    def body(self, job_id: str) -> bytes:
        """Return a job as our own message has it."""
        return msgspec.json.encode({"id": job_id, "command": self.arrivals.command(job_id)})


class Ours(Contender):
    """A real ``runner run``, told of its queue by a credential file."""

    who = "ours"

    def __init__(self, place: Place, arrivals: Arrivals, directory: Path) -> None:
        super().__init__(place, arrivals, directory)
        self.state = directory / "state"
        self._certs = directory / "certs"
        self._certs.mkdir(mode=0o700)
        self._credential = read_credential(self._write_credential().encode())
        # What jobs were granted, for the bare consumer to grant its own.
        self.given: Given | None = None

    @property
    def command(self) -> list[str]:
        words = ["--state-dir", str(self.state), "--certs-dir", str(self._certs), "--no-own-queue"]
        size = ["--max-jobs", str(AT_ONCE), "--job-disk", "64MiB", "--gpus", "none"]
        return [sys.executable, "-m", "runner", "run", *words, *size, "--docker-host", f"unix://{self.directory}/none"]

    def _write_credential(self) -> str:
        where = service(self.place.kind, url=self.place.url)
        where = where.replace("{queue}", self.place.queue).replace("{directory}", str(self.directory))
        text = f'{where}runtime = "process"\npaths = ["{self.arrivals.directory}"]\n'
        file = self._certs / "queue.toml"
        file.write_text(text)
        file.chmod(0o600)
        return text

    async def open(self) -> None:
        self._broker = open_broker(self._credential, NOBODY)
        self._queue = await self._broker.open(self.place.queue)
        self._journal = JournalReader(str(self.state / "journal.db"))

    async def put(self, job_id: str) -> None:
        await self._queue.put(self.body(job_id), job_id=job_id)

    async def until_settled(self, ids: Sequence[str]) -> None:
        while await self._journal.in_flight():
            await asyncio.sleep(LOOK_AGAIN_S)
        if self.given is None:
            entries = (await self.entries(ids)).values()
            grants = {entry.granted.grant.here.cores: entry.granted.grant for entry in entries if entry.granted}
            self.given = Given(tuple(grants.values()), self._credential.rights.paths)

    async def entries(self, ids: Sequence[str]) -> Mapping[str, JournalEntry]:
        """Return what the journal has of jobs that ended, the newest."""
        entries = {entry.claimed.claim.id: entry for entry in await self._journal.list(limit=len(ids), ended=True)}
        assert set(ids) == set(entries), set(ids) ^ set(entries)
        return entries

    async def close(self) -> None:
        await self._journal.close()
        await self._queue.close()
        await self._broker.close()


class Bare(Contender):
    """A loop around the service's client library that runs the same starter; on the same service as ``ours``."""

    who = "bare"

    def __init__(self, place: Place, arrivals: Arrivals, directory: Path, ours: Ours) -> None:
        super().__init__(place, arrivals, directory)
        self._ours = ours

    @property
    def command(self) -> list[str]:
        assert self._ours.given, "ours had no turn yet"
        order = Order(self.place, str(self.directory / "state"), self._ours.given, self.arrivals.fifo)
        return [sys.executable, "-c", "import bench.queue_bare as it; it.main()", msgspec.json.encode(order).decode()]

    async def open(self) -> None:
        self._client = await open_client(self.place)

    async def put(self, job_id: str) -> None:
        await self._client.put(self.body(job_id))

    async def until_settled(self, ids: Sequence[str]) -> None:
        await self.arrivals.until_done(ids, LIMIT_S)

    async def close(self) -> None:
        await self._client.close()


class Arq(Contender):
    """arq's own worker program."""

    who = "arq"
    _pool: ArqRedis

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "arq", "bench.queue_peers.WorkerSettings"]

    @property
    def environ(self) -> dict[str, str]:
        return {REDIS: self.place.url}

    async def open(self) -> None:
        from arq import create_pool

        self._pool = await create_pool(arq_settings(self.place.url))

    async def put(self, job_id: str) -> None:
        await self._pool.enqueue_job("run_command", self.arrivals.command(job_id), _job_id=job_id)

    async def until_settled(self, ids: Sequence[str]) -> None:
        from arq.constants import result_key_prefix

        while await self._pool.exists(*(result_key_prefix + job_id for job_id in ids)) < len(ids):
            await asyncio.sleep(LOOK_AGAIN_S)

    async def close(self) -> None:
        await self._pool.aclose()


class Celeries(Contender):
    """Celery's own worker program, with as many processes as jobs run at once."""

    who = "celery"
    _app: Celery

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "bench.queue_peers", "worker", "--concurrency", str(AT_ONCE)]

    @property
    def environ(self) -> dict[str, str]:
        return {REDIS: self.place.url}

    async def open(self) -> None:
        self._app = celery_app(self.place.url)

    async def put(self, job_id: str) -> None:
        command = self.arrivals.command(job_id)
        await asyncio.to_thread(self._app.send_task, "run_command", (command,), task_id=job_id)

    async def until_settled(self, ids: Sequence[str]) -> None:
        backend = self._app.backend
        keys = [backend.get_key_for_task(job_id) for job_id in ids]
        while await asyncio.to_thread(backend.client.exists, *keys) < len(ids):
            await asyncio.sleep(LOOK_AGAIN_S)

    async def close(self) -> None:
        self._app.close()


def contenders_on(kind: str, url: str, arrivals: Arrivals, directory: Path) -> list[Contender]:
    """Return everybody who takes part on one service, ours first."""
    name = f"bench-{secrets.token_hex(4)}"
    place = Place(kind, url or str(directory), name)
    ours = Ours(place, arrivals, directory / f"{kind}-ours")
    bare = Bare(Place(kind, place.url, f"{name}-bare"), arrivals, directory / f"{kind}-bare", ours)
    peers = [of(place, arrivals, directory / f"{kind}-{of.who}") for of in (Arq, Celeries)] if kind == "redis" else []
    return [ours, bare, *peers]
