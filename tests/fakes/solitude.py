"""Whether jobs that asked for it were alone: what else the box did while each of them had it, by the journal."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import msgspec

from runner.job import Key
from runner.records import ClaimRecord, ExitRecord, GrantRecord, PlaceRecord, StageRecord, StartRecord
from tests.fakes.disk import FakeJournal
from tests.fakes.world import FakeWorld


class Phase(msgspec.Struct, frozen=True):
    """Something that one attempt did, from when until when on the loop's clock."""

    key: Key
    what: str
    begins: float
    ends: float


def check_solitude(world: FakeWorld) -> int:
    """Fail where anything was staged, ran or was uploaded beside a job that was alone; count those that were."""
    journal = world.journal
    attempts = _attempts(journal)
    alone = [Phase(key, "alone", *span) for key, times in attempts if (span := _span(times, GrantRecord, ExitRecord))]
    alone = [phase for phase in alone if _asked(journal, phase.key) == "box"]
    doing = [phase for key, times in attempts for phase in _phases(key, times)]
    doing += [phase for phase in _uploads(world) if _ran(attempts, phase.key)]
    beside = [pair for pair in product(alone, doing) if _overlap(*pair)]
    assert not beside, f"not alone: {beside}"
    return len(alone)


def _asked(journal: FakeJournal, key: Key) -> str:
    return journal.entries[key].claimed.claim.job.exclusive


def _attempts(journal: FakeJournal) -> list[tuple[Key, dict[type, float]]]:
    """When each kind of record was first written, by attempt."""
    found: dict[tuple[Key, float], dict[type, float]] = defaultdict(dict)
    claimed: dict[Key, float] = {}
    for at, key, record in journal.history:
        if isinstance(record, ClaimRecord):
            claimed[key] = record.claim.claimed_at
        found[key, claimed[key]].setdefault(type(record), at)
    return [(key, times) for (key, _), times in found.items()]


def _span(times: dict[type, float], begin: type, end: type) -> tuple[float, float] | None:
    return (times[begin], times[end]) if begin in times and end in times else None


def _phases(key: Key, times: dict[type, float]) -> list[Phase]:
    kinds = (("staged", PlaceRecord, StageRecord), ("ran", StartRecord, ExitRecord))
    return [Phase(key, what, *span) for what, begin, end in kinds if (span := _span(times, begin, end))]


def _uploads(world: FakeWorld) -> list[Phase]:
    keys = {entry.claimed.claim.id: key for key, entry in world.journal.entries.items()}
    files = [(at, keys[url.split("/")[-2]]) for at, url in world.store.put_at]
    return [Phase(key, "uploaded", at, at) for at, key in (*files, *world.results.put_at)]


def _ran(attempts: list[tuple[Key, dict[type, float]]], key: Key) -> bool:
    """Tell whether a job ever ran: how a message ended that is rejected, say, may be stored at any time."""
    return any(StartRecord in times for other, times in attempts if other == key)


def _overlap(alone: Phase, other: Phase) -> bool:
    return alone.key != other.key and alone.begins < other.ends and other.begins < alone.ends
