"""What Redis keeps of results: for how long, how much, and what a reader is told of the rest."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from adapters.results.redis import Bounds
from adapters.results.redis_follower import TRIMMED
from adapters.results.redis_keys import BEAT_KEPT_S, BEATS_MAX, ENDED_KEPT_S, EVENTS_MAX, KEPT_S, STOPS_MAX
from runner.errors import Refused
from runner.ports import Gap, LogLine, Position
from runner.receipt import BoxBeat, Event, Receipt
from tests.adapters.results.redis_backend import START, end_of, lifetimes, looking, opened, records, told
from tests.conformance.redis_harness import redis_url
from tests.conformance.results_harness import KEY, key_of, receipt, sequences

pytestmark = pytest.mark.broker

OTHER = key_of("b")
NEVER = -1
NOW_NS = 1_800_000_000_000_000_000
TOO_LONG = b"x" * ((1 << 20) + 1)
KINDS = frozenset(
    {"job", "events", "log", "bell", "receipts", "archive", "archives", "id", "jobs", "active", "ended", "expires"}
    | {"upload", "uploads", "stops", "beats", "sizes", "heavy"}
)


@pytest.fixture
def url() -> str:
    return redis_url()


# For how long


def test_every_key_expires(url: str, tmp_path: Path) -> None:
    """A server that is forgotten empties itself; nothing of a backend that did all that it can stays for ever."""
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)

    async def main() -> None:
        async with opened(url) as results:
            for key, job_id in ((KEY, "a"), (OTHER, "b")):
                await results.append(key, job_id, (Event(key, job_id, 1.0, "running"),), records(10))
                await results.put_log(key, 1, str(tmp_path / "file"))
            await results.put_receipt(receipt())
            await results.append(KEY, "a", (end_of(KEY, "a"),), ())
            await results.put_log(KEY, 2, str(tmp_path / "file"))
            await results.get_upload(await results.put_upload(str(tmp_path / "file")), str(tmp_path / "copy"))
            await results.request_stop("a")
            await results.beat(BoxBeat("box-1", 1.0))
            assert {"a", "b"} == {row.id for row in await results.list(ended=True)}

    asyncio.run(main())
    found = lifetimes(url)
    assert set() == {key for key, seconds in found.items() if seconds == NEVER}
    assert set() == {key for key in found if not key.startswith(START)}
    assert KINDS == {key.removeprefix(START).partition(":")[0] for key in found}
    kept = {part: found[f"{START}{part}"] for part in (f"log:{KEY}", f"archive:{KEY}:2", f"log:{OTHER}", "beats")}
    expected = {
        f"log:{KEY}": ENDED_KEPT_S,
        f"archive:{KEY}:2": ENDED_KEPT_S,
        f"log:{OTHER}": KEPT_S,
        "beats": BEAT_KEPT_S,
    }
    assert expected == pytest.approx(kept, abs=60)


def test_what_is_used_is_kept(url: str) -> None:
    """Each news of a job begins its time anew."""

    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (), records(1))
            with looking(url) as database:
                for key in database.scan_iter():
                    database.expire(key, 100)
            await results.append(KEY, "a", (), records(2))

    asyncio.run(main())
    assert set() == {key for key, seconds in lifetimes(url).items() if seconds < KEPT_S - 60 and "bell:a" not in key}


def test_a_job_that_expired_leaves_the_lists(url: str) -> None:
    """Also where the server lost its keys, but not yet what is indexed."""

    async def main() -> None:
        async with opened(url) as results:
            for key, job_id in ((KEY, "a"), (OTHER, "b")):
                await results.append(key, job_id, (Event(key, job_id, 1.0, "running"),), records(1))
            with looking(url) as database:
                database.delete(f"{START}job:{KEY}")
                assert ["b"] == [row.id for row in await results.list(ended=False)]
                assert [] == await told(results, "a")
                database.zadd(f"{START}expires", {KEY: 1})
                await results.append(key_of("c"), "c", (), ())
                assert database.zscore(f"{START}active", KEY) is None
                assert [] == [key for key in database.keys(f"{START}*:{KEY}") if b"bell" not in key]

    asyncio.run(main())


# How much


def test_of_a_long_log_the_newest_part_is_kept_and_the_gap_is_told(url: str) -> None:
    """A reader sees that something is missing, where, and how much; the archive has it all."""
    lines = [msgspec.structs.replace(it, at_ns=NOW_NS + it.at_ns) for it in records(3000, 1000)]

    async def main() -> None:
        async with opened(url, bounds=Bounds(log_bytes=1_000_000)) as results:
            for start in range(0, 3000, 100):
                await results.append(KEY, "a", (), lines[start : start + 100])
            await results.append(KEY, "a", (end_of(KEY, "a"),), ())
            gap, *rest, _ = await told(results, "a")
            assert isinstance(gap, LogLine)
            assert lines[gap.sequence + 1 :] == rest
            assert 800 < len(rest) < 1000
            assert ("gap", 1, lines[gap.sequence].at_ns) == (gap.stream, gap.attempt, gap.at_ns)
            lost = sum(len(line.data) for line in lines[: gap.sequence + 1])
            assert Gap(bytes=lost, reason=TRIMMED) == msgspec.json.decode(gap.data, type=Gap)
            assert rest == (await told(results, "a", Position(1, gap.sequence + 1)))[:-1], "told once"
            with looking(url) as database:
                assert database.memory_usage(f"{START}log:{KEY}", samples=0) < 1_300_000
                assert 900_000 < int(database.hget(f"{START}sizes", "*")) <= 1_000_000

    asyncio.run(main())


def test_what_was_trimmed_is_not_added_again(url: str) -> None:
    """After a restart a runner sends a job's log from the beginning again."""
    lines = records(300, 1000)

    async def main() -> None:
        async with opened(url, bounds=Bounds(log_bytes=100_000)) as results:
            await results.append(KEY, "a", (), lines)
            before = await told(results, "a")
            await results.append(KEY, "a", (), lines)
            assert before == await told(results, "a")
            await results.append(KEY, "a", (), [*lines, LogLine(1, 300, 300, "stdout", b"more")])
            assert (1, 300) == sequences(await told(results, "a"))[-1]

    asyncio.run(main())


def test_a_reader_that_is_overtaken_is_told_so(url: str) -> None:
    """What was trimmed while it read is a gap, too; what follows it comes once and in order."""
    lines = records(3000, 1000)

    async def main() -> None:
        async with opened(url, bounds=Bounds(log_bytes=300_000)) as results:
            await results.append(KEY, "a", (), lines[:200])
            following = results.tail("a", Position(), follow=True)
            first = [await anext(following) for _ in range(200)]
            assert lines[:200] == first
            for start in range(200, 3000, 100):
                await results.append(KEY, "a", (), lines[start : start + 100])
            await results.append(KEY, "a", (end_of(KEY, "a"),), ())
            gap, *rest, _ = [item async for item in following]
            assert isinstance(gap, LogLine)
            assert ("gap", lines[gap.sequence + 1 :]) == (gap.stream, rest)

    asyncio.run(main())


def test_of_all_logs_those_of_the_jobs_that_ended_first_go(url: str, tmp_path: Path) -> None:
    """A queue cannot fill the server's memory; what became of its jobs stays known, and what runs is not touched."""
    keys = {f"job-{number}": key_of(f"job-{number}") for number in range(6)}
    (tmp_path / "log.gz").write_bytes(b"x" * 100_000)

    async def main() -> None:
        async with opened(url, bounds=Bounds(all_bytes=1_000_000)) as results:
            urls = {}
            for number, (job_id, key) in enumerate(keys.items()):
                await results.append(key, job_id, (Event(key, job_id, 0.0, "running"),), records(200, 1000))
                if number:  # the first one runs all the time
                    urls[job_id] = await results.put_log(key, 1, str(tmp_path / "log.gz"))
                    await results.put_receipt(receipt(job_id, key=key, at=100.0 + number))
                    await results.append(key, job_id, (end_of(key, job_id, at=100.0 + number),), ())
            _, gap, end = await told(results, "job-1")
            assert isinstance(gap, LogLine)
            assert (1, 199, "gap", 199) == (gap.attempt, gap.sequence, gap.stream, gap.at_ns)
            assert end_of(keys["job-1"], "job-1", at=101.0) == end
            assert Gap(bytes=201_200, reason=TRIMMED) == msgspec.json.decode(gap.data, type=Gap)
            assert [gap, end] == (await told(results, "job-1", Position(1, 150)))
            assert (await results.get("job-1")) == receipt("job-1", key=keys["job-1"], at=101.0)
            with pytest.raises(Refused, match="there is no such archive any more"):
                await results.get_log(urls["job-1"], str(tmp_path / "copy"))
            for job_id in ("job-0", "job-5"):
                assert records(200, 1000) == (await told(results, job_id))[1:201]
            await results.get_log(urls["job-5"], str(tmp_path / "copy"))
            assert 6 == len(await results.list(ended=True))
            with looking(url) as database:
                assert 600_000 < int(database.hget(f"{START}sizes", "*")) < 1_000_000
                assert 5 == await results.prune(1000.0)
                sizes = database.hgetall(f"{START}sizes")
                assert {b"*", keys["job-0"].encode()} == set(sizes)
                assert sizes[b"*"] == sizes[keys["job-0"].encode()]

    asyncio.run(main())


def test_one_record_larger_than_the_bound_is_kept(url: str) -> None:
    large = LogLine(1, 1, 1, "stdout", os.urandom(3_000_000))

    async def main() -> None:
        async with opened(url, bounds=Bounds(log_bytes=1_000_000)) as results:
            await results.append(KEY, "a", (), [records(1)[0], large])
            gap, kept = await told(results, "a")
            assert isinstance(gap, LogLine)
            assert ((1, 0, "gap"), large) == ((gap.attempt, gap.sequence, gap.stream), kept)

    asyncio.run(main())


def test_events_stop_marks_and_beats_are_bounded(url: str) -> None:
    async def main() -> None:
        async with opened(url) as results:
            events = [Event(KEY, "a", float(number), "waiting") for number in range(2 * EVENTS_MAX)]
            following = results.tail("a", Position(), follow=True)
            for start in range(0, len(events), 500):
                await results.append(KEY, "a", events[start : start + 500], ())
                assert events[start : start + 500] == [await anext(following) for _ in range(500)]
            assert events[-EVENTS_MAX:] == await told(results, "a")
            with looking(url) as database:
                database.zadd(f"{START}stops", {f"old {number}": number for number in range(STOPS_MAX)})
                database.zadd(f"{START}beats:at", {f"old {number}": 1 for number in range(BEATS_MAX)})
            for name in ("a", "b"):
                await results.request_stop(name)
                await results.beat(BoxBeat(name, 5.0))
            assert frozenset({"a", "b"}) == await results.stops(), "marks a month old are taken away"
            assert (BoxBeat("a", 5.0), BoxBeat("b", 5.0)) == await results.beats()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["log", "upload"])
def test_a_file_that_is_too_large_is_refused_in_words_and_leaves_nothing(url: str, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 300 << 20)

    async def main() -> None:
        async with opened(url) as results:
            if kind == "log":
                with pytest.raises(Refused, match=r"more than 64\.0 MiB, the most that is kept in Redis"):
                    await results.put_log(KEY, 1, str(path))
            else:
                with pytest.raises(Refused, match=r"more than 256 MiB.*a store.*\.runnerignore"):
                    await results.put_upload(str(path))

    asyncio.run(main())
    assert {} == lifetimes(url)


def test_an_upload_that_is_given_up_leaves_nothing(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(50_000_000))

    async def main() -> None:
        async with opened(url) as results:
            putting = asyncio.create_task(results.put_upload(str(tmp_path / "file")))
            with looking(url) as database:
                while not database.keys(f"{START}partial:*"):
                    await asyncio.sleep(0)
            putting.cancel()
            await asyncio.gather(putting, return_exceptions=True)
            assert putting.cancelled()

    asyncio.run(main())
    assert {} == lifetimes(url)


def test_what_is_told_again_takes_no_room_and_moves_no_end(url: str) -> None:
    """A box that comes back tells what it knew; the job is kept by its last end."""

    async def main() -> None:
        async with opened(url) as results:
            for at in (200.0, 200.0, 100.0):
                await results.append(KEY, "a", (Event(KEY, "a", 1.0, "running"), end_of(KEY, "a", at=at)), records(3))
            with looking(url) as database:
                assert (3, 1) == (database.llen(f"{START}events:{KEY}"), database.xlen(f"{START}log:{KEY}"))
            assert 0 == await results.prune(150.0)
            assert 1 == await results.prune(250.0)

    asyncio.run(main())


def test_a_receipt_of_an_attempt_left_behind_does_not_hide_the_newest(url: str) -> None:
    """A box that was cut off may store its receipt last."""

    async def main() -> None:
        async with opened(url) as results:
            newest, late = receipt(attempt=10), receipt(attempt=9, state="waiting")
            await results.put_receipt(newest)
            await results.put_receipt(late)
            assert newest == await results.get("a")
            assert [("ended", 10)] == [(row.state, row.attempt) for row in await results.list(ended=True)]

    asyncio.run(main())


# Names


@pytest.mark.parametrize(
    "job_id",
    ["\udcff", "\ud800x", "a}b{c", "*", "a\0b", "\n", "💥" * 200, "{runner:train}:results:jobs", "jobs", "-inf"],
)
def test_any_text_may_be_asked_for(url: str, job_id: str) -> None:
    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (end_of(KEY, "a"),), ())
            assert ([], None) == (await told(results, job_id), await results.get(job_id))
            await results.request_stop(job_id)
            assert frozenset({job_id}) == await results.stops()
            await results.clear_stop(job_id)
            assert frozenset() == await results.stops()

    asyncio.run(main())


@pytest.mark.parametrize("job_id", ["a}b{c", "*", "a\0b", "\n", "💥" * 200, "{runner:train}:results:jobs", "1:box"])
def test_any_text_may_be_an_id(url: str, job_id: str) -> None:
    key = key_of(job_id)

    async def main() -> None:
        async with opened(url, box="ü } box:1") as results:
            await results.append(key, job_id, (end_of(key, job_id),), records(1))
            await results.put_receipt(Receipt(job_id, key=key, state="ended", box="ü } box:1"))
            assert [*records(1), end_of(key, job_id)] == await told(results, job_id)
            assert [job_id] == [row.id for row in await results.list(ended=True)]

    asyncio.run(main())
    assert set() == {key for key in lifetimes(url) if not key.startswith(START)}


def test_queues_do_not_mix(url: str) -> None:
    """Whatever their names are made of."""

    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (end_of(KEY, "a"),), ())
        for name in ("train}:results:", "train:", "TRAIN", "tr\udcffain", ""):
            other = type(results)(url, name)
            assert () == await other.list(ended=True)
            await other.append(OTHER, "b", (), ())
            await other.close()
        async with opened(url) as results:
            assert ["a"] == [row.id for row in await results.list(ended=True)]

    asyncio.run(main())


# What others wrote


@pytest.mark.parametrize("content", [b"\xff", b"{", b'{"more": ' + b"[" * 100_000, b'{"name": "\xff"}'], ids=range(4))
def test_what_nobody_can_read_harms_nothing_else(url: str, content: bytes) -> None:
    """A poller reads marks and receipts before each job: one that it could not read would end it again and again."""

    async def main() -> None:
        async with opened(url) as results:
            for key, job_id in ((KEY, "a"), (OTHER, "b")):
                await results.append(key, job_id, (Event(key, job_id, 1.0, "running"),), records(1))
            await results.put_receipt(receipt())
            await results.request_stop("a")
            await results.beat(BoxBeat("box-1", 1.0))
            with looking(url) as database:
                database.zadd(f"{START}stops", {content: 1.0})
                database.zadd(f"{START}beats:at", {b"odd": 1e11})
                database.hset(f"{START}beats", b"odd", content)
                database.hset(f"{START}receipts:{KEY}", "1", content)
                database.hset(f"{START}job:{KEY}", "row", content)
                database.rpush(f"{START}events:{OTHER}", b"box-1\0" + content)
            assert "a" in await results.stops()
            assert ["box-1"] == [beat.box for beat in await results.beats()]
            assert await results.get("a") is None
            assert {"a", "b"} == {row.id for row in await results.list(ended=True)}
            assert [(1, 0)] == sequences(await told(results, "b"))

    asyncio.run(main())


def test_a_chunk_that_nobody_can_read_is_left_out(url: str) -> None:
    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (), records(1))
            with looking(url) as database:
                ((entry, fields),) = database.xrange(f"{START}log:{KEY}")
                database.delete(f"{START}log:{KEY}")
                database.xadd(f"{START}log:{KEY}", {**fields, b"d": b"\xff" * 100}, id=entry)
            await results.append(KEY, "a", (end_of(KEY, "a"),), records(2)[1:])
            assert [(1, 1)] == sequences(await told(results, "a"))

    asyncio.run(main())


def test_a_chunk_larger_than_any_is_left_out(url: str) -> None:
    """A reader would take all of it into its memory, as many as there are of them at once."""

    async def main() -> None:
        async with opened(url) as results:
            for number in range(3):
                await results.append(KEY, "a", (), records(3)[number : number + 1])
            with looking(url) as database:
                entries = database.xrange(f"{START}log:{KEY}")
                database.delete(f"{START}log:{KEY}")
                large = msgspec.msgpack.encode([[1, 1, "stdout", b"x" * (9 << 20)]])
                for number, (entry, fields) in enumerate(entries):
                    data = {b"d": large} if number == 1 else {}
                    database.xadd(f"{START}log:{KEY}", {**fields, **data}, id=entry)
            assert [(1, 0), (1, 2)] == sequences(await told(results, "a"))

    asyncio.run(main())


@pytest.mark.parametrize(
    "state", [b"", b"odd", b"1 odd odd odd odd odd", b"\xff \xff \xff \xff", b"9" * 5000], ids=range(5)
)
def test_of_a_log_whose_state_is_garbled_the_rest_is_told(url: str, state: bytes) -> None:
    """A reader is any command of anybody who looks at the job."""

    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (Event(KEY, "a", 1.0, "running"),), records(1))
            with looking(url) as database:
                odd = {b"part:1:odd": state, b"part:\xff": state, b"part:x:y": state, b"lost:1:box-1": state}
                database.hset(f"{START}job:{KEY}", mapping={**odd, b"winner:1": state})
            assert [(1, 0)] == sequences(await told(results, "a"))

    asyncio.run(main())


@pytest.mark.parametrize(
    "damage",
    [
        {"pieces": b"odd"},
        {"pieces": b"9" * 5000},
        {"digest": b"\xff"},
        {"0": TOO_LONG, "digest": hashlib.sha256(TOO_LONG).hexdigest().encode()},
    ],
    ids=["count", "long count", "digest", "piece"],
)
def test_an_archive_that_somebody_garbled_is_refused(url: str, tmp_path: Path, damage: dict[str, bytes]) -> None:
    (tmp_path / "log.gz").write_bytes(b"x")

    async def main() -> None:
        async with opened(url) as results:
            archive = await results.put_log(KEY, 1, str(tmp_path / "log.gz"))
            with looking(url) as database:
                database.hset(f"{START}archive:{KEY}:1", mapping=damage)
            with pytest.raises(Refused, match="damaged"):
                await results.get_log(archive, str(tmp_path / "copy"))
            assert not (tmp_path / "copy").exists()

    asyncio.run(main())


def test_of_marks_without_end_the_newest_are_read(url: str) -> None:
    async def main() -> None:
        async with opened(url) as results:
            with looking(url) as database:
                database.zadd(f"{START}stops", {str(number): number for number in range(STOPS_MAX + 5)})
            marks = await results.stops()
            assert (STOPS_MAX, "0" in marks, str(STOPS_MAX + 4) in marks) == (len(marks), False, True)

    asyncio.run(main())
