"""
What a result directory holds of each job, and how it is found; blocking.

| path | holds |
| --- | --- |
| ``jobs/<key>/events.<box>`` | state changes that one box told, a JSON document a line |
| ``jobs/<key>/lines.<attempt>.<box>`` | log records of an attempt, framed |
| ``jobs/<key>/receipt.<attempt>`` | the receipt, created once |
| ``ids/<id>`` | the key of the newest job of this id |
| ``active/<key>`` | stands while the job has not ended |
| ``logs/<key>~<attempt>…`` | the archive of an attempt's log, with the suffixes that it came with |

Each file has one writer, so boxes that share the directory never write into one another's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from adapters.files import OWNER_DIRECTORY, make_directory, names_in, remove_file, write_new, write_whole
from adapters.results.reading import read
from adapters.results.rows import dated_row
from runner.job import ID_PATTERN, Key, safe_name
from runner.receipt import Event, JobRow, Receipt

PARTS = ("jobs", "ids", "active", "logs", "stops", "beats", "uploads", "tmp")
ATTEMPT_DIGITS = 6


@dataclass(frozen=True)
class JobFile:
    """One file of a job by its name: its kind, and its attempt and box where the name says them."""

    name: str
    kind: str
    attempt: int
    box: str


class Jobs:
    """The jobs in one result directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, part: str, name: str = "") -> str:
        """Return a part's path, or that of a name in it."""
        return os.path.join(self.root, part, name) if name else os.path.join(self.root, part)

    def enter(self, key: Key, job_id: str) -> bool:
        """Let the id point to a new job and make its directory, in this order; True where it was new."""
        if os.path.isdir(self.path("jobs", key)):
            return False
        try:
            self._enter(key, safe_name(job_id))
        except FileNotFoundError:
            for part in PARTS:
                make_directory(self.path(part))
            self._enter(key, safe_name(job_id))
        return True

    def _enter(self, key: Key, name: str) -> None:
        index = self.path("ids", name)
        try:
            write_new(index, key.encode(), durable=False)
        except FileExistsError:
            write_whole(index, key.encode(), durable=False)
        with contextlib.suppress(FileExistsError):
            self._mark_active(index, key)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path("jobs", key), OWNER_DIRECTORY)

    def _mark_active(self, index: str, key: Key) -> None:
        try:
            os.link(index, self.path("active", key))  # a third of the cost of one more file
        except FileNotFoundError:  # another box put its own in the index's place at this moment
            write_new(self.path("active", key), key.encode(), durable=False)

    def find(self, job_id: str) -> Key | None:
        """Return the key of the newest job of this id, or the key itself where it was given."""
        if ID_PATTERN.fullmatch(job_id) and os.path.isdir(self.path("jobs", job_id)):
            return Key(job_id)
        content = read_file(self.path("ids", safe_name(job_id)))
        return Key(content.decode()) if content else None

    def keys(self, *, ended: bool) -> list[Key]:
        """List the jobs, in no order; without ``ended`` only those that may not have."""
        return [Key(name) for name in names_in(self.path("jobs" if ended else "active"))]

    def files(self, key: Key) -> list[JobFile]:
        """List a job's files, by attempt, kind and box."""
        found = [read_name(name) for name in names_in(self.path("jobs", key))]
        return sorted((file for file in found if file), key=lambda file: (file.attempt, file.kind, file.box))

    def end(self, key: Key) -> None:
        """Note that a job has ended for good; idempotent."""
        remove_file(self.path("active", key))

    def receipt(self, key: Key) -> Receipt | None:
        """Return a job's newest receipt."""
        names = [file.name for file in self.files(key) if file.kind == "receipt"]
        return read(read_file(self.path("jobs", f"{key}/{names[-1]}")), Receipt) if names else None

    def row(self, key: Key) -> tuple[float, JobRow] | None:
        """Return when a job was first heard of, and its row; None where nothing is known of it yet."""
        return dated_row(self.events(key), self.receipt(key))

    def events(self, key: Key) -> Iterator[tuple[Event, str]]:
        """Yield what each box told of a job, with the box."""
        for file in self.files(key):
            if file.kind == "events":
                content = read_file(self.path("jobs", f"{key}/{file.name}"))
                yield from ((event, file.box) for event in decode_events(content))

    def remove(self, key: Key) -> None:
        """Delete a job: moved out of sight in one step, so that a kill in between leaves no half of it to be read."""
        row = self.row(key)
        # A key begins with its job's id, but for long ones; those are told by what was heard of the job.
        for name in {key.rpartition(".")[0], safe_name(row[1].id) if row is not None else ""}:
            if name and read_file(self.path("ids", name)) == key.encode():
                remove_file(self.path("ids", name))
        remove_file(self.path("active", key))
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path("jobs", key), self.path("tmp", key))
        shutil.rmtree(self.path("tmp", key), ignore_errors=True)


def read_name(name: str) -> JobFile | None:
    """Read the name of a job's file; None for any other."""
    kind, _, rest = name.partition(".")
    if kind == "events":
        return JobFile(name, kind, 0, rest)
    number, _, box = rest.partition(".")
    if kind not in {"lines", "receipt"} or not number[:ATTEMPT_DIGITS].isdigit():
        return None
    return JobFile(name, kind, int(number[:ATTEMPT_DIGITS]), box)


def archive_name(key: Key, attempt: int, source: str) -> str:
    """Return the name of the archive of an attempt's log that is stored from the file ``source``."""
    return f"{key}~{attempt:0{ATTEMPT_DIGITS}d}" + "".join(os.path.basename(source).partition(".")[1:])


def archive_key(name: str) -> Key:
    """Return the job that an archive belongs to."""
    return Key(name.partition("~")[0])


def file_name(kind: str, attempt: int, box: str = "") -> str:
    """Return the name of an attempt's file."""
    return f"{kind}.{attempt:0{ATTEMPT_DIGITS}d}" + (f".{box}" if box else "")


def read_file(path: str) -> bytes:
    """Return a file's content; empty where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return b""


def decode_events(content: bytes) -> Iterator[Event]:
    """Yield the events of whole lines; a line that is damaged is left out."""
    for line in content.split(b"\n")[:-1]:
        with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
            yield msgspec.json.decode(line, type=Event)
