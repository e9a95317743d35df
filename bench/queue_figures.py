"""What turns come to: medians over them, ratios, bars. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.queue_turns import Turn

Row = dict[str, float]
Rows = dict[str, dict[str, Row]]
"""By service and contender."""

P99_OVER_BARE_MS = 10.0
RATE_OVER_PEER = 1.0
PEERS = ("arq", "celery")
BARS = {"p99_over_bare_ms": P99_OVER_BARE_MS, **{f"rate_over_{peer}": RATE_OVER_PEER for peer in PEERS}}


def quantile(times: Sequence[float], share: float) -> float:
    """Return the smallest time that so large a share of all does not exceed."""
    return sorted(times)[min(len(times) - 1, round(share * len(times)))]


def row_of(turns: Sequence[Turn]) -> Row:
    """Return the medians over the turns of one contender."""
    each = [_figures(turn) for turn in turns]
    medians = {name: round(statistics.median(figures[name] for figures in each), 2) for name in each[0]}
    return {"dispatched": sum(turn.dispatched for turn in turns), **medians}


def _figures(turn: Turn) -> Row:
    times = {"p50_ms": (turn.before_put_ms, 0.5), "p99_ms": (turn.before_put_ms, 0.99)}
    times |= {"after_put_p50_ms": (turn.after_put_ms, 0.5), "after_put_p99_ms": (turn.after_put_ms, 0.99)}
    dispatch = {name: quantile(of, share) for name, (of, share) in times.items()}
    return {"jobs_a_second": turn.jobs_a_second, **dispatch, "overtaken": turn.overtaken}


def steps_of(turns: Sequence[Turn]) -> Row:
    """Return the medians over the turns of each step within the runner."""
    return {name: round(statistics.median(turn.steps_ms[name] for turn in turns), 2) for name in turns[0].steps_ms}


def compared(rows: Mapping[str, Row], allowed_ms: float) -> Row:
    """Return how ours is to the others on one service; what it is ``allowed_ms`` for is taken off its p99."""
    ours, bare = rows["ours"], rows["bare"]
    over_ms = ours["p99_ms"] - bare["p99_ms"] - allowed_ms
    ratios = {f"rate_over_{who}": ours["jobs_a_second"] / row["jobs_a_second"] for who, row in rows.items()}
    del ratios["rate_over_ours"]
    return {"p99_over_bare_ms": round(over_ms, 2), **{name: round(ratio, 2) for name, ratio in ratios.items()}}


def missed(compared_on: Mapping[str, Row]) -> list[str]:
    """Say which bars are not reached, and by how much they are not."""
    return [
        f"{kind}: {name} {found[name]:g}, bar {bar:g}"
        for kind, found in compared_on.items()
        for name, bar in BARS.items()
        if name in found and not reaches(name, found[name])
    ]


def reaches(name: str, value: float) -> bool:
    """Tell whether a figure reaches its bar."""
    return value <= BARS[name] if name.endswith("_ms") else value >= BARS[name]


def lines(compared_on: Mapping[str, Row]) -> list[str]:
    """Return for people how ours is to the others."""
    return [
        f"{kind}: ours over the others: " + ", ".join(f"{name} {value:g}" for name, value in found.items())
        for kind, found in compared_on.items()
    ]


def table(rows: Rows) -> str:
    """Return the figures for people."""
    lines = [f"{'queue':9} {'worker':7} {'jobs/s':>8} {'p50 ms':>8} {'p99 ms':>8}  from right before the put"]
    for kind, each in rows.items():
        for who, row in each.items():
            times = f"{row['p50_ms']:8.1f} {row['p99_ms']:8.1f}"
            lines.append(f"{kind:9} {who:7} {row['jobs_a_second']:8.1f} {times}")
    return "\n".join(lines)
