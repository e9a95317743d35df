"""
What the jobs of `alone.py` do; the standard library alone, since it is handed to whatever interpreter a job meets.

``loop STEPS``: so many turns of one thread through 32 MiB; how long that took is left in ``figures.json``.
``noise SECONDS`` copies memory for as long, ``sleep SECONDS`` does nothing.
"""

from __future__ import annotations

import json
import sys
import time

DATA_BYTES = 32 << 20


def loop(steps: int) -> int:
    """Compute and read from all over the data, one after the other."""
    data = bytearray(b"\1") * DATA_BYTES
    at = total = 0
    for _ in range(steps):
        at = (at * 1_103_515_245 + 12_345) & (DATA_BYTES - 1)
        total += data[at]
    return total


def noise(seconds: float) -> None:
    """Keep a core and the memory bus busy."""
    source, target = bytearray(b"\1") * DATA_BYTES, bytearray(DATA_BYTES)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        target[:] = source


def main() -> None:
    what, how_much = sys.argv[1:]
    if what != "loop":
        {"noise": noise, "sleep": time.sleep}[what](float(how_much))
        return
    began, cpu_began = time.perf_counter(), time.process_time()
    loop(int(how_much))
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began}
    with open("figures.json", "w", encoding="ascii") as file:
        json.dump(took, file)


if __name__ == "__main__":
    main()
