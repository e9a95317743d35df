"""A folder queue with twelve thousand messages: fetching stays quick, and what is urgent is not overlooked."""

from __future__ import annotations

import asyncio
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.queues.folder_names import name_message
from runner.job import Note, Verdict
from tests.adapters.queues.folder_queues import folder_queue

MESSAGES = 12_000
TAKEN = 200


def fill(ready: Path) -> None:
    """Put messages as the queue itself does, but without waiting for the disk."""
    for number in range(MESSAGES):
        name = name_message(priority=0, at=1e9 + number, submission=f"{number:024x}", user="", job_id=f"j{number}")
        (ready / name).write_bytes(b"%d" % number)


@contextmanager
def listings() -> Iterator[list[object]]:
    """Note the directories that are listed meanwhile, as the interpreter tells its auditors."""
    listed, is_open = list[object](), True

    def hear(event: str, args: tuple[object, ...]) -> None:
        # It cannot be taken off again.
        if is_open and event == "os.listdir":
            listed.append(args[0])

    sys.addaudithook(hear)
    try:
        yield listed
    finally:
        is_open = False


@pytest.mark.slow
def test_a_long_queue_is_not_listed_for_every_message(tmp_path: Path) -> None:
    """Reading the directory takes 10 ms, a fetch 0.2; it is read again in a twentieth of the time at most."""

    async def main(listed: list[object]) -> None:
        async with folder_queue(tmp_path / "queue") as queue, folder_queue(tmp_path / "queue", box="box-2") as other:
            fill(tmp_path / "queue" / "ready")
            for number in range(TAKEN):
                delivery = await queue.fetch(0)
                assert delivery is not None
                assert b"%d" % number == delivery.body
                await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=Note(), reason="")
            assert 0 < listed.count(str(tmp_path / "queue" / "ready")) < TAKEN / 10
            assert MESSAGES - TAKEN == await queue.depth()
            await other.put(b"urgent", job_id="urgent", priority=1)
            began = time.monotonic()
            while (delivery := await queue.fetch(0)) is not None and delivery.body != b"urgent":
                assert time.monotonic() - began < 10, "what another box put is overlooked"
            assert delivery is not None

    with listings() as listed:
        asyncio.run(main(listed))


def test_who_only_puts_keeps_nothing_of_it(tmp_path: Path) -> None:
    """A name takes some 110 bytes, so 500 that were kept would be 55 KiB."""

    async def main() -> int:
        async with folder_queue(tmp_path / "queue") as queue:
            held = list[int]()
            for first in (0, 500):
                for number in range(first, first + 500):
                    await queue.put(b"{}", job_id=f"job-{number}")
                held.append(tracemalloc.get_traced_memory()[0])
            return held[1] - held[0]

    tracemalloc.start()
    try:
        assert asyncio.run(main()) < 20_000
    finally:
        tracemalloc.stop()
