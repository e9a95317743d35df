"""
The limits beside which the path of a log is measured.

**read to nothing**: a container's attach socket, or the file that a process writes to, read and dropped by a bare loop.
**published**: messages as large as ours, sent by ``redis-benchmark`` to one subscriber that drops them.
"""

from __future__ import annotations

import csv
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bench.log_check import Order
from bench.log_children import BenchError, listening
from bench.log_engine import ANSWER_S, Runtime
from bench.log_sources import Source, source
from bench.log_writer import LINE_BYTES, Work, stamp_of

LOOK_AGAIN_S = 0.0005
PUBLISHED_LEAST_S = 0.5


class Drained(msgspec.Struct, frozen=True):
    """What one source gave: when its first line was made, when its last byte was read, and how many came."""

    first_at: float
    last_at: float
    bytes: int


def read_to_nothing(runtime: Runtime, directory: Path, works: Mapping[str, Work], limit_s: float) -> float:
    """
    Let all write at the same time and drop it; return lines a second of all together.

    Raises:
        BenchError: something is missing, or did not come in time.
    """
    ends = time.monotonic() + limit_s
    with ExitStack() as stack, ThreadPoolExecutor(len(works)) as threads:
        sources = [stack.enter_context(source(runtime, directory, work)) for work in works.values()]
        drained = list(threads.map(lambda it: _drain(it, ends), sources))
    missing = sum(work.bytes for work in works.values()) - sum(it.bytes for it in drained)
    if missing > 0:
        raise BenchError(f"{missing} bytes did not come")
    seconds = max(it.last_at for it in drained) - min(it.first_at for it in drained)
    return sum(work.count for work in works.values()) / seconds


def _drain(it: Source, ends: float) -> Drained:
    first_at = last_at = 0.0
    size_bytes = 0
    for data in it.blocks():
        if time.monotonic() > ends:
            raise BenchError(f"{it.name} was not read in time")
        if not data:
            time.sleep(LOOK_AGAIN_S)
            continue
        first_at = first_at or stamp_of(data[it.header_bytes : it.header_bytes + LINE_BYTES])
        last_at = time.time()
        size_bytes += len(data)
    return Drained(first_at, last_at, size_bytes)


def published(port: int, message_bytes: int, lines_a_message: float) -> float:
    """Return how many lines a second ``redis-benchmark`` publishes in messages of a size, one after another."""
    count = 500
    with listening(Order(port=port, jobs={"published": 1}, form="drop")) as listener:
        while True:
            rps = _benchmark(port, message_bytes, count)
            if count / rps >= PUBLISHED_LEAST_S:
                break
            count *= 4
        listener.heard()
    return rps * lines_a_message


def _benchmark(port: int, message_bytes: int, count: int) -> float:
    words = ["redis-benchmark", "-p", str(port), "-n", str(count), "-c", "1", "--csv", "-x", "PUBLISH", "log:published"]
    said = subprocess.run(
        words, input="x" * message_bytes, capture_output=True, text=True, timeout=ANSWER_S, check=True
    ).stdout
    (row,) = csv.DictReader(said.splitlines())
    return float(row["rps"])
