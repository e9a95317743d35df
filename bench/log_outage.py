"""
What a job notices of a sink that is away: a fixed piece of work that prints at a steady rate, beside healthy runs.

A fifth into the work the subscriber or Redis is stopped, or Redis killed, and comes back at three fifths. How long the
work took is by the job's own clock; how long reading paused is by the times of the records of its log.
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from bench.log_box import box
from bench.log_check import Order
from bench.log_children import BenchError, Listening, await_, listening
from bench.log_engine import Runtime
from bench.log_parts import CHANNEL, SETTLED_S, Bench, Contender, Row, check_receipts
from bench.log_redis import OwnRedis
from bench.log_writer import Work

BURSTS_A_SECOND = 100
FROM, UNTIL = 0.2, 0.6
BLOCK = bytes(1 << 16)
CALIBRATION_S = 0.5
STARTED_S = 60.0
JOB = "works"
KINDS = ("healthy", "subscriber_stopped", "redis_stopped", "redis_killed")

Switch = Callable[[], None]


def outage(bench: Bench, runtime: Runtime, redis: OwnRedis, kinds: Iterable[str]) -> dict[str, Contender]:
    """Return the runs of these kinds, which all do the same work."""
    loops = loops_for(bench.sizes.outage_rate)
    return {kind: lambda kind=kind: _run(bench, runtime, redis, kind, loops) for kind in kinds}  # type: ignore[misc]


def loops_for(rate: int) -> int:
    """Return how many blocks a job hashes before each burst, so that it prints at about this rate here."""
    burst_s = _burst(rate) / rate
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < CALIBRATION_S:
        hashlib.sha256(BLOCK)
        count += 1
    return max(1, round(count * burst_s / (time.perf_counter() - began)))


def _burst(rate: int) -> int:
    return max(1, rate // BURSTS_A_SECOND)


def _switches(kind: str, redis: OwnRedis, listener: Listening) -> tuple[Switch, Switch]:
    """Return what takes something away, and what brings it back."""
    match kind:
        case "subscriber_stopped":
            process = listener.process
            return lambda: process.send_signal(signal.SIGSTOP), lambda: process.send_signal(signal.SIGCONT)
        case "redis_stopped":
            return lambda: redis.send(signal.SIGSTOP), lambda: redis.send(signal.SIGCONT)
        case "redis_killed":
            return redis.kill, redis.start
        case _:
            return lambda: None, lambda: None


def _run(bench: Bench, runtime: Runtime, redis: OwnRedis, kind: str, loops: int) -> Row:
    sizes = bench.sizes
    work = Work(sizes.outage_lines, _burst(sizes.outage_rate), 0, loops)
    order = Order(port=bench.port, jobs={JOB: work.count}, stream=CHANNEL)
    lasts_s = work.count / sizes.outage_rate
    with box(bench.directory, runtime, (bench.sink(stream=True),)) as it, listening(order) as listener:
        away, back = _switches(kind, redis, listener)
        it.submit({JOB: work})
        try:
            await_(lambda: any(it.state.glob("spool/*/*")), STARTED_S, "the job prints")
            time.sleep(FROM * lasts_s)
            away()
            time.sleep((UNTIL - FROM) * lasts_s)
        finally:
            back()
        with suppress(BenchError):
            it.watch(listener.has_ended, sizes.limit_s, "every line at the subscriber")
        heard = listener.heard()
        it.await_settled(SETTLED_S)
        check_receipts(it, {JOB: work})
        pauses = it.pauses(JOB)
        return {
            "took_s": it.took_s(JOB),
            "pause_ms": pauses.read_ms,
            "own_pause_ms": pauses.own_ms,
            "lost": heard.lost,
            "again": heard.again,
            "damaged": heard.damaged,
            "caught_up": heard.caught_up,
            "connections": heard.connections,
        }
