"""A folder queue through kills at any instant, and with several processes in it: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from adapters.queues.folder_layout import PARTS
from runner.job import Verdict
from runner.ports import Delivery
from tests.adapters.queues.folder_queues import Clock, folder_queue, standing
from tests.adapters.queues.folder_reader import STOP
from tests.adapters.queues.folder_writer import is_whole
from tests.kill_rounds import writer

# On a busy machine little is done in a round, so there are more of them until every verdict was seen.
ROUNDS, ROUNDS_MAX = 60, 600
EACH_DONE = 5
READERS = 3
MESSAGES = 500


class Ledger:
    """What the killed writers said that they had done, or were about to do."""

    def __init__(self) -> None:
        self.put: set[str] = set()
        self.begun: dict[str, set[str]] = defaultdict(set)
        self.done: dict[str, set[str]] = defaultdict(set)
        # The highest count of attempts in a note that was confirmed, by submission.
        self.attempts: Counter[str] = Counter()

    def add(self, line: str) -> None:
        step, *rest = line.split()
        assert step != "torn", line
        if step == "put":
            self.put.add(rest[0])
            return
        verdict, submission, attempts = rest
        (self.begun if step == "settling" else self.done)[verdict].add(submission)
        if step == "settled":
            self.attempts[submission] = max(self.attempts[submission], int(attempts))

    def least_done(self) -> int:
        """Return how often the rarest verdict was confirmed."""
        return min(len(self.done[verdict]) for verdict in Verdict)


async def everything(root: Path) -> list[Delivery]:
    """Fetch all that can be fetched once every lease lapsed and every delay passed, and acknowledge it."""
    found = []
    async with folder_queue(root, clock=Clock(time.time() + 1e6)) as queue:
        while (delivery := await queue.fetch(0)) is not None:
            found.append(delivery)
            await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")
    return found


@pytest.mark.integration
def test_kills_at_random_instants_lose_and_double_nothing(tmp_path: Path) -> None:
    ledger, root = Ledger(), tmp_path / "queue"
    with writer("tests.adapters.queues.folder_writer") as process:
        for seed in range(ROUNDS_MAX):
            if seed >= ROUNDS and ledger.least_done() >= EACH_DONE:
                break
            for line in process.round(tmp_path, seed):
                ledger.add(line)
            assert [] == [name for name, count in Counter(standing(root)).items() if count > 1], f"seed {seed}"
    found = asyncio.run(everything(root))

    async def dead() -> set[str]:
        async with folder_queue(root) as queue:
            return {row.submission for row in await queue.dead() if row.reason == "because"}

    rejected, waiting = asyncio.run(dead()), {delivery.submission for delivery in found}
    assert len(found) == len(waiting)
    assert all(is_whole(delivery.body) for delivery in found)
    assert set() == ledger.put - waiting - rejected - ledger.begun["ack"], "lost"
    assert set() == ledger.done["ack"] & (waiting | rejected), "settled, and came back"
    assert set() == ledger.done["reject"] - rejected
    late = [d.submission for d in found if d.note.attempts < ledger.attempts[d.submission]]
    assert [] == late, "a confirmed note is gone"
    assert ledger.least_done() >= EACH_DONE, "too little was done to show anything"


@pytest.mark.integration
def test_what_kills_leave_behind_is_swept(tmp_path: Path) -> None:
    """Notes without a message and files that were being written do not add up over the years."""
    root = tmp_path / "queue"
    with writer("tests.adapters.queues.folder_writer") as process:
        for seed in range(10):
            process.round(tmp_path, seed)
    asyncio.run(everything(root))

    async def prune() -> None:
        in_two_days = time.time() + 2 * 86_400
        async with folder_queue(root, now=lambda: in_two_days, clock=Clock(in_two_days)) as queue:
            await queue.prune(in_two_days)

    asyncio.run(prune())
    assert [] == [path for part in PARTS for path in (root / part).iterdir()]


@pytest.mark.integration
def test_three_processes_settle_each_message_once(tmp_path: Path) -> None:
    root = tmp_path / "queue"
    asyncio.run(everything(root))
    command = [sys.executable, "-m", "tests.adapters.queues.folder_reader", str(root)]
    readers = [
        subprocess.Popen([*command, f"box-{number}"], stdout=subprocess.PIPE, text=True) for number in range(READERS)
    ]

    async def put() -> list[str]:
        async with folder_queue(root, box="client") as queue:
            submissions = [await queue.put(b"%d" % number, job_id=f"j{number}") for number in range(MESSAGES)]
            for _ in readers:
                await queue.put(STOP, job_id="stop", priority=-1)
            return submissions

    try:
        submissions = asyncio.run(put())
        outputs = [reader.communicate(timeout=60)[0].split() for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    assert [0] * READERS == [reader.returncode for reader in readers]
    settled = Counter(
        (verdict, name) for output in outputs for verdict, name in zip(output[::2], output[1::2], strict=True)
    )
    expected = Counter((verdict, name) for verdict in ("retry", "ack") for name in submissions)
    assert expected == settled
    assert [] == standing(root)
    assert all(len(output) > 0 for output in outputs), "every process had a share"
