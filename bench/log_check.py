"""Whether the lines of a job all arrive, each once and in order, and how long they took."""

from __future__ import annotations

from array import array

import msgspec

from bench.log_writer import LINE_BYTES, NUMBER, stamp_of


class Order(msgspec.Struct, frozen=True):
    """
    What a subscriber shall listen to: jobs by id with how many lines each writes, on channels that are called for them.

    ``form``: ``native`` are the runner's own messages, ``line`` is one line a message, ``drop`` counts messages alone.
    ``timed`` keeps how long each line took. ``stream`` is where messages stand that were missed.
    """

    port: int
    jobs: dict[str, int]
    form: str = "native"
    timed: bool = False
    stream: str = ""
    channel: str = "log:{id}"


class Heard(msgspec.Struct, frozen=True):
    """What a subscriber heard of all jobs; times in epoch seconds."""

    lines: int
    lost: int = 0
    again: int = 0
    damaged: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    messages: int = 0
    message_bytes: int = 0
    connections: int = 1
    caught_up: int = 0
    cpu_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def lines_a_second(self) -> float:
        """From the first line made to the last one heard."""
        return self.lines / (self.last_at - self.first_at)

    @property
    def is_whole(self) -> bool:
        """Whether every line came once, in order."""
        return not (self.lost or self.again or self.damaged)


class Check:
    """The lines of one job."""

    def __init__(self, count: int, latencies: array[float] | None) -> None:
        self.count, self._latencies = count, latencies
        # The number of the line that must be next; so many were skipped, came before already, are not as written.
        self.next = self.lost = self.again = self.damaged = 0
        self.first_at = 0.0
        self._tail = ""

    @property
    def is_done(self) -> bool:
        """Whether the last line was heard."""
        return self.next >= self.count

    def take(self, text: str, now: float) -> None:
        """Take in what one message has of stdout."""
        lines = (self._tail + text).split("\n")
        self._tail = lines.pop()
        if not lines:
            return
        self.first_at = self.first_at or stamp_of(lines[0])
        self.damaged += sum(len(line) != LINE_BYTES - 1 for line in lines)
        numbers = [int(line[NUMBER]) for line in lines]
        if numbers == list(range(self.next, self.next + len(lines))):
            self.next += len(lines)
        else:
            self._sort_out(numbers)
        if self._latencies is not None:
            self._latencies.extend((now - stamp_of(line)) * 1000 for line in lines)

    def _sort_out(self, numbers: list[int]) -> None:
        for number in numbers:
            if number < self.next:
                self.again += 1
            else:
                self.lost += number - self.next
                self.next = number + 1

    def begin_anew(self) -> None:
        """Forget a line whose end did not come over the connection that broke."""
        self._tail = ""
