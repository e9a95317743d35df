"""A job that a box has claimed, and of which it has told nothing yet, is known to every command all the same."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from adapters.queues.folder import FolderBroker
from adapters.results.folder import FolderResults
from runner.job import Key, make_key
from runner.receipt import Event, Receipt
from tests.cli.typed import typed


@pytest.fixture
def claimed(tmp_path: Path) -> tuple[Path, Key]:
    """Return a queue whose one job was claimed by a box that says nothing, and the job's key."""
    root = tmp_path / "q"
    assert typed("submit", "--queue", f"folder://{root}", "--id", "quiet", "--user", "ada", "--", "true").status == 0

    async def claim() -> Key:
        broker = FolderBroker(str(root), box_id="a", now=time.time, lease_s=60, single=True)
        queue = await broker.open("q")
        delivery = await queue.fetch(0)
        assert delivery is not None
        await queue.close()
        await broker.close()
        return make_key(queue.identity, "quiet", delivery.submission)

    return root, asyncio.run(claim())


def told(root: Path, *events: Event, receipt: Receipt | None = None) -> None:
    """Write what a box tells into the queue's result backend."""

    async def write() -> None:
        results = FolderResults(str(root / "results"), box_id="a")
        for event in events:
            await results.append(Key(event.key), event.id, (event,), ())
        if receipt is not None:
            await results.put_receipt(receipt)
        await results.close()

    asyncio.run(write())


def test_it_is_listed_and_shown(claimed: tuple[Path, Key]) -> None:
    """Between a claim and its first word may lie a full disk."""
    root, key = claimed
    (row,) = json.loads(typed("ps", "--queue", f"folder://{root}", "--json").out)
    assert ("quiet", "waiting", "ada") == (row["id"], row["state"], row["user"])
    assert key == json.loads(typed("show", "quiet", "--queue", f"folder://{root}", "--json").out)["key"]
    assert "a box has claimed it" in typed("why", "quiet", "--queue", f"folder://{root}").out
    assert typed("logs", "quiet", "--queue", f"folder://{root}").status == 0


def test_it_is_listed_once_when_its_box_speaks(claimed: tuple[Path, Key]) -> None:
    """What it told counts."""
    root, key = claimed
    told(root, Event(key, "quiet", 1.0, "running", message="on a"))
    (row,) = json.loads(typed("ps", "--queue", f"folder://{root}", "--json").out)
    assert ("quiet", "running") == (row["id"], row["state"])


def test_it_is_cancelled_by_a_mark(claimed: tuple[Path, Key]) -> None:
    """The box reads marks when it renews."""
    root, _ = claimed
    assert "has a stop mark now" in typed("cancel", "quiet", "--queue", f"folder://{root}").out
    assert (root / "results" / "stops" / "quiet").exists()


def test_a_mark_that_comes_too_late_is_taken_back(claimed: tuple[Path, Key]) -> None:
    """It would end the next job of this id."""
    root, key = claimed
    told(root, receipt=Receipt("quiet", queue="q", state="ended", end_reason="succeeded", key=key, ended_at=2.0))
    said = typed("cancel", "quiet", "--queue", f"folder://{root}")
    assert (0, "quiet ended already: succeeded\n") == (said.status, said.out)
    assert list((root / "results" / "stops").iterdir()) == []
    assert json.loads(typed("ps", "--queue", f"folder://{root}", "--json").out) == []


def test_it_is_newer_than_an_ended_job_of_the_same_id(claimed: tuple[Path, Key]) -> None:
    """An id that is submitted again means the new one."""
    root, key = claimed
    old = Key("quiet.0000000000000000")
    told(root, receipt=Receipt("quiet", queue="q", state="ended", end_reason="succeeded", key=old, ended_at=2.0))
    shown = json.loads(typed("show", "quiet", "--queue", f"folder://{root}", "--json").out)
    assert (key, "waiting") == (shown["key"], shown["state"])
