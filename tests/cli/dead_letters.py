"""Queues in which dead letters stand, as a box would have left them."""

import asyncio
from pathlib import Path

from adapters.queues.folder import FolderBroker
from adapters.queues.folder_peek import waiting_messages
from runner.job import Note, PastAttempt, Verdict

AT = 1_000_000.0
JOB = b"""{"id": "digits-1", "name": "digits", "user": "ada", "command": ["python3", "train.py"],
 "env": {"HF_TOKEN": "hunter2"}, "secrets": ["HF_TOKEN"],
 "inputs": [{"path": "d", "url": "https://me:hunter2@h/d"}]}"""
NOTE = Note(faults=5, starts=2, boxes=("box-1", "box-2"), last_reason="gpu_fault",
            history=(PastAttempt("box-1", "gpu_fault", 4.0), PastAttempt("box-2", "gpu_fault", 6.5)))  # fmt: skip


def write_letters(root: Path, *bodies: bytes, note: Note = NOTE, reason: str = "gpu_fault") -> None:
    """Let a queue reject these messages; their submissions are ``aaa…``, ``bbb…`` and so on."""

    async def write() -> None:
        broker = FolderBroker(str(root), box_id="box-1", now=lambda: AT, lease_s=60, single=True)
        queue = await broker.open(root.name)
        for letter, body in zip("abcdef", bodies, strict=False):
            await queue.put(body, job_id="", submission=letter * 24)
            delivery = await queue.fetch(1)
            assert delivery is not None
            await queue.settle(delivery.token, Verdict.REJECT, after_s=0, note=note, reason=reason)
        await queue.close()
        await broker.close()

    asyncio.run(write())


def waiting_bodies(root: Path) -> list[bytes]:
    """Return what waits in a queue."""
    return [message.body() for message in waiting_messages(str(root))]
