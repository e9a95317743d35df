"""What every journal keeps: the newest record of each kind, through restarts, found by key, id and state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from adapters.journal import SqliteJournal
from runner.errors import RunnerError, Unavailable
from runner.job import Verdict
from runner.ports import Journal
from runner.records import JournalEntry, PlaceRecord, SettleRecord, WaitRecord
from tests.conformance.records import BODY, FAULT, GRANT, JOB, ON_THE_WAY, claim, exited, key_of, stored

Opener = Callable[[], AbstractAsyncContextManager[Journal]]
KEY = key_of("digits")


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """Open the same journal, as often as a test likes."""

    @asynccontextmanager
    async def open_journal() -> AsyncIterator[Journal]:
        journal = SqliteJournal(str(tmp_path / "journal.db"), str(tmp_path / "journal.key"))
        try:
            yield journal
        finally:
            await journal.close()

    return open_journal


def test_every_kind_of_record_comes_back_as_it_was(opened: Opener) -> None:
    """A job re-enters at its own stage with exactly what was known of it."""

    async def main() -> None:
        async with opened() as journal:
            await journal.append(KEY, claim())
            for record in (*ON_THE_WAY[:-2], FAULT):
                await journal.append(KEY, record)
        async with opened() as journal:
            entry = await journal.entry(KEY)
        assert entry is not None
        assert entry.claimed == claim()
        assert entry.claimed.claim.job.timeout == JOB.timeout
        kinds = (entry.waiting, entry.placed, entry.granted, entry.staged, entry.starting, entry.exited, entry.uploaded)
        assert kinds == ON_THE_WAY[:-2]
        assert entry.faulted == FAULT
        assert (entry.stored, entry.settled, entry.state) == (None, None, "storing")

    asyncio.run(main())


def test_the_newest_record_of_a_kind_counts(opened: Opener) -> None:
    """What a job waits for changes; only the last sentence is true."""

    async def main() -> None:
        async with opened() as journal:
            await journal.append(KEY, claim())
            await journal.append(KEY, WaitRecord("first", 1.0))
            await journal.append(KEY, WaitRecord("second", 2.0))
            entry = await journal.entry(KEY)
        assert entry is not None
        assert entry.waiting == WaitRecord("second", 2.0)

    asyncio.run(main())


def test_a_later_attempt_clears_all_but_the_faults(opened: Opener) -> None:
    """A job that made the runner end is remembered as that; all else was the last attempt's."""

    async def main() -> None:
        async with opened() as journal:
            await journal.append(KEY, claim())
            for record in (*ON_THE_WAY[:6], FAULT):
                await journal.append(KEY, record)
            await journal.append(KEY, claim(attempt=2, token="token-2"))
            entry = await journal.entry(KEY)
        assert entry is not None
        assert entry == msgspec.structs.replace(_bare(), claimed=claim(attempt=2, token="token-2"), faulted=FAULT)

    asyncio.run(main())


def test_another_delivery_in_flight_renews_the_claim_alone(opened: Opener) -> None:
    """A running job whose message comes again goes on; only the token is new."""

    async def main() -> None:
        async with opened() as journal:
            await journal.append(KEY, claim())
            await journal.append(KEY, GRANT)
            await journal.append(KEY, claim(token="token-2", at=130.0))
            entry = await journal.entry(KEY)
        assert entry is not None
        assert entry == msgspec.structs.replace(_bare(), claimed=claim(token="token-2", at=130.0), granted=GRANT)

    asyncio.run(main())


@pytest.mark.parametrize("verdict", [Verdict.RELEASE, Verdict.REJECT, None])
def test_a_claim_of_what_left_this_box_begins_afresh(opened: Opener, verdict: Verdict | None) -> None:
    """What was given back, taken from the dead letters or lost to another box comes again with the same attempt."""

    async def main() -> None:
        async with opened() as journal:
            await journal.append(KEY, claim())
            for record in (GRANT, FAULT, exited(), stored(verdict)):
                await journal.append(KEY, record)
            if verdict is not None:
                await journal.append(KEY, SettleRecord(170.0))
            await journal.append(KEY, claim(token="token-2"))
            assert await journal.entry(KEY) == msgspec.structs.replace(
                _bare(), claimed=claim(token="token-2"), faulted=FAULT
            )
            assert len(await journal.in_flight()) == 1
            assert await journal.prune(1e9) == 0

    asyncio.run(main())


def test_in_flight_are_those_neither_settled_nor_lost_oldest_first(opened: Opener) -> None:
    """They re-enter the ring at start, in the order in which they came."""

    async def main() -> None:
        async with opened() as journal:
            for job_id, at in (("late", 300.0), ("early", 100.0), ("settled", 50.0), ("lost", 60.0), ("stored", 200.0)):
                await journal.append(key_of(job_id), claim(job_id, at=at))
            await journal.append(key_of("settled"), stored())
            await journal.append(key_of("settled"), SettleRecord(170.0))
            await journal.append(key_of("lost"), stored(None))
            await journal.append(key_of("stored"), stored())
        async with opened() as journal:
            entries = await journal.in_flight()
        assert [entry.claimed.claim.id for entry in entries] == ["early", "stored", "late"]
        assert {entry.claimed.body for entry in entries} == {BODY}

    asyncio.run(main())


def test_find_knows_the_newest_of_an_id_and_any_key(opened: Opener) -> None:
    """People type an id; the newest job of it is meant, older ones have their keys."""

    async def main() -> None:
        async with opened() as journal:
            for submission, at in (("second", 200.0), ("first", 100.0)):
                await journal.append(key_of("digits", submission), claim(submission=submission, at=at))
            newest, older = await journal.find("digits"), await journal.find(key_of("digits", "first"))
            assert newest is not None
            assert newest.key == key_of("digits", "second")
            assert older is not None
            assert older.claimed.at == 100.0
            assert await journal.find("nosuch") is None
            assert await journal.entry(key_of("nosuch")) is None

    asyncio.run(main())


def test_lists_are_newest_first_limited_and_without_bodies(opened: Opener) -> None:
    """`ps` shows what runs, `ps --all` also what ended; neither shows what a message kept secret."""

    async def main() -> None:
        async with opened() as journal:
            for number in range(5):
                await journal.append(key_of(f"job-{number}"), claim(f"job-{number}", at=float(number)))
            for record in (exited(), stored(), SettleRecord(170.0)):
                await journal.append(key_of("job-3"), record)
            everything = await journal.list(limit=3, ended=True)
            running = await journal.list(limit=3, ended=False)
        assert [entry.claimed.claim.id for entry in everything] == ["job-4", "job-3", "job-2"]
        assert [entry.claimed.claim.id for entry in running] == ["job-4", "job-2", "job-1"]
        assert everything[1].state == "ended"
        assert {entry.claimed.body for entry in everything} == {b""}

    asyncio.run(main())


def test_prune_deletes_what_ended_before_and_nothing_else(opened: Opener) -> None:
    """Retention keeps a box that is left alone from filling up, and never touches what is in flight."""

    async def main() -> None:
        async with opened() as journal:
            for number in range(1200):
                await journal.append(key_of(f"old-{number}"), claim(f"old-{number}"))
                await journal.append(key_of(f"old-{number}"), exited(at=150.0))
                await journal.append(key_of(f"old-{number}"), SettleRecord(500.0))
            for job_id, ended_at in (("new", 400.0), ("running", None), ("lost", 150.0), ("unsettled", 150.0)):
                await journal.append(key_of(job_id), claim(job_id))
                if ended_at is not None:
                    await journal.append(key_of(job_id), exited(at=ended_at))
            await journal.append(key_of("new"), SettleRecord(500.0))
            await journal.append(key_of("lost"), stored(None))
            assert await journal.prune(200.0) == 1201
            assert await journal.prune(200.0) == 0
            left = await journal.list(limit=10, ended=True)
        assert {entry.claimed.claim.id for entry in left} == {"new", "running", "unsettled"}

    asyncio.run(main())


def test_records_that_come_at_once_all_stand(opened: Opener) -> None:
    """Jobs do not wait for each other; each has its own row, in the order of its own records."""

    async def one(journal: Journal, number: int) -> None:
        await journal.append(key_of(f"job-{number}"), claim(f"job-{number}"))
        for disk in range(10):
            await journal.append(key_of(f"job-{number}"), PlaceRecord(disk, 1.0))

    async def main() -> None:
        async with opened() as journal:
            await asyncio.gather(*(one(journal, number) for number in range(50)))
        async with opened() as journal:
            entries = await journal.in_flight()
        assert len(entries) == 50
        assert {entry.placed.disk for entry in entries if entry.placed is not None} == {9}

    asyncio.run(main())


def test_a_record_of_a_job_that_was_never_claimed_is_refused_alone(opened: Opener) -> None:
    """Without its claim an entry means nothing; who comes at the same moment is not harmed."""

    async def main() -> None:
        async with opened() as journal:
            results = await asyncio.gather(
                journal.append(KEY, claim()),
                journal.append(key_of("nosuch"), GRANT),
                journal.append(KEY, GRANT),
                return_exceptions=True,
            )
            entry = await journal.entry(KEY)
        assert results[0] is None
        assert results[2] is None
        assert isinstance(results[1], RunnerError)
        assert key_of("nosuch") in str(results[1])
        assert entry is not None
        assert entry.granted == GRANT

    asyncio.run(main())


def test_closing_twice_is_no_error(opened: Opener) -> None:
    """A stop that is hurried may close again."""

    async def main() -> None:
        async with opened() as journal:
            await journal.append(KEY, claim())
            await journal.close()

    asyncio.run(main())


def test_what_comes_as_it_closes_is_refused(opened: Opener) -> None:
    """A task that outlives the stop gets an error, and touches no file that is being closed."""

    async def main() -> None:
        async with opened() as journal:
            await journal.append(KEY, claim())
            closing = asyncio.ensure_future(journal.close())
            while not closing.done():
                await asyncio.sleep(0)
                with pytest.raises(Unavailable, match="closed"):
                    await journal.append(KEY, WaitRecord("needs 1 GPU", 110.0))
                with pytest.raises(Unavailable, match="closed"):
                    await journal.entry(key_of("another"))
            await closing

    asyncio.run(main())


def _bare() -> JournalEntry:
    return JournalEntry(KEY, claim())
