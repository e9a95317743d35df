"""One attempt, two boxes: a claim lapsed or went back, and the log says what counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.results.folder import FolderResults
from runner.job import Key
from runner.ports import LogLine, Position
from runner.receipt import Event, Receipt

KEY = Key("a.key")


def line(sequence: int, at_ns: int, data: bytes, stream: str = "stdout") -> LogLine:
    return LogLine(1, sequence, at_ns, stream, data)


class Boxes:
    """Two writers of one job, and what a reader sees of it."""

    def __init__(self, root: Path) -> None:
        self.first, self.second = (FolderResults(str(root), box_id=box) for box in ("box-1", "box-2"))
        self.reader = FolderResults(str(root))

    async def write(self, results: FolderResults, *lines: LogLine) -> None:
        await results.append(KEY, "a", (), lines)

    async def told(self) -> list[bytes]:
        return [
            it.data
            for it in [told async for told in self.reader.tail("a", Position(), follow=False)]
            if isinstance(it, LogLine)
        ]

    async def close(self) -> None:
        for results in (self.first, self.second, self.reader):
            await results.close()


def test_the_box_that_began_last_speaks_until_there_is_a_receipt(tmp_path: Path) -> None:
    """The other one lost its claim: a line of each would be nobody's log."""

    async def main() -> None:
        it = Boxes(tmp_path)
        await it.write(it.second, line(0, 50, b"second 1"), line(1, 60, b"second 2"))
        await it.write(it.first, line(0, 10, b"first 1"), line(1, 20, b"first 2"), line(2, 70, b"first 3"))
        assert await it.told() == [b"second 1", b"second 2"]
        await it.first.put_receipt(Receipt("a", state="ended", box="box-1", key=KEY))
        assert await it.told() == [b"first 1", b"first 2", b"first 3"]
        await it.close()

    asyncio.run(main())


def test_what_runners_said_is_told_of_all_boxes(tmp_path: Path) -> None:
    """One gave the job back: its reason stands before what the next one did, and none of its lines hides another's."""

    async def main() -> None:
        it = Boxes(tmp_path)
        given_back = [line(number, 10 + number, b"given back %d" % number, "runner") for number in range(3)]
        await it.write(it.first, *given_back)
        await it.write(it.second, line(0, 50, b"1"), line(1, 51, b"2"))
        assert await it.told() == [b"given back 0", b"given back 1", b"given back 2", b"1", b"2"]
        await it.close()

    asyncio.run(main())


def test_a_receipt_without_a_box_decides_nothing(tmp_path: Path) -> None:
    """Whoever withdraws a waiting job has no log."""

    async def main() -> None:
        it = Boxes(tmp_path)
        await it.write(it.first, line(0, 10, b"first"))
        await it.write(it.second, line(0, 50, b"second"))
        await it.first.put_receipt(Receipt("a", state="ended", key=KEY))
        assert await it.told() == [b"second"]
        await it.close()

    asyncio.run(main())


def test_a_follower_goes_over_to_the_box_that_took_the_job_up(tmp_path: Path) -> None:
    """From its first line, to the end, which is told once."""

    async def main() -> None:
        it = Boxes(tmp_path)
        await it.write(it.first, line(0, 10, b"first 1"))
        following = it.reader.tail("a", Position(), follow=True)
        assert isinstance(told := await anext(following), LogLine)
        assert told.data == b"first 1"
        await it.write(it.second, line(0, 50, b"second 1"))
        await it.write(it.first, line(1, 60, b"first 2"))
        await it.write(it.second, line(1, 61, b"second 2"))
        end = Event(KEY, "a", 1.0, "ended", end_reason="succeeded")
        await it.second.put_receipt(Receipt("a", state="ended", box="box-2", key=KEY))
        await it.second.append(KEY, "a", (end,), ())
        rest = [told async for told in following]
        assert [b"second 1", b"second 2"] == [told.data for told in rest if isinstance(told, LogLine)]
        assert rest[-1] == end
        await it.close()

    asyncio.run(main())


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
