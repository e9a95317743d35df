"""Records put together to chunks: one message costs as much as hundreds of lines in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.ports import LogLine

CHUNK_BYTES = 64 << 10
_ALONE = frozenset({"gap"})
"""Streams whose records are documents, each for itself."""


def chunks(lines: Sequence[LogLine], limit_bytes: int = CHUNK_BYTES) -> Iterator[LogLine]:
    """
    Yield runs of records of one attempt and stream as one record each, cut at records' borders.

    It has the position of its last record and the time of its first. A larger record is yielded as it is.
    """
    run: list[LogLine] = []
    size_bytes = 0
    for line in lines:
        if run and (size_bytes + len(line.data) > limit_bytes or not _goes_on(run[0], line)):
            yield _joined(run)
            run, size_bytes = [], 0
        run.append(line)
        size_bytes += len(line.data)
    if run:
        yield _joined(run)


def _goes_on(first: LogLine, line: LogLine) -> bool:
    return first.stream == line.stream and first.attempt == line.attempt and first.stream not in _ALONE


def _joined(run: list[LogLine]) -> LogLine:
    if len(run) == 1:
        return run[0]
    first = run[0]
    return LogLine(first.attempt, run[-1].sequence, first.at_ns, first.stream, b"".join([line.data for line in run]))
