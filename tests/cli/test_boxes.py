"""``runner boxes``, and what ``why`` says of them: the signs of life in a queue's result backend, from any machine."""

import asyncio
import json
import re
import time
from pathlib import Path

import msgspec
import pytest

from adapters.results.folder import FolderResults
from runner.cli.books import ordinal
from runner.receipt import BoxBeat, GpuRow
from tests.cli.typed import Typed, typed

GOLDEN = Path(__file__).parent / "golden" / "boxes.json"
GPUS = (
    GpuRow(0, "GPU-a", "H200", 128 << 30, job="digits-1"),
    GpuRow(1, "GPU-b", "H200", 128 << 30),
    GpuRow(2, "GPU-c", "H200", 128 << 30, job=""),
    GpuRow(3, "GPU-d", "H100", 80 << 30, health="lost", reason="fell off the bus"),
)
BUSY = BoxBeat("box-1", 0.0, GPUS, ("digits-1",), "gpu-east", 64, 61.5, 256 << 30, 192 << 30, others=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a queue that two boxes serve, one of which was not heard of for a while."""
    assert typed("submit", "--queue", f"folder://{tmp_path}/q", "--id", "first", "--", "true").status == 0
    now = time.time()
    beat(tmp_path / "q", BoxBeat("box-2", now - 45, host="gpu-west", cores=8, cores_free=8.0))
    beat(tmp_path / "q", msgspec.structs.replace(BUSY, at=now - 3))
    return tmp_path / "q"


def beat(root: Path, sign: BoxBeat) -> None:
    """Give a sign of life as a box does."""

    async def write() -> None:
        results = FolderResults(str(root / "results"), box_id=sign.box)
        await results.beat(sign)
        await results.close()

    asyncio.run(write())


def boxes(root: Path, *words: object) -> Typed:
    return typed("boxes", "--queue", f"folder://{root}", *words)


def test_json_is_as_agreed(root: Path) -> None:
    """Other programs lean on every name; write ``golden/boxes.json`` again only with a reason for them."""
    said = json.loads(boxes(root, "--json").out)
    for box, age in zip(said, (3, 45), strict=True):
        assert (box.pop("age"), time.time() - box.pop("at")) == pytest.approx((age, age), abs=30)
    assert json.loads(GOLDEN.read_text()) == said


def test_a_line_says_what_is_free_and_what_runs(root: Path) -> None:
    """Seen last first; a card is free that works and that nobody has, whoever's job has it."""
    lines = boxes(root).out.splitlines()
    assert ["BOX", "SEEN", "STATE", "GPUS", "FREE"] == lines[0].split()[:5]
    name, seen, *cells = re.split(r"\s{2,}", lines[1])
    assert ("gpu-east", True) == (name, seen.endswith("s ago"))
    assert ["alive", "4", "1", "64", "61.5", "256 GiB", "192 GiB"] == cells[:7]
    assert ["digits-1 and 1 of other queues", "3 H200, 1 H100", "box-1"] == cells[7:]


def test_a_box_that_was_not_heard_of_for_thirty_seconds_is_shown_as_such(root: Path) -> None:
    """It may have burned down; its jobs come back by their leases."""
    states = {row["host"]: row["state"] for row in json.loads(boxes(root, "--json").out)}
    assert {"gpu-east": "alive", "gpu-west": "silent"} == states
    assert "silent" in boxes(root).out.splitlines()[2]


def test_a_queue_that_no_box_served_says_so(tmp_path: Path) -> None:
    """An empty table on standard output, and why on the other."""
    typed("submit", "--queue", f"folder://{tmp_path}/q", "--", "true")
    said = boxes(tmp_path / "q")
    assert (0, "runner: no box has given a sign of life within a day\n") == (said.status, said.err)
    assert Typed(0, "[]\n", "") == boxes(tmp_path / "q", "--json")
    assert 1 == boxes(tmp_path / "nosuch").status


def test_a_box_that_runs_jobs_of_other_queues_alone_says_how_many(root: Path) -> None:
    beat(root, msgspec.structs.replace(BUSY, at=time.time(), running=(), others=2))
    assert "2 of other queues" == re.split(r"\s{2,}", boxes(root).out.splitlines()[1])[9]


@pytest.mark.parametrize(
    ("number", "written"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (21, "21st"),
     (111, "111th"), (1002, "1002nd")],
)  # fmt: skip
def test_places_are_written_as_people_do(number: int, written: str) -> None:
    assert written == ordinal(number)


@pytest.mark.parametrize(("alive", "sentence"), [(0, "no box has given a sign of life within 30 s"),
                                                  (1, "the one box has not taken it yet"),
                                                  (2, "none of 2 boxes has taken it yet")])  # fmt: skip
def test_why_tells_the_place_in_the_line_and_which_boxes_there_are(tmp_path: Path, alive: int, sentence: str) -> None:
    """A job that waits beside no box waits for a person."""
    for name in ("a", "b", "c"):
        typed("submit", "--queue", f"folder://{tmp_path}/train", "--id", name, "--", "true")
    typed("submit", "--queue", f"folder://{tmp_path}/train", "--id", "urgent", "--priority", "9", "--", "true")
    for number in range(alive):
        beat(tmp_path / "train", BoxBeat(f"box-{number}", time.time()))
    beat(tmp_path / "train", BoxBeat("box-9", time.time() - 40))
    places = {"urgent": "1st", "a": "2nd", "b": "3rd", "c": "4th"}
    for job, place in places.items():
        why = json.loads(typed("why", job, "--queue", f"folder://{tmp_path}/train", "--json").out)
        assert f"{place} of 4 waiting in train; {sentence}" == why["sentence"]


def test_without_a_queue_it_is_the_box_s_own(tmp_path: Path) -> None:
    """A box that never ran has no sign of life, and is not made by looking."""
    assert Typed(0, "[]\n", "") == typed("boxes", "--json", "--state-dir", tmp_path / "s")
    assert not (tmp_path / "s").exists()
    beat(tmp_path / "s" / "queue", BUSY)
    beat(tmp_path / "s" / "queue", BoxBeat("box-1", time.time(), host="here"))
    assert ["here"] == [row["host"] for row in json.loads(typed("boxes", "--json", "--state-dir", tmp_path / "s").out)]
