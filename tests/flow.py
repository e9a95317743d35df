"""
A job that writes 50,000 numbered lines a second while its runner is killed again and again, and what must come of it.

Lines are of every length from 9 to 106 bytes, so that no block, chunk or frame ends where one of them does for long.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runner.ports import LogLine, Position, Queue, Results
from runner.receipt import Event, Receipt
from tests.at_work import AtWork, end_orphans, until
from tests.chaos.cast import Engines
from tests.shared_queue import SharedQueue

RATE = 50_000
SECONDS = 5
LINES = RATE * SECONDS
KILLS = 4
LIFE_MOST_S = 0.7
READ_MOST_S = 3.0
LOOK_S = 0.002
END_MOST_S = 60.0
JOB_ID = "flows"
FORMAT = "%08d%s\\n"
JOB = f"""
import os, sys, time
count, rate = map(int, sys.argv[1:])
began = time.monotonic()
for first in range(0, count, rate // 100):
    time.sleep(max(0, began + first / rate - time.monotonic()))
    lines = range(first, min(count, first + rate // 100))
    left = memoryview("".join(["{FORMAT}" % (number, "x" * (number % 97)) for number in lines]).encode())
    while left:
        left = left[os.write(1, left):]
"""


def written(count: int = LINES) -> bytes:
    """Return what the job writes."""
    return "".join(f"{number:08d}{'x' * (number % 97)}\n" for number in range(count)).encode()


def command(count: int = LINES, rate: int = RATE) -> list[str]:
    return ["python3", "-c", JOB, str(count), str(rate)]


class Runtime(ABC):
    """What runs the job; ``options`` are for the runner, ``fields`` for the job."""

    name: str
    options: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    @abstractmethod
    def clear(self, shared: SharedQueue) -> None:
        """End what is left."""


class Processes(Runtime):
    """Processes of this machine."""

    name = "process"

    def clear(self, shared: SharedQueue) -> None:
        end_orphans(shared.directory)


class Containers(Runtime):
    """Containers of the engine that this run has."""

    name = "container"

    def __init__(self, url: str = "", image: str = "") -> None:
        url = url or os.environ["RUNNER_TEST_DOCKER"]
        self.options = ("--docker-host", url)
        self.fields = (("image", image or os.environ["RUNNER_TEST_IMAGE_PYTHON"]),)

    def clear(self, shared: SharedQueue) -> None:
        engines = Engines(shared)
        engines.starts()
        engines.clear()


class Told(msgspec.Struct, frozen=True):
    """What a result backend tells of one job: its output, how often it ended, its receipt, and its archive unpacked."""

    output: bytes
    ends: int
    receipt: Receipt
    archive: bytes


class Flowed(msgspec.Struct, frozen=True):
    """One round: how many kills came while it wrote, and all that is wrong; nothing where nothing is."""

    seed: int
    kills: int
    wrong: tuple[str, ...]


def play(shared: SharedQueue, runtime: Runtime, seed: int, *, kills: int = KILLS, seconds: int = SECONDS) -> Flowed:
    """Play one round on a folder queue of its own."""
    seeded, in_flow, count = random.Random(seed), 0, RATE * seconds
    shared.submit({JOB_ID: command(count)}, **dict(runtime.fields))
    try:
        for _ in range(kills):
            with shared.box("box", *runtime.options) as box:
                _live(box, seeded)
                in_flow += is_writing(box)
        with shared.box("box", *runtime.options) as last:
            until(shared.ended, f"seed {seed}: it ended", END_MOST_S)
            until(lambda: told_of(shared, JOB_ID).ends, f"seed {seed}: its end is told", END_MOST_S)
            last.stop()
        wrong = tuple(faults(shared, JOB_ID, written(count)))
    except AssertionError as error:
        wrong = (str(error),)
    finally:
        runtime.clear(shared)
    return Flowed(seed, in_flow, wrong)


def _live(box: AtWork, seeded: random.Random) -> None:
    """Return at a random instant, in two of three lives after more of the log was read."""
    if seeded.random() < 2 / 3:
        before, ends = spooled_bytes(box), time.monotonic() + READ_MOST_S
        while spooled_bytes(box) == before and time.monotonic() < ends:
            threading.Event().wait(LOOK_S)
    threading.Event().wait(seeded.uniform(0.0, LIFE_MOST_S))


def spooled_bytes(box: AtWork) -> int:
    """Measure what a runner keeps of logs."""
    return sum(path.stat().st_size for path in box.state.glob("spool/*/*"))


def is_writing(box: AtWork) -> bool:
    """Tell whether a job has a log that is not complete."""
    return any(True for _ in box.state.glob("spool/*/*")) and not any(box.state.glob("spool/*/*.log.gz"))


def faults(shared: SharedQueue, job_id: str, expected: bytes) -> Iterator[str]:
    """Name all that is not as it must be after one attempt that wrote this."""
    told = told_of(shared, job_id)
    log, digest = told.receipt.log, f"sha256:{hashlib.sha256(expected).hexdigest()}"
    if (told.receipt.end_reason, told.receipt.attempt, told.receipt.verdict) != ("succeeded", 1, "ack"):
        yield f"it ended otherwise: {told.receipt}"
    if (log.sha256, log.bytes, log.lines, log.gaps) != (digest, len(expected), expected.count(b"\n"), 0):
        yield f"its receipt has another log: {log}, where {len(expected)} bytes of {digest} were written"
    yield from (f"{name}: {told}" for name, told in differences(expected, archive=told.archive, sink=told.output))
    if told.ends != 1:
        yield f"it was told to end {told.ends} times"
    if (receipts := list((shared.directory / shared.name / "results").rglob("*receipt*"))) and len(receipts) != 1:
        yield f"it has {len(receipts)} receipts"
    if shared.depth():
        yield f"{shared.depth()} messages are left"


def differences(expected: bytes, **found: bytes) -> Iterator[tuple[str, str]]:
    """Say where what was found begins to differ."""
    for name, data in found.items():
        if data != expected:
            pairs = enumerate(zip(expected, data, strict=False))
            at = next((at for at, (one, other) in pairs if one != other), min(len(expected), len(data)))
            around = f"{data[max(0, at - 60) : at + 60]!r} instead of {expected[max(0, at - 60) : at + 60]!r}"
            yield name, f"{len(data)} bytes instead of {len(expected)}; from byte {at} on {around}"


def told_of(shared: SharedQueue, job_id: str) -> Told:
    """Ask the result backend of a job that ended."""

    async def ask(_: Queue, results: Results) -> Told:
        receipt = await results.get(job_id)
        assert receipt is not None, f"{job_id} has no receipt"
        archive = shared.directory / "archive.gz"
        await results.get_log(receipt.log.url, str(archive))
        said = [told async for told in results.tail(job_id, Position(), follow=False)]
        output = b"".join(it.data for it in said if isinstance(it, LogLine) and it.stream in {"stdout", "stderr"})
        ends = sum(isinstance(it, Event) and it.end_reason is not None for it in said)
        return Told(output, ends, receipt, gzip.decompress(Path(archive).read_bytes()))

    return shared.ask(ask)
