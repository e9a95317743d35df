"""How long the reading of a job's output paused, by the times in its log and those in its lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from bench.log_writer import stamp_of
from runner.ports import LogLine


class Pauses(msgspec.Struct, frozen=True):
    """
    The longest time for which something was there to read, and was not; and the longest between two bursts of the job.

    What a job does not write nobody can read, so a pause of its own is none of reading.
    """

    read_ms: float
    own_ms: float


def pauses_of(records: Sequence[LogLine]) -> Pauses:
    """Return those of the records of one stream, in order."""
    read_s = (later_at - max(at, made_at) for (at, _), (later_at, made_at) in pairwise(_timed(records)))
    stamps = [stamp_of(line) for line in b"".join(record.data for record in records).splitlines()]
    own_s = (later - earlier for earlier, later in pairwise(stamps))
    return Pauses(max(read_s, default=0.0) * 1000, max(own_s, default=0.0) * 1000)


def _timed(records: Sequence[LogLine]) -> Iterator[tuple[float, float]]:
    """Yield when each record was read, and when the first line that begins in it was made."""
    begins_line = True
    for record in records:
        begin = 0 if begins_line else record.data.find(b"\n") + 1
        begins_line = record.data.endswith(b"\n")
        if line := record.data[begin:].partition(b"\n")[0]:
            yield record.at_ns / 1e9, stamp_of(line)
