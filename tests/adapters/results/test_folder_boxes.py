"""Boxes that share a result directory and write into it at the same moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.results.folder import FolderResults
from runner.job import Key
from runner.receipt import Event

KEY = Key("a.key")


def test_boxes_that_tell_of_a_job_at_once_are_all_heard(tmp_path: Path) -> None:
    """Each enters it, into a directory where nothing stands yet, and may replace what another enters it with."""

    async def main() -> None:
        for number in range(100):
            boxes = [FolderResults(str(tmp_path / str(number)), box_id=f"box-{box}") for box in range(4)]
            event = Event(KEY, "a", 1.0, "waiting")
            await asyncio.gather(*(box.append(KEY, "a", (event,), ()) for box in boxes))
            assert ["a"] == [row.id for row in await boxes[0].list(ended=False)]
            for box in boxes:
                await box.close()

    asyncio.run(main())
