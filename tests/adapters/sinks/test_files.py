"""Log files: what stands in them, when they are rotated, and what they do not follow."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from adapters.sinks.files import Files, FileSink
from adapters.sinks.urls import sink_url
from runner.errors import ConfigurationError, OutOfSpace
from runner.job import Key
from runner.ports import End, LogLine, Position
from runner.receipt import Event
from tests.adapters.small_disk import small_disk

KEY, OTHER = Key("digits.0123456789abcdef"), Key("digits.fedcba9876543210")
END = End(Event(KEY, "digits", 2.0, "ended", 1, "done", "succeeded", 0))


OPENED: list[FileSink] = []
"""Those of the test that runs."""


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    while OPENED:
        asyncio.run(OPENED.pop().release())


def sink(directory: Path, rest: str) -> FileSink:
    OPENED.append(FileSink(Files.of(sink_url(f"file://{directory}/{rest}"), "train")))
    return OPENED[-1]


def line(sequence: int, data: bytes, stream: str = "stdout") -> LogLine:
    return LogLine(1, sequence, 0, stream, data)


def write(opened: FileSink, *lines: LogLine, key: Key = KEY, job_id: str = "digits") -> None:
    asyncio.run(opened.write(key, job_id, [], lines))


def test_text_has_time_and_stream_before_each_line(tmp_path: Path) -> None:
    """A line that was left unfinished goes on in the next write, unless something else came between."""
    opened = sink(tmp_path, "{id}.log")
    write(opened, line(0, b"one\ntwo\nthr"))
    write(opened, line(1, b"ee\nfo"), line(2, b"bad\n", "stderr"), line(3, b"ur"))
    asyncio.run(opened.close(KEY, "digits", END))
    at = "1970-01-01T00:00:00.000000Z"
    assert (tmp_path / "digits.log").read_text().splitlines() == [
        *(f"{at} stdout {text}" for text in ("one", "two", "three", "fo")),
        f"{at} stderr bad",
        f"{at} stdout ur",
        "1970-01-01T00:00:02.000000Z event succeeded: done",
    ]


def test_a_line_that_an_earlier_life_left_is_ended_first(tmp_path: Path) -> None:
    write(sink(tmp_path, "{id}.log"), line(0, b"one"))
    write(sink(tmp_path, "{id}.log"), line(1, b"two\n"))
    assert 2 == len((tmp_path / "digits.log").read_text().splitlines())


def test_one_file_for_all_says_whose_line_it_is(tmp_path: Path) -> None:
    write(sink(tmp_path, "all.log"), line(0, b"x"))
    write(sink(tmp_path, "all.json?format=json"), line(0, b"x"))
    assert " digits stdout x" in (tmp_path / "all.log").read_text()
    assert "digits" == msgspec.json.decode((tmp_path / "all.json").read_bytes())["id"]


def test_files_are_for_the_owner_and_its_group(tmp_path: Path) -> None:
    write(sink(tmp_path, "{queue}/{id}.log"), line(0, b"x"))
    assert 0o640 == stat.S_IMODE((tmp_path / "train/digits.log").stat().st_mode)


def test_names_of_jobs_lead_nowhere(tmp_path: Path) -> None:
    """An id may hold anything."""
    opened = sink(tmp_path / "logs", "{id}.log")
    for number, job_id in enumerate(("../out", "/etc/passwd", "..", "{key}", "a\nb", "x" * 500)):
        write(opened, line(0, b"x"), key=Key(f"job.{number}"), job_id=job_id)
    assert ["logs"] == [it.name for it in tmp_path.iterdir()]
    assert 6 == len(list((tmp_path / "logs").iterdir()))


@pytest.mark.parametrize("what", ["link", "hard link", "directory", "linked directory"])
def test_no_link_is_followed(tmp_path: Path, what: str) -> None:
    """Whoever may write into the directory could otherwise have any file of the box written to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "digits.log").write_text("kept")
    place = tmp_path / "logs/train"
    place.parent.mkdir()
    if what == "linked directory":
        place.symlink_to(outside)
    else:
        place.mkdir()
    if what == "link":
        (place / "digits.log").symlink_to(outside / "digits.log")
    if what == "hard link":
        (place / "digits.log").hardlink_to(outside / "digits.log")
    if what == "directory":
        (place / "digits.log").mkdir()
    with pytest.raises(ConfigurationError, match=r"logs/train/digits\.log"):
        write(sink(tmp_path / "logs", "{queue}/{id}.log"), line(0, b"x"))
    assert "kept" == (outside / "digits.log").read_text()


def test_full_files_are_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    opened = sink(tmp_path, "{id}.log?rotate=100&keep=2&format=json")
    for number in range(5):
        write(opened, line(number, b"%d" % number * 30))
        assert Position(1, number + 1) == asyncio.run(sink(tmp_path, "{id}.log?format=json").open(KEY, "digits"))
    names = ["digits.log", "digits.log.1", "digits.log.2"]
    assert names == sorted(it.name for it in tmp_path.iterdir())
    assert [4, 3, 2] == [msgspec.json.decode((tmp_path / name).read_bytes())["sequence"] for name in names]


def test_half_a_record_is_taken_away_and_wanted_again(tmp_path: Path) -> None:
    """A kill may leave it."""
    write(sink(tmp_path, "{id}.log?format=json"), line(0, b"one"), line(1, b"two"))
    file = tmp_path / "digits.log"
    whole = file.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        file.write_bytes(whole[:length])
        opened = sink(tmp_path, "{id}.log?format=json")
        assert Position(1, 1) == asyncio.run(opened.open(KEY, "digits"))
        write(opened, line(0, b"one"), line(1, b"two"))
        assert whole == file.read_bytes()


def test_a_job_of_the_same_id_begins_anew(tmp_path: Path) -> None:
    """Its log stands behind that of the earlier one, which ended."""
    opened = sink(tmp_path, "{id}.log?format=json")
    write(opened, line(0, b"one"))
    asyncio.run(opened.close(KEY, "digits", END))
    assert Position(1, 1) == asyncio.run(opened.open(KEY, "digits"))
    assert Position() == asyncio.run(opened.open(OTHER, "digits"))


def test_the_end_stands_once_over_restarts(tmp_path: Path) -> None:
    for rest in ("{id}.log", "{id}.log?format=json"):
        for _ in range(2):
            asyncio.run(sink(tmp_path, rest).close(KEY, "digits", END))
        assert 1 == len((tmp_path / "digits.log").read_text().splitlines())
        (tmp_path / "digits.log").unlink()


@pytest.mark.integration
def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=1m") as disk:
        opened = sink(disk, "{id}.log?format=json")
        write(opened, line(0, b"x"))
        whole = (disk / "digits.log").read_bytes()
        with pytest.raises(OutOfSpace):
            write(opened, line(1, b"y" * (2 << 20)))
        assert whole == (disk / "digits.log").read_bytes()
