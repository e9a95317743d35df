"""Figures of the benchmark of queues: medians over turns, what is allowed for, and that rows which lose are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.queue_arrivals import Arrivals, RanTwiceError
from bench.queue_figures import compared, missed, quantile, row_of
from bench.queue_turns import Turn


def turn(ms: float, rate: float) -> Turn:
    """Return one in which all jobs took equally long, but for the last one."""
    return Turn((*[ms] * 98, ms + 1, ms + 2), (*[ms - 0.5] * 98, ms, ms + 1), rate)


def test_a_quantile_is_one_of_the_times() -> None:
    assert [51.0, 100.0] == [quantile([float(each) for each in range(100, 0, -1)], share) for share in (0.5, 0.99)]


def test_a_row_has_medians_over_turns_so_that_one_bad_turn_does_not_show() -> None:
    row = row_of([turn(5, 100), turn(50, 10), turn(6, 90)])
    assert (300, 90, 6, 8, 5.5) == tuple(
        row[name] for name in ("dispatched", "jobs_a_second", "p50_ms", "p99_ms", "after_put_p50_ms")
    )


def test_what_is_not_reached_is_told_with_its_bar() -> None:
    rows = {"ours": row_of([turn(20, 50)]), "bare": row_of([turn(8, 60)]), "arq": row_of([turn(300, 40)])}
    found = compared(rows, allowed_ms=0.0)
    assert {"p99_over_bare_ms": 12, "rate_over_bare": 0.83, "rate_over_arq": 1.25} == found
    assert ["redis: p99_over_bare_ms 12, bar 10"] == missed({"redis": found})
    assert ["redis: rate_over_celery 0.5, bar 1"] == missed({"redis": {"rate_over_celery": 0.5}})


def test_a_claim_is_allowed_for() -> None:
    rows = {"ours": row_of([turn(20, 50)]), "bare": row_of([turn(8, 60)])}
    assert [] == missed({"rabbitmq": compared(rows, allowed_ms=2.5)})


def test_jobs_are_heard_by_the_line_however_they_arrive(tmp_path: Path) -> None:
    async def hear() -> tuple[set[str], set[str]]:
        with told(tmp_path, b"one\ntw", b"o\n=one\n") as arrivals:
            await arrivals.until_begun(["one", "two"], 1.0)
            await arrivals.until_done(["one"], 1.0)
            arrivals.check()
            return set(arrivals.begun_at), arrivals.done

    assert ({"one", "two"}, {"one"}) == asyncio.run(hear())


def test_a_job_that_begins_twice_is_no_measurement(tmp_path: Path) -> None:
    async def hear() -> None:
        with told(tmp_path, b"one\none\ntwo\n") as arrivals:
            await arrivals.until_begun(["two"], 1.0)
            arrivals.check()

    with pytest.raises(RanTwiceError, match="one"):
        asyncio.run(hear())


def test_a_job_that_never_begins_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async def hear() -> None:
        with told(tmp_path, b"one\n") as arrivals:
            await arrivals.until_begun(["one", "two"], 0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(hear())


@contextmanager
def told(directory: Path, *pieces: bytes) -> Iterator[Arrivals]:
    """Open one that is told something, as jobs do."""
    arrivals = Arrivals(directory)
    try:
        with Path(arrivals.fifo).open("wb", buffering=0) as fifo:
            fifo.writelines(pieces)
        yield arrivals
    finally:
        arrivals.close()
