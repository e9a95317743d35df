"""``runner logs --archive``: all that a job wrote, long after the box and its spool are gone."""

import asyncio
import gzip
from pathlib import Path

import pytest

from adapters.results.folder import FolderResults
from runner.job import Key
from runner.receipt import LogAccount, Receipt
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
    """Byte for byte; where its lines are not kept any more, it is said how."""
    ended(tmp_path, gzip.compress(WRITTEN))
    hint = "runner: what x wrote is no longer kept here; its archive has it: runner logs --archive x\n"
    assert Typed(0, "", hint) == logs(tmp_path, "x")
    assert Typed(0, WRITTEN.decode(), "") == logs(tmp_path, "x", "--archive")


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


def test_a_job_that_goes_on_has_none(tmp_path: Path) -> None:
    ended(tmp_path, b"")
    assert "other has no archive of its log: it is waiting" in logs(tmp_path, "other", "--archive").err
    for other in ("-f", "--json"):
        assert 64 == logs(tmp_path, "x", "--archive", other).status
