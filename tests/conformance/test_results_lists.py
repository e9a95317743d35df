"""What every result backend keeps beside logs: lists of jobs, archives, uploads, stop marks, and for how long."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

import msgspec
import pytest

from runner.errors import Refused
from runner.receipt import BoxBeat
from tests.conformance.queue_harness import BOX, OTHER_BOX
from tests.conformance.results_harness import AT, KEY, ResultsHarness, end, event, key_of, line, receipt, told

MISSING = "0" * 64


# Lists


def test_jobs_are_listed_newest_first_and_without_the_ended_ones_where_asked(results_harness: ResultsHarness) -> None:
    keys = {name: key_of(name) for name in ("old", "done", "new")}

    async def main() -> None:
        async with results_harness.open() as results:
            for number, (name, key) in enumerate(keys.items()):
                await results.append(key, name, (event("running", number, key=key, job_id=name),), ())
            await results.append(keys["done"], "done", (end(5, key=keys["done"], job_id="done"),), ())
            assert ["new", "done", "old"] == [row.id for row in await results.list(ended=True)]
            assert ["new", "old"] == [row.id for row in await results.list(ended=False)]

    asyncio.run(main())


def test_a_row_tells_what_was_told_last(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results:
            await results.append(KEY, "a", (event("staging", 0), event("running", 3)), [line(0)])
            (row,) = await results.list(ended=False)
            assert ("a", "running", 1, AT + 1003, None) == (
                row.id,
                row.state,
                row.attempt,
                row.started_at,
                row.end_reason,
            )
            await results.append(KEY, "a", (event("ended", 9),), ())
            (row,) = await results.list(ended=False)
            assert ("waiting", 1) == (row.state, row.attempt), "it ended without a reason, so it is tried again"
            await results.append(KEY, "a", (event("waiting", 0, attempt=2),), ())
            (row,) = await results.list(ended=False)
            assert ("waiting", 2, None) == (row.state, row.attempt, row.started_at)

    asyncio.run(main())


def test_a_row_joins_the_receipt_with_what_was_told_since(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results, results_harness.open(OTHER_BOX) as other:
            await results.append(KEY, "a", (event("running", 0),), ())
            await results.put_receipt(receipt(state="waiting"))
            await other.append(KEY, "a", (event("running", 0, attempt=2),), ())
            (row,) = await results.list(ended=False)
            assert ("digits", "ada", "train", "running", 2) == (row.name, row.user, row.queue, row.state, row.attempt)
            assert (None, None) == (row.ended_at, row.exit_code)
            await other.put_receipt(receipt(attempt=2))
            await other.append(KEY, "a", (end(9, attempt=2),), ())
            assert () == await results.list(ended=False)
            (row,) = await results.list(ended=True)
            stored = receipt(attempt=2)
            assert {name: getattr(stored, name) for name in row.__struct_fields__} == msgspec.structs.asdict(row)

    asyncio.run(main())


def test_a_receipt_alone_is_a_job_that_ended(results_harness: ResultsHarness) -> None:
    """The runner may have been killed before its log was sent."""

    async def main() -> None:
        async with results_harness.open() as results:
            await results.put_receipt(receipt())
            assert () == await results.list(ended=False)
            assert ["ended"] == [row.state for row in await results.list(ended=True)]

    asyncio.run(main())


# Archives


def test_an_archive_is_stored_and_replaced(results_harness: ResultsHarness, tmp_path: Path) -> None:
    """What was stored stays when the spool that it came from is deleted."""
    source = tmp_path / "1.log.gz"

    async def main() -> str:
        async with results_harness.open() as results:
            urls = []
            for content in (b"first", b"second", b"second"):
                source.unlink(missing_ok=True)
                source.write_bytes(content)
                urls.append(await results.put_log(KEY, 1, str(source)))
            other = await results.put_log(KEY, 2, str(source))
            source.unlink()
            assert 1 == len(set(urls))
            assert other != urls[0]
            await results.append(KEY, "a", (end(1),), [line(0)])
            assert [line(0), end(1)] == await told(results), "a log archive is none of its records"
        return urls[0]

    assert b"second" == results_harness.content(asyncio.run(main()))


def test_an_archive_is_read_back_by_its_url(results_harness: ResultsHarness, tmp_path: Path) -> None:
    """By a client that has nothing but the receipt; what is not there is refused, and no other file is given."""
    source, target = tmp_path / "1.log.gz", tmp_path / "copy.gz"
    source.write_bytes(b"packed" * 300_000)

    async def main() -> None:
        async with results_harness.open() as results, results_harness.open("") as client:
            url = await results.put_log(KEY, 1, str(source))
            for _ in range(2):
                await client.get_log(url, str(target))
                assert source.read_bytes() == target.read_bytes()
            gone = (url.replace("000001", "000009"), "folder:///etc/passwd", "folder:///x/..%2f..%2fjobs", "")
            for other in gone:
                with pytest.raises(Refused):
                    await client.get_log(other, str(tmp_path / "other"))
        assert not (tmp_path / "other").exists()

    asyncio.run(main())


# Uploads


def test_an_upload_is_found_by_its_content(results_harness: ResultsHarness, tmp_path: Path) -> None:
    source, target = tmp_path / "src.tar", tmp_path / "copy.tar"
    content = b"packed" * 300_000
    source.write_bytes(content)

    async def main() -> None:
        async with results_harness.open("") as client, results_harness.open() as results:
            url = await client.put_upload(str(source))
            assert f"upload:sha256/{hashlib.sha256(content).hexdigest()}" == url
            assert url == await client.put_upload(str(source))
            await results.get_upload(url, str(target))
            assert content == target.read_bytes()

    asyncio.run(main())
    assert {source, target} == {path for path in tmp_path.iterdir() if path.is_file()}, "nothing is left over"


@pytest.mark.parametrize(
    "url",
    [
        f"upload:sha256/{MISSING}",
        "upload:sha256/../../etc/passwd",
        "upload:md5/abc",
        f"upload:sha256/{'A' * 64}",
        "folder:///etc/passwd",
        "",
    ],
)
def test_an_upload_that_is_not_there_is_refused(results_harness: ResultsHarness, tmp_path: Path, url: str) -> None:
    async def main() -> None:
        async with results_harness.open() as results:
            with pytest.raises(Refused):
                await results.get_upload(url, str(tmp_path / "copy"))
            assert not (tmp_path / "copy").exists()

    asyncio.run(main())


def test_a_damaged_upload_is_refused(results_harness: ResultsHarness, tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"packed" * 1000)

    async def main() -> None:
        async with results_harness.open() as results:
            url = await results.put_upload(str(tmp_path / "src"))
            results_harness.damage(url)
            with pytest.raises(Refused, match="damaged"):
                await results.get_upload(url, str(tmp_path / "copy"))
            assert not (tmp_path / "copy").exists()

    asyncio.run(main())


# Stop marks and beats


@pytest.mark.parametrize("job_id", ["a", "../a", "x" * 300, "ü b", "\udcff"])
def test_a_stop_mark_stands_until_it_is_cleared(results_harness: ResultsHarness, job_id: str) -> None:
    async def main() -> None:
        async with results_harness.open("") as client, results_harness.open() as results:
            await client.request_stop(job_id)
            await client.request_stop(job_id)
            await client.request_stop("other")
            assert frozenset({job_id, "other"}) == await results.stops()
            await results.clear_stop(job_id)
            await results.clear_stop(job_id)
            assert frozenset({"other"}) == await client.stops()

    asyncio.run(main())


def test_a_box_gives_signs_of_life(results_harness: ResultsHarness) -> None:
    async def main() -> None:
        async with results_harness.open() as results, results_harness.open(OTHER_BOX) as other:
            for at in (AT, AT + 10):
                await results.beat(BoxBeat(BOX, at, running=("a",)))
            await other.beat(BoxBeat(OTHER_BOX, AT))

    asyncio.run(main())


# Retention


def test_what_ended_before_is_pruned_and_nothing_else(results_harness: ResultsHarness, tmp_path: Path) -> None:
    keys = {name: key_of(name) for name in ("ended long ago", "ended", "runs", "receipt alone")}
    source = tmp_path / "log.gz"
    source.write_bytes(b"x")
    urls: dict[str, str] = {}

    async def main() -> None:
        async with results_harness.open() as results:
            for name, key in keys.items():
                await results.append(key, name, (event("running", 0, key=key, job_id=name),), [line(0)])
                urls[name] = await results.put_log(key, 1, str(source))
            for number, name in enumerate(("ended long ago", "ended")):
                await results.append(keys[name], name, (end(100 * number, key=keys[name], job_id=name),), ())
            await results.put_receipt(receipt("receipt alone", key=keys["receipt alone"], at=AT))
            assert 2 == await results.prune(AT + 1050)
            assert {"ended", "runs"} == {row.id for row in await results.list(ended=True)}
            assert [] == await told(results, "ended long ago")
            assert await results.get("receipt alone") is None
            assert 0 == await results.prune(AT + 1050)
            await results.append(keys["runs"], "runs", (), [line(1)])
            assert 3 == len(await told(results, "runs"))

    asyncio.run(main())
    assert [False, True, True, False] == [results_harness.stands(url) for url in urls.values()]


def test_a_newer_job_of_an_id_outlives_an_older_one(results_harness: ResultsHarness) -> None:
    old, new = key_of("a", "old"), key_of("a", "new")

    async def main() -> None:
        async with results_harness.open() as results:
            for key, at in ((old, 0), (new, 500)):
                await results.append(key, "a", (end(at, key=key),), [line(0)])
            assert 1 == await results.prune(AT + 1100)
            assert [line(0), end(500, key=new)] == await told(results)

    asyncio.run(main())


def test_an_upload_is_kept_while_it_is_used(results_harness: ResultsHarness, tmp_path: Path) -> None:
    (tmp_path / "src").write_bytes(b"x")

    async def main() -> None:
        async with results_harness.open() as results:
            url = await results.put_upload(str(tmp_path / "src"))
            assert 0 == await results.prune(time.time() - 60)
            await results.get_upload(url, str(tmp_path / "copy"))
            assert 1 == await results.prune(time.time() + 60)
            with pytest.raises(Refused):
                await results.get_upload(url, str(tmp_path / "again"))

    asyncio.run(main())
