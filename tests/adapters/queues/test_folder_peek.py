"""Looking at what waits, without a runner and without leaving a trace."""

import asyncio
import time
from pathlib import Path

from adapters.queues.folder import FolderBroker, FolderQueue
from adapters.queues.folder_peek import claimed_messages, queue_identity, waiting_messages
from runner.job import Note, Verdict


async def _open(root: Path) -> tuple[FolderBroker, FolderQueue]:
    broker = FolderBroker(str(root), box_id="b", now=time.time, lease_s=60, single=True)
    return broker, await broker.open(root.name)


def test_what_waits_is_listed_as_it_would_be_fetched(tmp_path: Path) -> None:
    """Higher priority first, then older; a retry with its time; what a box holds is not listed."""

    async def main() -> str:
        broker, queue = await _open(tmp_path / "q")
        await queue.put(b"held", job_id="held", priority=9)
        await queue.fetch(0)
        await queue.put(b"retried", job_id="retried", priority=9)
        retried = await queue.fetch(0)
        assert retried is not None
        await queue.settle(retried.token, Verdict.RETRY, after_s=600, note=Note(), reason="")
        await queue.put(b"old", job_id="old")
        await queue.put(b"new", job_id="new")
        await queue.put(b"urgent", job_id="urgent", priority=1)
        await queue.close()
        await broker.close()
        return queue.identity

    identity = asyncio.run(main())
    found = waiting_messages(str(tmp_path / "q"))
    assert ["urgent", "old", "new", "retried"] == [message.job for message in found]
    assert [b"urgent", b"old", b"new", b"retried"] == [message.body() for message in found]
    assert [False, False, False, True] == [message.due_at is not None for message in found]
    assert [("held", b"held", None)] == [
        (message.job, message.body(), message.due_at) for message in claimed_messages(str(tmp_path / "q"))
    ]
    assert identity == queue_identity(str(tmp_path / "q"))


def test_a_message_that_a_box_takes_meanwhile_reads_as_empty(tmp_path: Path) -> None:
    """Between listing and reading anything may happen."""

    async def main() -> None:
        broker, queue = await _open(tmp_path / "q")
        await queue.put(b"x", job_id="x")
        (message,) = waiting_messages(str(tmp_path / "q"))
        await queue.fetch(0)
        assert message.body() == b""
        await queue.close()
        await broker.close()

    asyncio.run(main())


def test_where_there_is_no_queue_nothing_waits_and_nothing_is_made(tmp_path: Path) -> None:
    """Who looks leaves no trace."""
    assert waiting_messages(str(tmp_path / "q")) == claimed_messages(str(tmp_path / "q")) == ()
    assert queue_identity(str(tmp_path / "q")) == ""
    assert list(tmp_path.iterdir()) == []
