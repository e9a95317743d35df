"""Puts, fetches and settles in a folder queue until it is killed; see ``tests/kill_rounds.py``."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import zlib
from pathlib import Path

import msgspec

from adapters.queues.folder import FolderQueue
from runner.errors import LeaseLost
from runner.job import Verdict
from runner.ports import Delivery
from tests.adapters.queues.folder_queues import folder_queue
from tests.kill_rounds import acknowledge

# Lapses before the next round begins, so that what a killed writer held comes back.
LEASE_S = 0.02
FETCHES_A_PUT = 6


def body_of(number: int) -> bytes:
    """Return a body that tells whether it is whole."""
    content = b"%d " % number + b"x" * (number % 7 * 1000)
    return b"%08x %s" % (zlib.crc32(content), content)


def is_whole(body: bytes) -> bool:
    checksum, _, content = body.partition(b" ")
    return int(checksum, 16) == zlib.crc32(content)


def verdict_of(delivery: Delivery) -> Verdict:
    """Retry each message once and release it once, then acknowledge one half and reject the other."""
    if delivery.note.attempts == 0:
        return Verdict.RETRY
    if delivery.note.releases == 0:
        return Verdict.RELEASE
    return Verdict.REJECT if int(delivery.submission[-1], 16) % 2 else Verdict.ACK


def write(directory: str) -> None:
    """Work in the queue and say each step before and after."""
    asyncio.run(_write(Path(directory) / "queue"))


async def _write(root: Path) -> None:
    async with folder_queue(root, lease_s=LEASE_S) as queue:
        for number in itertools.count():
            submission = await queue.put(body_of(number), job_id=f"job-{number}", priority=number % 3)
            acknowledge(f"put {submission}")
            for _ in range(FETCHES_A_PUT):
                delivery = await queue.fetch(0)
                if delivery is not None:
                    with contextlib.suppress(LeaseLost):
                        await _settle(queue, delivery)


async def _settle(queue: FolderQueue, delivery: Delivery) -> None:
    verdict, note = verdict_of(delivery), delivery.note
    if verdict is Verdict.RETRY:
        note = msgspec.structs.replace(note, attempts=note.attempts + 1)
    if verdict is Verdict.RELEASE:
        note = msgspec.structs.replace(note, releases=note.releases + 1)
    step = f"{verdict} {delivery.submission} {note.attempts}"
    if not is_whole(delivery.body):
        acknowledge(f"torn {step}")
    acknowledge(f"settling {step}")
    delay_s = 0.001 * (note.attempts + note.releases) if verdict in {Verdict.RETRY, Verdict.RELEASE} else 0.0
    await queue.settle(delivery.token, verdict, after_s=delay_s, note=note, reason="because")
    acknowledge(f"settled {step}")
