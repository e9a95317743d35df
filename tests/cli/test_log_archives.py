"""All that a job wrote, long after the box and its spool are gone."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from adapters.results.folder import FolderResults
from adapters.spool import FileSpool
from runner.cli.log_sources import Archives, HealedLog
from runner.errors import Refused
from runner.job import Key
from runner.ports import LogLine, Results
from runner.receipt import Event, LogAccount, Receipt
from tests.cli.typed import Typed, typed

WRITTEN = b"epoch 1\n" * 100_000 + b"done"


def ended(root: Path, packed: bytes, *, url: str | None = None) -> None:
    """Store what a box stores at a job's end: an archive of its log, and the receipt that names it."""
    root.mkdir(exist_ok=True)
    (root / "1.log.gz").write_bytes(packed)
    typed("submit", "--queue", f"folder://{root}/q", "--id", "other", "--", "true")

    async def store() -> None:
        results = FolderResults(str(root / "q" / "results"), box_id="box-1")
        stored = await results.put_log(Key("x.1"), 1, str(root / "1.log.gz"))
        log = LogAccount(100_001, len(WRITTEN), url=stored if url is None else url)
        await results.put_receipt(Receipt("x", key="x.1", state="ended", end_reason="succeeded", log=log))
        await results.close()

    asyncio.run(store())


def logs(root: Path, *words: str) -> Typed:
    return typed("logs", *words, "--queue", f"folder://{root}/q")


def test_the_whole_log_is_printed_from_its_archive(tmp_path: Path) -> None:
    """Byte for byte, without being told that its lines are not kept any more."""
    ended(tmp_path, gzip.compress(WRITTEN))
    assert Typed(0, WRITTEN.decode(), "") == logs(tmp_path, "x")
    assert Typed(0, WRITTEN.decode(), "") == logs(tmp_path, "x", "-f")
    assert Typed(0, WRITTEN.decode(), "") == logs(tmp_path, "x", "--archive")
    assert Typed(0, "epoch 1\nepoch 1\ndone", "") == logs(tmp_path, "x", "--tail", "3")


def test_where_nothing_has_it_any_more_that_is_said(tmp_path: Path) -> None:
    ended(tmp_path, gzip.compress(WRITTEN), url="folder:///etc/nosuch")
    said = logs(tmp_path, "x")
    assert (0, "") == (said.status, said.out)
    assert "what x wrote is no longer kept here, and its archive cannot be had: folder:///etc/nosuch: " in said.err


@pytest.mark.parametrize(
    ("packed", "url", "problem"),
    [
        (b"", "", "x has no archive of its log"),
        (b"no archive", None, "the archive is damaged"),
        (gzip.compress(WRITTEN)[:-100], None, "the archive is damaged"),
        (b"", "folder:///etc/nosuch", "there is no such archive any more"),
    ],
)
def test_an_archive_that_cannot_be_read_is_one_line(
    tmp_path: Path, packed: bytes, url: str | None, problem: str
) -> None:
    """Which one, and why."""
    ended(tmp_path, packed, url=url)
    said = logs(tmp_path, "x", "--archive")
    assert (1, 1) == (said.status, len(said.err.splitlines()))
    assert problem in said.err


def line(sequence: int, data: bytes, attempt: int = 1, stream: str = "stdout") -> LogLine:
    return LogLine(attempt, sequence, 5, stream, data)


@dataclass
class Stored:
    """A result backend as far as logs are read: what it has of one, and archives by attempt."""

    told: tuple[LogLine | Event, ...]
    archives: dict[int, bytes]
    asked: list[int] = field(default_factory=list)

    async def log(self) -> AsyncIterator[LogLine | Event]:
        for one in self.told:
            yield one

    async def get_log(self, url: str, path: str) -> None:
        attempt = int(url.removesuffix(".log.gz").rpartition("~")[2])
        self.asked.append(attempt)
        if attempt not in self.archives:
            raise Refused(f"{url}: there is no such archive any more")
        packed = self.archives[attempt]
        Path(path).write_bytes(packed if packed.startswith(b"\x1f\x8b") else gzip.compress(packed))

    def read(self, attempt: int) -> list[LogLine | Event]:
        """Return what is shown of a job whose last attempt with a receipt is this one."""
        log = LogAccount(url=f"redis://q#log/x.1~{attempt:06d}.log.gz")
        receipt = Receipt("x", state="ended", attempt=attempt, log=log)

        async def main() -> list[LogLine | Event]:
            healed = HealedLog(self.log(), Archives(cast("Results", self), receipt))
            return [told async for told in healed.read()]

        return asyncio.run(main())


END = Event("x.1", "x", 9.0, "ended", end_reason="succeeded")
GAP = b'{"bytes":10}'


def data(told: list[LogLine | Event]) -> list[bytes]:
    return [one.data for one in told if isinstance(one, LogLine)]


def test_what_a_result_backend_has_is_not_read_again() -> None:
    """Archives may be large. What stands between the records are state changes."""
    told = (line(0, b"a"), line(2, b"b"), line(0, b"c", 2), END)
    stored = Stored(told, {1: b"A", 2: b"C"})
    assert list(told) == stored.read(2)
    assert [] == stored.asked


def test_where_the_oldest_is_trimmed_the_archive_tells_the_whole_attempt() -> None:
    """Nothing is told twice, and the end is told last."""
    stored = Stored((line(70, GAP, stream="gap"), line(71, b"late"), line(72, b"r", stream="runner"), END), {1: b"all"})
    told = stored.read(1)
    assert ([b"all"], END) == (data(told[:1]), told[-1])
    assert GAP not in data(told)


def sealed(directory: Path, *written: tuple[str, bytes]) -> bytes:
    """Return the archive of a log as a box makes it."""

    async def seal() -> str:
        spool = FileSpool(str(directory), lambda: 5)
        for stream, text in written:
            await spool.append(Key("x.1"), 1, stream, text)
        seal = await spool.seal(Key("x.1"), 1)
        await spool.close()
        return seal.archive

    return Path(asyncio.run(seal())).read_bytes()


def test_an_archive_gives_back_what_was_trimmed_with_streams_and_times(tmp_path: Path) -> None:
    """Also where a reader has the beginning already: nothing twice, nothing left out."""
    written = (("stdout", b"a\n"), ("event", b"{}"), ("runner", b"r\n"), ("stderr", b"b\n"), ("stdout", b"c"))
    whole = [line(at, text, stream=stream) for at, (stream, text) in enumerate(written) if stream != "event"]
    packed = sealed(tmp_path / "spool", *written)
    gap = line(3, GAP, stream="gap")
    for told in ((gap, whole[-1]), (whole[0], gap, whole[-1])):
        assert [*whole, END] == Stored((*told, END), {1: packed}).read(1)
    assert whole == Stored(tuple(whole[:2]), {1: packed}).read(1)


def test_an_archive_that_does_not_say_where_records_begin_is_read_whole_or_not_at_all() -> None:
    """Those of earlier versions; what is read is stdout without times."""
    told = (line(0, b"a"), line(70, GAP, stream="gap"), line(71, b"late"), END)
    assert list(told) == Stored(told, {1: b"x" * 200_000}).read(1)


def test_without_an_archive_the_gap_stays() -> None:
    told = (line(70, GAP, stream="gap"), line(71, b"late"), END)
    assert list(told) == Stored(told, {}).read(1)


def test_attempts_that_nobody_told_of_are_read_in_order() -> None:
    """Each attempt's archive has a name of its own."""
    second, third = (Event("x.1", "x", 2.0, "running", attempt) for attempt in (2, 3))
    stored = Stored((second, line(3, b"two", 2), third, END), {1: b"one", 2: b"never", 3: b"three"})
    told = stored.read(3)
    assert [b"one", b"two", b"three"] == data(told)
    assert [1, 3, 5] == [told.index(event) for event in (second, third, END)]


def test_what_a_box_did_not_send_of_a_job_that_ended_is_read() -> None:
    """It stored receipt and archive, and went."""
    stored = Stored((), {1: b"one", 2: b"two"})
    assert [b"one", b"two"] == data(stored.read(2))


def test_a_job_that_goes_on_has_none(tmp_path: Path) -> None:
    ended(tmp_path, b"")
    assert "other has no archive of its log: it is waiting" in logs(tmp_path, "other", "--archive").err
    for other in (("-f",), ("--json",), ("--tail", "3"), ("--since", "1m"), ("--stream", "stdout"), ("--timestamps",)):
        assert 64 == logs(tmp_path, "x", "--archive", *other).status
    assert 64 == logs(tmp_path, "x", "--json", "--timestamps").status
