"""What stands on a box's disk, in memory: journal, spool, workspaces, cache, result backend, stores."""

from __future__ import annotations

import asyncio
import bisect
import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from runner.credential import Credential
from runner.errors import AlreadyStored, Refused, RunnerError
from runner.job import Input, Key, Output
from runner.ports import (
    Blob,
    BuildContext,
    CollectedFile,
    Cursor,
    Gap,
    LogLine,
    Position,
    SinkTraits,
    SpoolSeal,
    Stat,
)
from runner.receipt import BoxBeat, Event, InputAccount, Receipt
from runner.records import (
    ClaimRecord,
    ExitRecord,
    FaultRecord,
    GrantRecord,
    JournalEntry,
    JournalRecord,
    PlaceRecord,
    SettleRecord,
    StageRecord,
    StartRecord,
    StopRecord,
    StoreRecord,
    UploadRecord,
    WaitRecord,
)

FIELDS: dict[type, str] = {
    PlaceRecord: "placed",
    GrantRecord: "granted",
    StageRecord: "staged",
    StartRecord: "starting",
    StopRecord: "stopping",
    ExitRecord: "exited",
    UploadRecord: "uploaded",
    StoreRecord: "stored",
    SettleRecord: "settled",
    WaitRecord: "waiting",
    FaultRecord: "faulted",
}


def _lost(entry: JournalEntry) -> bool:
    return entry.stored is not None and entry.stored.decision is None


class FakeJournal:
    def __init__(self) -> None:
        self.entries: dict[Key, JournalEntry] = {}
        # All that was ever appended, and when on the loop's clock.
        self.history: list[tuple[float, Key, JournalRecord]] = []

    async def append(self, key: Key, record: JournalRecord) -> None:
        self.history.append((asyncio.get_running_loop().time(), key, record))
        entry = self.entries.get(key)
        if isinstance(record, ClaimRecord):
            self.entries[key] = self._claimed(entry, key, record)
        elif entry is not None:
            self.entries[key] = msgspec.structs.replace(entry, **{FIELDS[type(record)]: record})

    def _claimed(self, entry: JournalEntry | None, key: Key, record: ClaimRecord) -> JournalEntry:
        if entry is None:
            return JournalEntry(key, record)
        newer = record.claim.attempt > entry.claimed.claim.attempt
        if newer or entry.settled is not None or _lost(entry):
            return JournalEntry(key, record, faulted=entry.faulted)
        return msgspec.structs.replace(entry, claimed=record)

    async def entry(self, key: Key) -> JournalEntry | None:
        return self.entries.get(key)

    async def in_flight(self) -> tuple[JournalEntry, ...]:
        return tuple(entry for entry in self.entries.values() if entry.settled is None and not _lost(entry))

    async def find(self, job_id: str) -> JournalEntry | None:
        found = [entry for entry in self.entries.values() if job_id in {entry.claimed.claim.id, entry.key}]
        return found[-1] if found else None

    async def list(self, *, limit: int, ended: bool) -> tuple[JournalEntry, ...]:
        entries = [entry for entry in self.entries.values() if ended or entry.settled is None]
        return tuple(reversed(entries))[:limit]

    async def prune(self, before: float) -> int:
        return 0


def _position(line: LogLine) -> Position:
    return Position(line.attempt, line.sequence)


class FakeSpool:
    """Records by key, in order of their positions."""

    def __init__(self) -> None:
        self.lines: dict[Key, list[LogLine]] = defaultdict(list)
        self.seals: set[tuple[Key, int]] = set()
        self.cursors: dict[tuple[Key, str], Cursor] = {}
        # Bytes by stream that were dropped from the middle of an attempt; keys whose records were shed.
        self.dropped: dict[tuple[Key, int], Counter[str]] = defaultdict(Counter)
        self.shed_keys: list[Key] = []
        self._shed: set[Key] = set()
        self._touched: set[Key] = set()
        self._news = asyncio.Event()

    async def append(self, key: Key, attempt: int, stream: str, data: bytes) -> None:
        self._shed.discard(key)
        place = bisect.bisect_left(self.lines[key], Position(attempt + 1), key=_position)
        before = self.lines[key][place - 1] if place else LogLine(attempt, -1, 0, "", b"")
        sequence = before.sequence + 1 if before.attempt == attempt else 0
        self.lines[key].insert(place, LogLine(attempt, sequence, 0, stream, data))
        self.touch(key)

    def touch(self, key: Key) -> None:
        self._touched.add(key)
        self._news.set()

    async def bytes_written(self, key: Key, attempt: int) -> dict[str, int]:
        counted = Counter(self.dropped[key, attempt])
        for line in self.lines[key]:
            if line.attempt == attempt:
                counted[line.stream] += len(line.data)
                if line.stream == "gap":
                    gap = msgspec.json.decode(line.data, type=Gap)
                    counted[gap.stream] += gap.bytes or 0
                    if gap.resumes_at is not None:
                        counted[gap.stream] = gap.resumes_at
        return dict(counted)

    async def behind(self, key: Key, position: Position) -> int:
        return sum(len(line.data) for line in self._from(key, position))

    async def near_end(self, key: Key, size_bytes: int) -> Position:
        lines = self._from(key, Position())
        for place, line in enumerate(lines):
            if sum(len(later.data) for later in lines[place:]) <= size_bytes:
                return Position(line.attempt, line.sequence)
        return Position(lines[-1].attempt, lines[-1].sequence + 1) if lines else Position()

    async def cursor(self, key: Key, sink: str) -> Cursor | None:
        return self.cursors.get((key, sink))

    async def keep_cursor(self, key: Key, sink: str, cursor: Cursor) -> None:
        if key in self.lines:
            self.cursors[key, sink] = cursor

    async def disk_bytes(self, key: Key) -> int:
        return await self.behind(key, Position())

    async def drop_middle(self, key: Key, attempt: int, head_bytes: int, tail_bytes: int) -> int:
        lines = [line for line in self.lines[key] if line.attempt == attempt]
        sizes = [1 if line.stream == "gap" else len(line.data) for line in lines]
        middle = [
            line
            for place, line in enumerate(lines)
            if sum(sizes[: place + 1]) > head_bytes and sum(sizes[place:]) > tail_bytes
        ]
        gone = [line for line in middle if line.stream != "gap"]
        if not gone:
            return 0
        dropped = sum(len(line.data) for line in gone)
        before = [msgspec.json.decode(line.data, type=Gap) for line in middle if line.stream == "gap"]
        gap = Gap(
            bytes=dropped + sum(told.bytes or 0 for told in before),
            lines=sum(line.data.count(b"\n") for line in gone) + sum(told.lines or 0 for told in before),
        )
        place = self.lines[key].index(middle[-1])
        self.lines[key][place] = msgspec.structs.replace(middle[-1], stream="gap", data=msgspec.json.encode(gap))
        self.lines[key] = [line for line in self.lines[key] if line not in middle]
        self.dropped[key, attempt].update({line.stream: 0 for line in gone})
        for line in gone:
            self.dropped[key, attempt][line.stream] += len(line.data)
        return dropped

    async def shed(self, key: Key) -> None:
        self.shed_keys.append(key)
        self._shed.add(key)

    async def unshed(self) -> tuple[Key, ...]:
        return tuple(key for key, lines in self.lines.items() if lines and key not in self._shed)

    async def read(self, key: Key, position: Position, limit_bytes: int = 1 << 20) -> tuple[LogLine, ...]:
        lines, room = self._from(key, position), limit_bytes
        for place, line in enumerate(lines):
            if (room := room - len(line.data)) <= 0:
                return lines[: place + 1]
        return lines

    def _from(self, key: Key, position: Position) -> tuple[LogLine, ...]:
        return tuple(self.lines[key][bisect.bisect_left(self.lines[key], position, key=_position) :])

    async def news(self) -> frozenset[Key]:
        await self._news.wait()
        self._news.clear()
        touched, self._touched = frozenset(self._touched), set()
        return touched

    async def seal(self, key: Key, attempt: int) -> SpoolSeal:
        self.seals.add((key, attempt))
        text = self.text(key, attempt)
        return SpoolSeal(text.count(b"\n"), len(text), hashlib.sha256(text).hexdigest(), f"archive of {key}")

    def text(self, key: Key, attempt: int) -> bytes:
        of_job = {"stdout", "stderr"}
        return b"".join(line.data for line in self.lines[key] if line.attempt == attempt and line.stream in of_job)

    async def prune(self, before: float, keep: frozenset[Key]) -> int:
        return 0


class FakeWorkspaces:
    """Workspaces by reference; an input whose path is ``evil`` would leave."""

    def __init__(self) -> None:
        self.used, self.free = 0, 1 << 40
        self.standing: dict[str, list[str]] = {}
        # What each job's workspace has as text, and whatever else stands there.
        self.texts: dict[str, str] = {}
        self.content = ""
        # What is packed to be built from, by the references that were given out for it.
        self.contexts: set[str] = set()

    async def create(self, key: Key, attempt: int) -> str:
        workspace = f"{key}.{attempt}"
        self.standing[workspace] = []
        return workspace

    async def place(self, workspace: str, item: Input, source: str | None) -> InputAccount:
        if item.path == "evil":
            raise Refused("input leaves the workspace: ../../etc/passwd")
        if item.path == "broken":
            raise ZeroDivisionError("a bug of the stage itself")
        self.standing[workspace].append(item.path)
        return InputAccount(item.url, "sha256:0", 1)

    async def collect(self, workspace: str, output: Output, job_id: str) -> tuple[CollectedFile, ...]:
        if output.path == "never":
            return (CollectedFile(output.path, "", "", problem="was not written"),)
        return (CollectedFile(output.path, output.path, f"{workspace}/{output.path}", 3),)

    async def read_text(self, workspace: str, path: str) -> str:
        if path not in self.texts:
            raise Refused(f"build.dockerfile: {path} of the workspace cannot be read: No such file or directory")
        return self.texts[path]

    async def pack_context(
        self, workspace: str, path: str, *, dockerfile: tuple[str, str], limit_bytes: int
    ) -> BuildContext:
        digest = hashlib.sha256(f"{path} {dockerfile} {self.content}".encode()).hexdigest()
        self.contexts.add(f"context of {workspace}")
        return BuildContext(f"context of {workspace}", f"sha256:{digest}", 7)

    async def drop_context(self, workspace: str) -> None:
        self.contexts.discard(f"context of {workspace}")

    async def used_bytes(self, workspace: str) -> int:
        return self.used

    async def remove(self, workspace: str) -> None:
        self.standing.pop(workspace, None)

    async def prune(self, before: float, keep: frozenset[str]) -> int:
        return 0

    async def free_bytes(self) -> int:
        return self.free


class FakeBlobs:
    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str, str], Blob] = {}
        self.files = 0

    def new_file(self) -> str:
        self.files += 1
        return f"new file {self.files}"

    async def find(self, url: str, version: str, scope: str) -> Blob | None:
        return self.blobs.get((url, version, scope))

    async def add(self, path: str, *, url: str, version: str, scope: str) -> Blob:
        blob = Blob(f"sha256:{url}", 1, path)
        self.blobs[url, version, scope] = blob
        return blob

    async def evict(self, limit_bytes: int, pinned: frozenset[str]) -> int:
        return 0


class FakeStore:
    """Any URL can be read but those that end in ``missing``; what was put is counted."""

    def __init__(self) -> None:
        self.puts: Counter[str] = Counter()
        # When each was put on the loop's clock.
        self.put_at: list[tuple[float, str]] = []

    async def head(self, url: str) -> Stat:
        if url.endswith("missing"):
            raise Refused(f"{url}: not found")
        return Stat(1, "v1")

    async def get(self, url: str, path: str) -> Stat:
        return await self.head(url)

    async def put(self, path: str, url: str) -> Stat:
        self.puts[url] += 1
        self.put_at.append((asyncio.get_running_loop().time(), url))
        return Stat(3, "v1")

    async def put_bytes(self, data: bytes, url: str) -> Stat:
        return await self.put("", url)

    async def close(self) -> None:
        return None


class FakeResults:
    """Receipts once per attempt, log records once per position, one end per job."""

    def __init__(self) -> None:
        self.receipts: dict[tuple[str, int], Receipt] = {}
        # When receipts and log archives came, on the loop's clock, and of which key.
        self.put_at: list[tuple[float, Key]] = []
        self.events: dict[Key, list[Event]] = defaultdict(list)
        self.lines: dict[Key, dict[tuple[int, int], LogLine]] = defaultdict(dict)
        self.archives: dict[tuple[Key, int], str] = {}
        self.marks: set[str] = set()
        self.signs: dict[str, BoxBeat] = {}
        self.beaten: list[BoxBeat] = []
        self.changed: list[Credential] = []

    async def append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        self.events[key].extend(event for event in events if event not in self.events[key])
        for line in lines:
            self.lines[key].setdefault((line.attempt, line.sequence), line)

    async def put_receipt(self, receipt: Receipt) -> None:
        if (receipt.key, receipt.attempt) in self.receipts:
            raise AlreadyStored(f"{receipt.key} {receipt.attempt}")
        self.receipts[receipt.key, receipt.attempt] = receipt
        self.put_at.append((asyncio.get_running_loop().time(), Key(receipt.key)))

    async def put_log(self, key: Key, attempt: int, path: str) -> str:
        self.archives[key, attempt] = path
        self.put_at.append((asyncio.get_running_loop().time(), key))
        return f"log:{key}.{attempt}"

    async def get_log(self, url: str, path: str) -> None:
        return None

    async def get(self, job_id: str) -> Receipt | None:
        found = [receipt for receipt in self.receipts.values() if job_id in {receipt.id, receipt.key}]
        return max(found, key=lambda receipt: receipt.attempt, default=None)

    async def get_upload(self, url: str, path: str) -> None:
        return None

    async def change(self, credential: Credential) -> None:
        self.changed.append(credential)

    async def request_stop(self, job_id: str) -> None:
        self.marks.add(job_id)

    async def clear_stop(self, job_id: str) -> None:
        self.marks.discard(job_id)

    async def stops(self) -> frozenset[str]:
        return frozenset(self.marks)

    async def beat(self, beat: BoxBeat) -> None:
        self.signs[beat.box] = beat
        self.beaten.append(beat)

    async def beats(self) -> tuple[BoxBeat, ...]:
        return tuple(self.signs.values())

    async def prune(self, before: float) -> int:
        return 0

    async def close(self) -> None:
        return None


class FakeSink:
    """Hands everything to the result backend, as the real one does."""

    def __init__(self, written: FakeResults, results: FakeResults) -> None:
        self._written, self._results = written, results
        # Set where its connection is of no use any more.
        self.broken: RunnerError | None = None
        self.traits = SinkTraits()

    async def open(self, key: Key, job_id: str) -> Position:
        self._check()
        have = self._written.lines[key]
        return Position(*max(have)) if have else Position()

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        self._check()
        await self._results.append(key, job_id, events, lines)

    async def close(self, key: Key, job_id: str, end: object) -> None:
        self._check()
        event = getattr(end, "event")  # noqa: B009 - an End, kept opaque here
        if not any(told.state == "ended" for told in self._written.events[key]):
            await self._results.append(key, job_id, [event], [])

    async def release(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken


class FakeCredentials:
    def __init__(self, files: Callable[[], tuple[object, ...]]) -> None:
        self._files = files

    async def scan(self) -> tuple[object, ...]:
        return self._files()

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await asyncio.sleep(5.0)
            yield
