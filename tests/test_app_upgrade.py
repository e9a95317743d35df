"""A box whose runner was exchanged: what the one before was doing at each stage, the new one goes on with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from adapters.journal_schema import SCHEMA_VERSION
from runner.job import Key, Verdict
from runner.ports import ContainerSpec
from runner.records import JournalEntry
from tests.adapters.journal_harness import open_in
from tests.adapters.stored_journals import lay_out
from tests.fakes.containers import Container
from tests.fakes.queue import Message
from tests.fakes.scenes import alive, newest, until
from tests.fakes.world import EPOCH, FakeWorld
from tests.virtual_time import run_virtual

RUNS = ("starting", "stopping")
HAS_RUN = ("exited", "uploaded", "stored")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_jobs_of_an_earlier_version_go_on_where_they_stood(tmp_path: Path, version: int) -> None:
    """Each is settled once, for what it was; what ran runs on, and what had run is not started again."""
    lay_out(f"format-{version}", tmp_path)
    entries = asyncio.run(_in_flight(tmp_path))

    async def main() -> None:
        world = FakeWorld()
        for key, entry in entries.items():
            _stands_as_before(world, key, entry)
        async with alive(world):
            await until(lambda: len(world.queues["shared"].final) == len(entries), limit_s=600)
        submissions = {entry.claimed.token.partition("#")[0] for entry in entries.values()}
        assert dict.fromkeys(submissions, 1) == world.queues["shared"].final
        reasons = {entry.claimed.claim.id: _reason(world, entry) for entry in entries.values()}
        assert reasons == dict.fromkeys(reasons, "succeeded") | {"stopping": "cancelled"}
        started = {name.partition(".")[0] for name in world.containers.starts}
        assert started == set(reasons) - {*RUNS, *HAS_RUN}
        assert set(world.queues["shared"].settled.values()) == {Verdict.ACK}

    run_virtual(main())


def _reason(world: FakeWorld, entry: JournalEntry) -> str | None:
    before = None if entry.stored is None else entry.stored.receipt
    told = newest(world, entry.claimed.claim.id) or before
    return told.end_reason if told is not None else None


async def _in_flight(directory: Path) -> dict[Key, JournalEntry]:
    journal = open_in(directory)
    try:
        return {entry.key: entry for entry in await journal.in_flight()}
    finally:
        await journal.close()


def _stands_as_before(world: FakeWorld, key: Key, entry: JournalEntry) -> None:
    """Put the job's message, container and workspace where the older runner left them; the box is still up."""
    if entry.starting is not None:
        entry = msgspec.structs.replace(entry, starting=msgspec.structs.replace(entry.starting, up_s=0.0))
    world.journal.entries[key] = entry
    claimed = entry.claimed
    submission = claimed.token.partition("#")[0]
    message = Message(submission, claimed.body, EPOCH - 100, EPOCH - 100, token=claimed.token, claimed_until=EPOCH + 60)
    world.queues["shared"].messages[submission] = message
    if entry.staged is not None:
        world.workspaces.standing[entry.staged.staged.workspace] = []
    if entry.starting is not None and entry.granted is not None and entry.exited is None:
        name, grant = entry.starting.container, entry.granted.grant
        spec = ContainerSpec(name, key, 1, claimed.claim.job.command, {}, name, grant)
        world.containers.containers[name] = Container(spec, EPOCH - 10, EPOCH + 30, 0, told_started_at=EPOCH - 10)
