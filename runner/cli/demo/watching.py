"""
What the demo sees while its jobs run: their journal entries and their logs, read as any other process may.

Never asks the runner, so that it sees as much while none is alive.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec

from adapters.journal import JournalReader
from adapters.spool import FileSpool
from runner.cli import paths
from runner.job import Key
from runner.ports import LogLine, Position
from runner.records import JournalEntry

ENTRIES_MAX = 100
_OUTPUT = ("stdout", "stderr")
_EPOCH = re.compile(rb"epoch (\d+)/(\d+)  (loss \S+)  (test accuracy \S+)")


class Progress(msgspec.Struct, frozen=True):
    """How far the training is: the epoch, of how many, and its figures in its own words."""

    epoch: int = 0
    epochs: int = 0
    loss: str = ""
    accuracy: str = ""


class Tail:
    """What the newest attempt of one job wrote so far."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self._position = Position()
        self._begin(self._position.attempt)

    def _begin(self, attempt: int) -> None:
        self._attempt = attempt
        # How many whole lines the attempt wrote.
        self.lines = 0
        self.progress = Progress()
        # The last whole line, of stderr where there is one.
        self.last = ""
        self._begun = dict.fromkeys(_OUTPUT, b"")
        self._complained = False

    async def read(self, spool: FileSpool) -> None:
        """Read on to what is the end now."""
        while records := await spool.read(self.key, self._position):
            for record in records:
                if record.attempt != self._attempt:
                    self._begin(record.attempt)
                self._add(record)
            self._position = records[-1].next

    def _add(self, record: LogLine) -> None:
        if record.stream not in _OUTPUT:
            return
        *whole, self._begun[record.stream] = (self._begun[record.stream] + record.data).split(b"\n")
        self.lines += len(whole)
        for line in whole:
            self._notice(record.stream, line)

    def _notice(self, stream: str, line: bytes) -> None:
        if stream == "stderr" or not self._complained:
            self._complained = stream == "stderr"
            self.last = line.decode("utf-8", "replace")
        if found := _EPOCH.fullmatch(line):
            epoch, epochs, loss, accuracy = (part.decode("ascii", "replace") for part in found.groups())
            self.progress = Progress(int(epoch), int(epochs), loss, accuracy)


class Seen(msgspec.Struct, frozen=True):
    """One job at one moment; without an entry no runner has taken it yet."""

    id: str
    entry: JournalEntry | None = None
    lines: int = 0
    last: str = ""
    progress: Progress = Progress()

    @property
    def state(self) -> str:
        """The state as ``ps`` says it, ``queued`` before a runner has the job."""
        return "queued" if self.entry is None else self.entry.state

    @property
    def sentence(self) -> str:
        """What ``why`` says that it waits for; empty where it does not."""
        waiting = self.entry.waiting if self.entry else None
        return waiting.sentence if waiting and self.state == "waiting" else ""

    @property
    def container(self) -> str:
        """The name of its container, empty where none was started."""
        starting = self.entry.starting if self.entry else None
        return starting.container if starting else ""

    @property
    def is_settled(self) -> bool:
        """Tell whether its end is stored and its message settled."""
        return self.state == "ended" and self.entry is not None and self.entry.settled is not None


class Watch:
    """Looks at a state directory."""

    def __init__(self, state: Path) -> None:
        self._journal = JournalReader(str(paths.journal(state)))
        self._spool = FileSpool(str(paths.spools(state)), time.time_ns)
        self._tails: dict[Key, Tail] = {}

    async def look(self, ids: tuple[str, ...]) -> dict[str, Seen]:
        """Return what these jobs are at now, in the same order."""
        entries = await self._journal.list(limit=ENTRIES_MAX, ended=True)
        newest = {entry.claimed.claim.id: entry for entry in reversed(entries)}
        return {job_id: await self._seen(job_id, newest.get(job_id)) for job_id in ids}

    async def _seen(self, job_id: str, entry: JournalEntry | None) -> Seen:
        if entry is None:
            return Seen(job_id)
        tail = self._tails.setdefault(entry.key, Tail(entry.key))
        await tail.read(self._spool)
        return Seen(job_id, entry, tail.lines, tail.last, tail.progress)

    async def close(self) -> None:
        """Let go of the journal."""
        await self._journal.close()
        await self._spool.close()
