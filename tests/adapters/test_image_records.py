"""The account of images: survives restarts and other writers, and says what is wrong with its file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.image_records import FileImageRecords
from runner.errors import Unavailable
from runner.ports import BegunPull, ImageRow, LocalImage

A, B = (LocalImage(f"sha256:{letter}", f"sha256:d{letter}", (), 7) for letter in "ab")


def test_what_was_pulled_is_known_to_the_next_life(tmp_path: Path) -> None:
    async def scenario() -> None:
        records = FileImageRecords(str(tmp_path))
        await records.begin("x:1", "sha256:old")
        await records.begin("x:2", "")
        await records.complete("x:1", A, 10.0)
        await records.complete("x:3", B, 11.0)
        await records.abandon("x:2")
        await records.begin("x:4", "")
        await records.use(A.id, 20.0)
        await records.use(A.id, 15.0)
        await records.use("sha256:foreign", 20.0)
        await records.pin("x:3")
        await records.pin("x:3")
        known = await FileImageRecords(str(tmp_path)).known()
        assert known.rows == (
            ImageRow(B.id, "x:3", B.digest, 7, 11.0, 11.0),
            ImageRow(A.id, "x:1", A.digest, 7, 10.0, 20.0),
        )
        assert (known.pins, known.begun) == (frozenset({"x:3"}), (BegunPull("x:4", ""),))
        assert [await records.unpin("x:3") for _ in range(2)] == [True, False]
        await records.forget(B.id)
        assert [row.id for row in (await records.known()).rows] == [A.id]

    asyncio.run(scenario())
    assert (tmp_path / "images.db").stat().st_mode & 0o777 == 0o600


def test_several_may_write_at_once(tmp_path: Path) -> None:
    """A running runner and a command, for instance."""

    async def scenario() -> None:
        writers = [FileImageRecords(str(tmp_path)) for _ in range(8)]
        await asyncio.gather(*(it.pin(f"x:{number}.{turn}") for turn in range(5) for number, it in enumerate(writers)))
        assert len((await writers[0].known()).pins) == 40

    asyncio.run(scenario())


def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "images.db").write_bytes(b"no database" * 100)
    with pytest.raises(Unavailable, match=r"images\.db cannot be used: .*move it away"):
        asyncio.run(FileImageRecords(str(tmp_path)).known())
