"""
Logs in files, one a job or one for all: text for people, or the JSON of ``runner logs --json``, one record a line.

The JSON file of one job says itself how far it got. Of a text file, and of one for all jobs, only the runner's own
notes tell, so after a kill the last records may stand there twice.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from adapters.sinks.log_files import TAIL_BYTES, append, cut, tail
from adapters.sinks.log_text import event_text, text_lines, told_time
from adapters.sinks.remembered import Remembered
from adapters.sinks.templates import fill, is_per_job
from adapters.sinks.urls import SinkUrl
from adapters.worker import Worker
from runner.job import Key, safe_name
from runner.log_json import log_json
from runner.ports import End, LogLine, Position, SinkTraits
from runner.receipt import Event
from runner.units import parse_size

KEEP = 5
_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""By root: sinks of several queues may write to one file."""


@dataclass(frozen=True)
class Files:
    """Where files are, what stands in them, and when they are rotated; ``path`` is below ``root``."""

    root: str
    path: str
    queue: str
    json: bool = False
    rotate_bytes: int = 0
    keep: int = KEEP

    @classmethod
    def of(cls, url: SinkUrl, queue: str) -> Files:
        """Read a URL; no link is followed from the first name on that says something of a job, and in the last."""
        parts = url.path.strip("/").split("/")
        fixed = next((at for at, part in enumerate(parts) if "{" in part), len(parts) - 1)
        fixed = min(fixed, len(parts) - 1)
        rotate_bytes = parse_size(url.options.get("rotate", 0))
        keep = int(url.options.get("keep", KEEP))
        is_json = url.options.get("format") == "json"
        return cls("/" + "/".join(parts[:fixed]), "/".join(parts[fixed:]), queue, is_json, rotate_bytes, keep)

    @property
    def per_job(self) -> bool:
        """Whether every job has a file of its own."""
        return is_per_job(self.path)

    def of_job(self, key: Key, job_id: str) -> str:
        """Return a job's file, below the root."""
        return fill(self.path, {"queue": safe_name(self.queue), "key": key, "id": safe_name(job_id)})


class FileSink:
    """The logs of all jobs of one queue."""

    def __init__(self, files: Files, lag_max_bytes: int | None = None) -> None:
        self._files = files
        self._traits = SinkTraits(coalesces=True, lag_max_bytes=lag_max_bytes)
        self._lock = _LOCKS[files.root]
        # A thread of its own: a file server that went away must not keep those of all others.
        self._calls = Worker(f"logs {files.root}")
        # The line that the last write of text left unfinished, by file: job and stream.
        self._unfinished: dict[str, tuple[Key, str]] = {}
        # The next record wanted of JSON files; unknown after a failure, and then looked for.
        self._wanted: Remembered[Position] = Remembered()
        self._ended: Remembered[End] = Remembered()

    @property
    def traits(self) -> SinkTraits:
        return self._traits

    async def open(self, key: Key, job_id: str) -> Position | None:
        wanted = await self._calls.run(self._position, key, self._files.of_job(key, job_id))
        if wanted is not None:
            self._wanted.set(key, wanted)
        return wanted

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        await self._calls.run(self._write, key, job_id, events, lines)

    async def close(self, key: Key, job_id: str, end: End) -> None:
        if self._ended.get(key) != end:
            await self._calls.run(self._close, key, job_id, end.event)
        self._ended.set(key, end)
        self._wanted.forget(key)
        self._unfinished.pop(self._files.of_job(key, job_id), None)

    async def release(self) -> None:
        """Files are open only while something is written."""
        self._calls.shutdown()

    def _write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        path = self._files.of_job(key, job_id)
        with self._lock:
            wanted = self._wanted.get(key) or self._position(key, path) or Position()
            new = [line for line in lines if Position(line.attempt, line.sequence) >= wanted]
            self._wanted.forget(key)
            if self._files.json:
                told: list[Event | LogLine] = [*events, *new]
                self._append(path, b"".join(self._document(it, job_id) for it in told), fresh_line=True)
            else:
                self._write_text(key, job_id, events, new)
            self._wanted.set(key, new[-1].next if new else wanted)

    def _close(self, key: Key, job_id: str, event: Event) -> None:
        path = self._files.of_job(key, job_id)
        data = self._document(event, job_id) if self._files.json else self._event_line(event, job_id)
        with self._lock:
            if not tail(self._files.root, path, len(data) + 1).endswith(data):
                self._append(path, data, fresh_line=True)

    def _append(self, path: str, data: bytes, *, fresh_line: bool) -> None:
        if data:
            files = self._files
            append(files.root, path, data, fresh_line=fresh_line, rotate_bytes=files.rotate_bytes, keep=files.keep)

    # JSON

    def _document(self, told: Event | LogLine, job_id: str) -> bytes:
        document = log_json(told)
        if self._files.per_job:
            return document + b"\n"
        return b'{"id":%b,%b\n' % (msgspec.json.encode(job_id), document[1:])

    def _position(self, key: Key, path: str) -> Position | None:
        """Look for the last record; None where it cannot be told, such as of a file that was just rotated."""
        if not self._files.json or not self._files.per_job:
            return None
        found = tail(self._files.root, path)
        if not found:
            return Position()
        whole, newline, torn = found.rpartition(b"\n")
        if not newline and len(torn) == TAIL_BYTES:
            return None
        if torn:
            cut(self._files.root, path, len(torn))
        return _after_last(whole, key) if newline else Position()

    # Text

    def _write_text(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        path = self._files.of_job(key, job_id)
        unfinished = self._unfinished.pop(path, None)
        goes_on = unfinished is not None and not events and bool(lines) and unfinished == (key, lines[0].stream)
        pieces = [self._event_line(event, job_id).decode() for event in events]
        mid_line = (key, lines[0].stream) if goes_on else None
        for line in lines:
            before, text = text_lines(line, self._about(job_id))
            if mid_line == (key, line.stream):
                pieces.append(text)
            else:
                pieces.append(("\n" if mid_line else "") + before + text)
            mid_line = None if text.endswith("\n") else (key, line.stream)
        self._append(path, "".join(pieces).encode(), fresh_line=not goes_on)
        if mid_line:
            self._unfinished[path] = mid_line

    def _about(self, job_id: str) -> str:
        return "" if self._files.per_job else f"{safe_name(job_id)} "

    def _event_line(self, event: Event, job_id: str) -> bytes:
        return f"{told_time(round(event.at * 1e9))} {self._about(job_id)}event {event_text(event)}\n".encode()


def _after_last(documents: bytes, key: Key) -> Position | None:
    for text in reversed(documents.split(b"\n")):
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return None
        match document:
            case {"attempt": int(attempt), "sequence": int(sequence)}:
                return Position(attempt, sequence + 1)
            case {"event": {"key": str(other)}} if other != key:
                return Position()
            case _:
                continue
    return None
