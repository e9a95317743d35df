"""
The one subscriber: a process of its own that listens to the channels of all jobs and checks every line.

It reads the wire by itself, so that it is as fast as what it measures. Where its connection breaks it comes back, and
reads from the jobs' streams what it missed. It ends by itself at the last line of the last job; on SIGTERM it tells
what it has until then.
"""

from __future__ import annotations

import math
import signal
import socket
import sys
import time
from array import array
from collections.abc import Iterator

import hiredis
import msgspec

from bench.log_check import Check, Heard, Order

READ_BYTES = 1 << 20
LOOK_AGAIN_S = 0.1
COME_BACK_S = 0.02
READY = "ready"


class Message(msgspec.Struct, frozen=True):
    """What we need of the runner's own message; state changes have none of it."""

    attempt: int = 0
    sequence: int = -1
    stream: str = ""
    text: str = ""


DECODER = msgspec.json.Decoder(Message)


class Connection:
    """A connection to Redis that speaks and hears bytes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5.0)
        self._socket.settimeout(LOOK_AGAIN_S)
        self._reader = hiredis.Reader()

    def call(self, *words: str) -> object:
        """Send a command and wait for its answer."""
        self.send(*words)
        while (answer := self._reader.gets()) is False:
            self._feed()
        return answer

    def send(self, *words: str) -> None:
        self._socket.sendall(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]  # it takes any number

    def answers(self) -> Iterator[object]:
        """Return all that has arrived, after a short wait where there is nothing."""
        self._feed()
        while (answer := self._reader.gets()) is not False:
            yield answer

    def _feed(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return
        if not data:
            raise ConnectionResetError
        self._reader.feed(data)

    def close(self) -> None:
        self._socket.close()


class Subscriber:
    """Listens until all is heard."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._latencies: array[float] | None = array("d") if order.timed else None
        self._checks = {
            order.channel.replace("{id}", job): Check(count, self._latencies) for job, count in order.jobs.items()
        }
        self._jobs = {order.channel.replace("{id}", job): job for job in order.jobs}
        # The place of the last message of each channel, to go on from in its stream.
        self._places: dict[str, str] = dict.fromkeys(self._checks, "0")
        self._messages = self._message_bytes = self._connections = self._caught_up = 0
        self._last_at = 0.0
        self.stopped = False

    def run(self) -> Heard:
        """Listen to the end."""
        while not self._is_done():
            try:
                self._listen()
            except (OSError, hiredis.HiredisError):
                time.sleep(COME_BACK_S)
        return self._heard()

    def _is_done(self) -> bool:
        return self.stopped or all(check.is_done for check in self._checks.values())

    def _listen(self) -> None:
        connection = Connection(self._order.port)
        try:
            connection.send("SUBSCRIBE", *self._checks)
            self._await_confirmed(connection)
            self._connections += 1
            if self._connections == 1:
                print(READY, flush=True)
            elif self._order.stream:
                self._catch_up()
            while not self._is_done():
                for answer in connection.answers():
                    self._take(answer)
        finally:
            connection.close()

    def _await_confirmed(self, connection: Connection) -> None:
        missing = len(self._checks)
        while missing and not self.stopped:
            for answer in connection.answers():
                match answer:
                    case [b"subscribe", *_]:
                        missing -= 1
                    case _:
                        self._take(answer)

    def _catch_up(self) -> None:
        connection = Connection(self._order.port)
        try:
            for channel, check in self._checks.items():
                check.begin_anew()
                stream = self._order.stream.replace("{id}", self._jobs[channel])
                found = connection.call("XRANGE", stream, f"({self._places[channel]}", "+")
                for _, fields in found if isinstance(found, list) else ():
                    self._caught_up += 1
                    self._message(channel, fields[fields.index(b"data") + 1])
        finally:
            connection.close()

    def _take(self, answer: object) -> None:
        match answer:
            case [b"message", bytes(channel), bytes(data)]:
                self._message(channel.decode(), data)
            case _:
                pass

    def _message(self, channel: str, data: bytes) -> None:
        now = time.time()
        self._messages += 1
        self._message_bytes += len(data)
        match self._order.form:
            case "native":
                message = DECODER.decode(data)
                if message.sequence >= 0:
                    self._places[channel] = f"{message.attempt}-{message.sequence + 1}"
                if message.stream == "stdout":
                    self._checks[channel].take(message.text, now)
                    self._last_at = time.time()
            case "line":
                self._checks[channel].take(data.decode() + "\n", now)
                self._last_at = now
            case _:
                pass  # it is dropped

    def _heard(self) -> Heard:
        checks = self._checks.values()
        firsts = [check.first_at for check in checks if check.first_at]
        p50_ms, p99_ms = quantiles(self._latencies) if self._latencies else (0.0, 0.0)
        return Heard(
            lines=sum(check.next - check.lost for check in checks),
            lost=sum(check.lost + max(0, check.count - check.next) for check in checks),
            again=sum(check.again for check in checks),
            damaged=sum(check.damaged for check in checks),
            first_at=min(firsts, default=0.0),
            last_at=self._last_at,
            messages=self._messages,
            message_bytes=self._message_bytes,
            connections=self._connections,
            caught_up=self._caught_up,
            cpu_s=time.process_time(),
            p50_ms=p50_ms,
            p99_ms=p99_ms,
        )


def quantiles(times_ms: array[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile."""
    ordered = sorted(times_ms)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)]


def main() -> None:
    subscriber = Subscriber(msgspec.json.decode(sys.argv[1], type=Order))

    def stop(*_: object) -> None:
        subscriber.stopped = True

    signal.signal(signal.SIGTERM, stop)
    print(msgspec.json.encode(subscriber.run()).decode(), flush=True)
