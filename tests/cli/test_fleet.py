"""The fleet from any machine: commands beside a runner that they reach through its queue's service alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.ports import Queue, Results
from tests.at_work import end_orphans, until
from tests.cli.typed import LIMIT_S, Typed, clean_environ, started
from tests.shared_queue import SharedQueue, service

pytestmark = pytest.mark.integration

REAL = [pytest.param(name, marks=pytest.mark.broker) for name in ("redis", "rabbitmq", "sqs")]
POISON = b'{"id": "poison", "comand": ["true"], "env": {"HF_TOKEN": "hunter2"}}'


class Client:
    """Somebody on a machine without a runner, who has the credential file of the queue."""

    def __init__(self, shared: SharedQueue) -> None:
        self.shared, self.state = shared, shared.directory / "elsewhere"

    def words(self, command: str, *words: object) -> list[str]:
        return [command, "--credential", str(self.shared.credential), "--state-dir", str(self.state), *map(str, words)]

    def type(self, command: str, *words: object) -> Typed:
        said = started(*self.words(command, *words))
        assert "Traceback" not in said.err, said.err
        return said

    def told(self, command: str, *words: object) -> Any:
        """Return what a command that must work prints as JSON."""
        said = self.type(command, *words, "--json")
        assert said.status == 0, said.err
        return json.loads(said.out)

    def states(self) -> dict[str, str]:
        return {row["id"]: row["end_reason"] or row["state"] for row in self.told("ps", "--all")}


@pytest.fixture(params=["folder", *REAL])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedQueue]:
    try:
        lines = service(request.param)
    except KeyError as missing:
        pytest.skip(f"no {request.param}: {missing.args[0]} is not set; run `make test`")
    listing = os.environ.get("RUNNER_TEST_RABBITMQ_MANAGEMENT", "") if request.param == "rabbitmq" else ""
    yield SharedQueue(tmp_path, lines, more=f'management = "{listing}"' if listing else "")
    end_orphans(tmp_path)


def test_before_any_box_is_there_jobs_are_known_and_can_be_cancelled(shared: SharedQueue) -> None:
    """Whether or not the service shows what stands in it: each once, with its name, and no box that might take it."""
    client = Client(shared)
    for name in ("first", "second"):
        words = ("--id", name, "--name", "digits", "--user", "ada", "--", "true")
        assert Typed(0, f"{name}\n", "") == client.type("submit", *words)
    rows = client.told("ps")
    assert {("first", "digits", "ada", "waiting", ""), ("second", "digits", "ada", "waiting", "")} == {
        (row["id"], row["name"], row["user"], row["state"], row["box"]) for row in rows
    }
    assert 2 == len(rows)
    assert shared.name in client.told("why", "second")["sentence"]
    assert "waiting" == client.told("show", "first")["state"]
    assert "has written nothing yet" in client.type("logs", "first").err
    said = client.type("cancel", "second").out
    assert "is withdrawn from its queue" in said or "the box that takes it ends it" in said
    assert [] == client.told("boxes")
    assert not client.state.exists()
    with shared.box("first"):
        until(lambda: client.states() == {"first": "succeeded", "second": "cancelled"}, "both have ended", 60)


def test_a_mistyped_queue_is_not_made_by_looking(shared: SharedQueue) -> None:
    """It would be read by nobody for ever, and found by every box that serves all queues of the service."""
    client = Client(shared)
    client.type("submit", "--id", "first", "--", "true")
    for command in (("ps",), ("boxes",), ("why", "first"), ("cancel", "first"), ("logs", "first"), ("dead", "list")):
        for _ in range(2):
            said = client.type(*command, "--queue", "nosuch")
            assert (1, "", 1) == (said.status, said.out, len(said.err.splitlines()))
            assert "there is no queue" in said.err


def test_what_runs_is_seen_followed_and_stopped(shared: SharedQueue, tmp_path: Path) -> None:
    """No other way to the box but the queue's service and its result backend."""
    client, source = Client(shared), tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text("print(6 * 7)\n")
    with shared.box("first") as box:
        said = client.type("submit", "--follow", "--upload", source, "--id", "up", "--", "python3", "train.py")
        assert (0, "42\n") == (said.status, said.out), said.err
        client.type("submit", "--id", "slow", "--", "sh", "-c", "echo begun; exec sleep 600")
        logs = [sys.executable, "-m", "runner", *client.words("logs", "-f", "slow")]
        with subprocess.Popen(logs, stdout=subprocess.PIPE, text=True, env=clean_environ()) as following:
            assert following.stdout is not None
            assert "begun\n" == following.stdout.readline()
            (row,) = client.told("ps")
            assert ("slow", "running", shared.box_id("first")) == (row["id"], row["state"], row["box"])
            until(lambda: [it["running"] for it in client.told("boxes")] == [["slow"]], "its box tells of it", 30)
            (beat,) = client.told("boxes")
            assert (shared.box_id("first"), "alive", True) == (beat["box"], beat["state"], beat["age"] < 30)
            assert beat["cores_free"] < beat["cores"]
            assert "the box that has it ends it" in client.type("cancel", "slow").out
            assert "" == following.communicate(timeout=LIMIT_S)[0]
        assert {"up": "succeeded", "slow": "cancelled"} == client.states()
        assert "begun\n" == client.type("logs", "slow").out == client.type("logs", "slow", "--archive").out
        assert "cancelled" == client.told("show", "slow")["end_reason"]
        assert box.stop() == 0


def test_why_tells_what_no_box_can_run_and_when_a_failed_one_is_tried_again(shared: SharedQueue) -> None:
    """In words of the box that had it last, though the box has let go of it."""
    client = Client(shared)
    with shared.box("first", "--patience", "1m") as box:
        client.type("submit", "--id", "huge", "--cpus", "1000", "--", "true")
        client.type("submit", "--id", "fails", "--retries", "9", "--", "sh", "-c", "exit 7")
        for job, sentence in (("huge", "can never run it: needs 1000 cores"), ("fails", "failed: exit code 7")):
            until(lambda: sentence in client.told("why", job)["sentence"], "it says why", 60)  # noqa: B023 - at once
        assert "given back to the queue by " in client.told("why", "huge")["sentence"]
        until(lambda: re.search("fails +waiting +- ", client.type("ps").out), "no clock runs while it waits", 60)
        for job in ("huge", "fails"):
            client.type("cancel", job)
        assert box.stop() == 0


def test_what_was_rejected_is_looked_at_tried_again_and_deleted(shared: SharedQueue) -> None:
    """The same on every service; no secret of it is shown."""
    client = Client(shared)

    async def put(queue: Queue, _: Results) -> None:
        await queue.put(POISON, job_id="poison")

    shared.ask(put)
    with shared.box("first") as box:
        until(lambda: client.told("dead", "list"), "it is rejected", 60)
        (row,) = client.told("dead", "list")
        assert ("poison", shared.name, True) == (row["id"], row["queue"], "comand" in row["reason"])
        shown = client.told("dead", "show", row["submission"][:6])
        assert {"id": "poison", "comand": ["true"], "env": {"HF_TOKEN": "***"}} == shown["message"]
        assert POISON.decode() == client.type("dead", "show", "poison", "--raw").out
        assert {"retry": [row["submission"]]} == client.told("dead", "retry", "poison")
        until(lambda: [it["submission"] for it in client.told("dead", "list")] not in ([], [row["submission"]]),
              "it is rejected again, as a new submission", 60)  # fmt: skip
        assert 1 == len(client.told("dead", "drop", "--all")["drop"])
        assert [] == client.told("dead", "list")
        assert box.stop() == 0
