"""
What a measured job writes: numbered lines of 100 bytes, each with the wall time at which its burst was made.

It runs on whatever Python 3 stands beside it, also in a container. How long its work took it says on stderr at its end.
"""

from __future__ import annotations

import msgspec

LINE_BYTES = 100
NUMBER = slice(0, 9)
STAMP = slice(10, 27)
TOOK = b"took "
TEXT = """
import hashlib, os, sys, time
count, burst, rate, loops = map(int, sys.argv[1:])
began = time.monotonic()
block = bytes(1 << 16)
for first in range(0, count, burst):
    if rate:
        time.sleep(max(0, began + first / rate - time.monotonic()))
    for _ in range(loops):
        hashlib.sha256(block)
    tail = b" %017.6f " % time.time() + b"x" * 71 + b"\\n"
    left = memoryview(b"".join([b"%09d" % number + tail for number in range(first, min(count, first + burst))]))
    while left:
        left = left[os.write(1, left):]
os.write(2, b"took %.6f\\n" % (time.monotonic() - began))
"""


class Work(msgspec.Struct, frozen=True):
    """
    What one job writes: so many lines, so many at once, at a rate (0: as fast as it can).

    Before each burst it hashes 64 KiB so often: a job that works for its lines. ``cpus`` is what it is granted.
    """

    count: int
    burst: int = 1000
    rate: int = 0
    loops: int = 0
    cpus: float = 1.0

    @property
    def command(self) -> list[str]:
        """The words that write it."""
        return ["python3", "-c", TEXT, *map(str, (self.count, self.burst, self.rate, self.loops))]

    @property
    def bytes(self) -> int:
        """All that it writes to stdout."""
        return self.count * LINE_BYTES


def stamp_of(line: bytes | str) -> float:
    """Return when a line was made, in epoch seconds."""
    return float(line[STAMP])
