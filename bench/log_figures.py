"""What the rows of all turns come to: medians, ratios within turns, and what missed its bar."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from bench.log_parts import Row

Turn = Mapping[str, Row]
"""What everybody did in one turn, by name; who failed is missing."""

BARS: dict[str, float] = {
    "over_attach_limit": 0.7,
    "over_seeds_one": 10.0,
    "p50_ms": 50.0,
    "p99_ms": 150.0,
    "took_over_healthy": 1.05,
    "pause_ms": 50.0,
    "memory_growth": 1.1,
}
_AT_LEAST = frozenset({"over_attach_limit", "over_seeds_one"})
_WORST = frozenset({"lost", "again", "damaged", "peak_mib", "pause_ms"})
"""Of these the worst of all turns counts."""


def rows_of(turns: Sequence[Turn]) -> dict[str, Row]:
    """Return a row for everybody: medians over the turns, or the worst."""
    who = list(dict.fromkeys(name for turn in turns for name in turn))
    return {name: _row([turn[name] for turn in turns if name in turn]) for name in who}


def _row(rows: Sequence[Row]) -> Row:
    def one(name: str) -> float:
        values = [row[name] for row in rows]
        return round(max(values) if name in _WORST else statistics.median(values), 3)

    return {name: one(name) for name in rows[0]}


def compared(part: str, runtime: str, turns: Sequence[Turn]) -> Row:
    """Return what a part is judged by; nothing where nobody had a turn."""
    match part:
        case "flood":
            return dict(_flood(runtime, turns))
        case "latency":
            return {name: row[name] for row in rows_of(turns).values() for name in ("p50_ms", "p99_ms")}
        case "outage":
            return dict(_outage(turns))
        case _:
            growth = [turn["ours"]["last_third_mib"] / turn["ours"]["first_third_mib"] for turn in turns if turn]
            return {"memory_growth": round(statistics.median(growth), 3)} if growth else {}


def _flood(runtime: str, turns: Sequence[Turn]) -> Iterator[tuple[str, float]]:
    limit = "over_attach_limit" if runtime == "container" else "over_file_limit"
    peers = [(f"limit_{it}", f"{limit}_{it}") for it in ("one", "many")]
    peers += [(f"seeds_{it}", f"over_seeds_{it}") for it in ("one", "many")]
    for peer, name in (*peers, ("published", "over_published_one")):
        ours = f"ours_{name.rpartition('_')[2]}"
        ratios = [it[ours]["lines_a_second"] / it[peer]["lines_a_second"] for it in turns if {ours, peer} <= it.keys()]
        if ratios:
            yield name, round(statistics.median(ratios), 3)


def _outage(turns: Sequence[Turn]) -> Iterator[tuple[str, float]]:
    rows = rows_of(turns)
    for kind, row in rows.items():
        if kind != "healthy" and "healthy" in rows:
            yield f"took_over_healthy_{kind}", round(row["took_s"] / rows["healthy"]["took_s"], 3)
        yield f"pause_ms_{kind}", row["pause_ms"]


def missed(part: str, runtime: str, turns: Sequence[Turn]) -> Iterator[str]:
    """Name each bar that was not reached, and each line that did not come as it should."""
    for name, value in compared(part, runtime, turns).items():
        bar = next((bar for bar in BARS if name.startswith(bar)), None)
        if bar is not None and (value < BARS[bar] if bar in _AT_LEAST else value > BARS[bar]):
            yield f"{part}, {runtime}: {name} is {value:g}, its bar {BARS[bar]:g}"
    for who, row in rows_of(turns).items():
        # What a sink did not answer for before it was killed, it may get twice.
        wrong = ("lost", "damaged") if part == "outage" else ("lost", "again", "damaged")
        yield from (f"{part}, {runtime}, {who}: {row[name]:g} lines {name}" for name in wrong if row.get(name))
