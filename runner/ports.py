"""
The ports: what actors ask of the world, and what an adapter must keep.

Every method may raise ``Unavailable`` (the service did not answer) besides what it names. No port retries by itself:
retries, jitter, time limits and metrics are written once, in the actor that calls. A call may be cancelled at any
await; an adapter then leaves the service as if the call had happened, or not happened, never in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from runner.credential import Credential, CredentialFile, Rights
from runner.job import Input, Job, Key, Note, Output, Verdict
from runner.receipt import BoxBeat, Event, GpuTable, InputAccount, Isolation, JobRow, Receipt, SourceRow, Usage
from runner.records import Grant, JournalEntry, JournalRecord

# Queues


class Delivery(msgspec.Struct, frozen=True):
    """
    One claimed message.

    ``token`` names the claim, ``submission`` the message itself, equal at every delivery. ``body`` is cut at 1 MiB + 1
    byte; ``enqueued_at`` is the first submission, in epoch seconds, over all retries.
    """

    token: str
    body: bytes
    submission: str
    enqueued_at: float
    note: Note = Note()


class DeadLetterRow(msgspec.Struct, frozen=True):
    """One rejected message."""

    submission: str
    reason: str
    at: float
    note: Note = Note()


class Queue(Protocol):
    """One open queue. Concurrent calls are allowed; ``fetch`` has one caller at a time."""

    name: str
    """As people call it."""
    identity: str
    """Equal on every box that reads this queue; part of a job's key."""
    lease_s: float
    """A claim lapses this long after it was made or renewed."""

    async def fetch(self, wait_s: float) -> Delivery | None:
        """
        Claim one message; wait up to ``wait_s`` for one. None: there was none.

        Highest priority first, then oldest. Messages whose claim lapsed, and retries that are due, count. A
        message that arrives while the call is cancelled is released, or its claim lapses.
        """
        ...

    async def renew(self, token: str) -> None:
        """
        Extend the claim to ``lease_s`` from now.

        Raises:
            LeaseLost: the claim lapsed and may be another's.
        """
        ...

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        """
        Carry out a verdict: ACK forgets the message, RETRY and RELEASE make it visible after ``after_s`` seconds with
        ``note`` beside it, REJECT moves it to the dead letters with ``reason``. The body's bytes never change.

        Idempotent: the same call again, also after a crash in the middle, ends in the same state.

        Raises:
            LeaseLost: the claim is another's, or was settled otherwise.
        """
        ...

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0) -> str:
        """Add a message durably and return its submission. ``job_id`` lets the service find it for ``withdraw``."""
        ...

    async def withdraw(self, job_id: str) -> bool:
        """Remove a waiting message that no box holds; True where one was removed."""
        ...

    async def depth(self) -> int:
        """Count the messages that wait now, delayed ones not included."""
        ...

    async def dead(self) -> tuple[DeadLetterRow, ...]:
        """List the dead letters, oldest first."""
        ...

    async def retry_dead(self, submission: str) -> bool:
        """Make a dead letter wait again with a fresh note; False where there is none."""
        ...

    async def drop_dead(self, submission: str) -> bool:
        """Delete a dead letter; False where there is none."""
        ...

    async def prune(self, before: float) -> int:
        """Delete dead letters rejected before this epoch second; return how many."""
        ...

    async def close(self) -> None:
        """Release what the queue holds open. Claims lapse by themselves."""
        ...


class Broker(Protocol):
    """One credential's service."""

    async def queues(self) -> tuple[str, ...]:
        """List the names of the queues behind it, sorted."""
        ...

    async def open(self, name: str) -> Queue:
        """Open one queue; made at its first use where the service allows that."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


# Result backends


class LogLine(msgspec.Struct, frozen=True):
    """A run of bytes that a job wrote to one stream, at a position. ``at_ns`` is epoch nanoseconds."""

    attempt: int
    sequence: int
    at_ns: int
    stream: str
    data: bytes


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in a job's log: the next record wanted."""

    attempt: int = 1
    sequence: int = 0


class Results(Protocol):
    """A queue's result backend: where others read what became of its jobs. Keyed by job key, found by id."""

    async def append(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        """Add events and log records in order; a record that stands already (same position) is not added twice."""
        ...

    def tail(self, job_id: str, position: Position, *, follow: bool) -> AsyncIterator[LogLine | Event]:
        """
        Yield records and events of the newest job of this id from ``position``; with ``follow`` until it ended for
        good.

        An unknown id yields nothing without ``follow``; with it, waits for the job to appear.
        """
        ...

    async def put_receipt(self, receipt: Receipt) -> None:
        """
        Store the receipt of one attempt.

        Raises:
            AlreadyStored: one of this key and attempt stands.
        """
        ...

    async def put_log(self, key: Key, attempt: int, path: str) -> str:
        """Store the archive of an attempt's log from a local file; return its URL. Putting it again replaces it."""
        ...

    async def get(self, job_id: str) -> Receipt | None:
        """Return the newest receipt of the newest job of this id or key."""
        ...

    async def list(self, *, ended: bool) -> tuple[JobRow, ...]:
        """List jobs, newest first; without ``ended`` only those that have not."""
        ...

    async def put_upload(self, path: str) -> str:
        """Store a packed directory under its content's digest; return the URL (``upload:sha256/…``) for an input."""
        ...

    async def get_upload(self, url: str, path: str) -> None:
        """
        Copy an upload to a local file.

        Raises:
            Refused: there is no such upload.
        """
        ...

    async def clear_stop(self, job_id: str) -> None:
        """Take a stop mark away; no error where there is none."""
        ...

    async def request_stop(self, job_id: str) -> None:
        """Set a stop mark for a job that may be on any box; setting it twice is no error."""
        ...

    async def stops(self) -> frozenset[str]:
        """Return the ids that carry a stop mark."""
        ...

    async def beat(self, beat: BoxBeat) -> None:
        """Replace this box's sign of life."""
        ...

    async def prune(self, before: float) -> int:
        """
        Delete what belongs to jobs that ended before this epoch second, and uploads unused since; return how many.
        """
        ...

    async def close(self) -> None:
        """Release what is open."""
        ...


# Stores


class Stat(msgspec.Struct, frozen=True):
    """An object: its size in bytes and a version that changes with its content."""

    size: int
    version: str


class Store(Protocol):
    """Objects by URL. ``folder://`` reads and writes files; a directory's URL ends in ``/`` or names one."""

    async def head(self, url: str) -> Stat:
        """
        Describe an object.

        Raises:
            Refused: not found, forbidden, or outside of what the rights name.
        """
        ...

    async def get(self, url: str, path: str) -> Stat:
        """
        Copy an object into a new local file; a partial one never stays.

        Raises:
            Refused: as ``head``.
            OutOfSpace: the local disk is full.
        """
        ...

    async def put(self, path: str, url: str) -> Stat:
        """
        Store a local file under the exact URL, replacing what stood there; seen whole or not at all.

        Raises:
            Refused: forbidden, or outside of what the rights name.
            OutOfSpace: the store is full.
        """
        ...

    async def put_bytes(self, data: bytes, url: str) -> Stat:
        """Store a small object; otherwise as ``put``."""
        ...

    async def list(self, url: str) -> tuple[str, ...]:
        """List the URLs of the objects below a prefix, sorted."""
        ...

    async def close(self) -> None:
        """Release what is open."""
        ...


# Dialects


class Decoded(msgspec.Struct, frozen=True):
    """
    What a message says.

    Where ``problem`` is set the job cannot run, and ``job`` holds the id alone if even that could be read. The problem
    names the field, what is wrong, and what to write.
    """

    job: Job
    problem: str = ""


class Dialect(Protocol):
    """One message format. Pure: no I/O, never raises on any bytes."""

    def decode(self, body: bytes) -> Decoded:
        """Read a message."""
        ...

    def encode(self, told: Event | LogLine) -> bytes | None:
        """Write an event or log record as this format's clients want it; None where they want nothing."""
        ...


# Containers


class ContainerSpec(msgspec.Struct, frozen=True):
    """
    What to start: one attempt of one job.

    ``name`` is unique on the box and made of key and attempt. ``env`` is complete but for what the runtime itself must
    add (PATH, HOME, TMPDIR). ``deadline_at`` stands in the file that RUNNER_DEADLINE_FILE names; None: no limit.
    """

    name: str
    key: Key
    attempt: int
    command: tuple[str, ...]
    env: dict[str, str]
    workspace: str
    grant: Grant
    image: str = ""
    shm: int = 0
    paths: tuple[str, ...] = ()
    deadline_at: float | None = None


class Running(msgspec.Struct, frozen=True):
    """A container that runs or ran: when it started (epoch seconds), how it is kept apart, a pid where there is one."""

    name: str
    started_at: float
    isolation: Isolation
    pid: int | None = None


class Exit(msgspec.Struct, frozen=True):
    """
    How a container ended. ``code`` is 128+n for signal n, None where nobody knows; ``oom``: the memory limit killed it;
    ``message`` carries a start error in the runtime's own words.
    """

    code: int | None
    ended_at: float
    oom: bool = False
    not_started: bool = False
    message: str = ""
    usage: Usage = Usage()


class Chunk(msgspec.Struct, frozen=True):
    """Bytes of ``stdout`` or ``stderr``, in the order in which that stream gave them."""

    stream: str
    data: bytes


class Containers(Protocol):
    """A runtime. Names are the identity: every call but ``start`` works on what an earlier life of the runner made."""

    async def start(self, spec: ContainerSpec) -> Running:
        """
        Create and start. The same name again does not start twice: it returns what runs or ran.

        Raises:
            BadInput: the command or image cannot be started; the text is for the job's user.
            Unavailable: the runtime did not answer, or lacks what the spec needs.
            OutOfSpace: no room to create it.
        """
        ...

    async def adopt(self, name: str) -> Running | None:
        """Return what runs or ran under this name; None: nothing was ever started, or it was removed."""
        ...

    def attach(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """
        Yield the job's output from after the first ``skip[stream]`` bytes of each stream, to the end of both.

        Ends when the container is gone and both streams are at end of file, at most 10 s after its exit.
        """
        ...

    async def wait(self, name: str) -> Exit:
        """
        Wait for the end, and tell how; returns at once where it ended before, also in an earlier life of the runner.
        """
        ...

    async def stop(self, name: str, grace_s: float) -> None:
        """
        SIGTERM, ``grace_s`` seconds, SIGKILL, to the whole tree. Idempotent; no error where it ended or never was.
        """
        ...

    async def remove(self, name: str) -> None:
        """Delete what the runtime keeps, also leftover processes and raw output. Idempotent."""
        ...

    async def list_ours(self) -> tuple[str, ...]:
        """Name every container of this box's id, running or not, sorted."""
        ...

    async def stats(self, name: str) -> Usage:
        """Sample what it uses now."""
        ...

    async def close(self) -> None:
        """Let go; containers run on."""
        ...


class Images(Protocol):
    """Images of a container runtime."""

    async def resolve(self, name: str) -> str | None:
        """Return the digest of a local image, None where it is not there."""
        ...

    async def pull(self, name: str, progress: Callable[[str], None]) -> str:
        """
        Pull an image and return its digest; ``progress`` gets short lines.

        Raises:
            Refused: the registry says there is none, or forbids it.
        """
        ...

    async def close(self) -> None:
        """Let go."""
        ...


# GPUs


class GpuProbe(Protocol):
    """The box's GPUs. Calls block up to their time limit in a thread of the adapter's own."""

    simulated: bool

    async def table(self) -> GpuTable:
        """Describe all devices now, by index. A box without a driver has an empty table and driver None."""
        ...

    def lock(self, uuid: str) -> bool:
        """
        Take the machine-wide lock of one GPU (``flock`` on a file named by its UUID); False: another runner has it.
        """
        ...

    def unlock(self, uuid: str) -> None:
        """Give the lock back; idempotent."""
        ...

    async def close(self) -> None:
        """Shut the library down."""
        ...


# The box's own disk


class Credentials(Protocol):
    """The watched directory. The truth is ``scan``; ``changes`` only hints at when to do it."""

    async def scan(self) -> tuple[CredentialFile, ...]:
        """Read every file, sorted by name; one that cannot be read or used is in the list with its reason."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever something may have changed, and every few seconds without a reason."""
        ...


class Spool(Protocol):
    """
    Logs on disk: framed records per attempt, appended by one writer at a time, readable by many.

    Survives a kill at any byte: a torn record is cut off when the attempt is opened for appending again.
    """

    async def append(self, key: Key, attempt: int, stream: str, data: bytes) -> None:
        """
        Add bytes to a stream (``stdout``, ``stderr``, ``runner``; ``event`` holds state changes as JSON) and wake
        whoever awaits ``flag`` or ``news``.

        Raises:
            OutOfSpace: the disk is full.
        """
        ...

    async def bytes_written(self, key: Key, attempt: int) -> dict[str, int]:
        """Count the bytes of each stream that stand in an attempt's spool."""
        ...

    async def read(self, key: Key, position: Position, limit_bytes: int = 1 << 20) -> tuple[LogLine, ...]:
        """
        Return records from ``position``, over all attempts on this box, at most about ``limit_bytes``; () at the end.
        """
        ...

    async def flag(self, key: Key) -> None:
        """Return when something was appended to any attempt of this key, or one was sealed, after this call began."""
        ...

    async def news(self) -> frozenset[Key]:
        """
        Wait until something was appended or sealed since the last call, and return the keys; one caller at a time.
        """
        ...

    async def seal(self, key: Key, attempt: int) -> SpoolSeal:
        """Close an attempt's spool for good and write its archive beside it; idempotent."""
        ...

    async def sealed(self, key: Key) -> bool:
        """Tell whether every attempt of this key on this box is sealed."""
        ...

    async def remove(self, key: Key) -> None:
        """Delete all spools of a key; idempotent."""
        ...

    async def prune(self, before: float, keep: frozenset[Key]) -> int:
        """Delete spools last written before this epoch second but for ``keep``; return how many."""
        ...


class SpoolSeal(msgspec.Struct, frozen=True):
    """
    What a sealed spool holds of stdout and stderr: lines (a last one without newline counts), bytes, SHA-256 of the
    bytes in spool order; ``archive`` is the local path of the archive, ``gaps`` counts what is known to be missing.
    """

    lines: int
    bytes: int
    sha256: str
    archive: str
    gaps: int = 0


class End(msgspec.Struct, frozen=True):
    """The one end of a job that a sink gets."""

    event: Event


class Sink(Protocol):
    """Where logs go. May be slow, may fail; never blocks a job."""

    async def open(self, key: Key, job_id: str) -> Position:
        """Begin a job, or go on with it; return the first position this sink does not have."""
        ...

    async def write(self, key: Key, job_id: str, events: Sequence[Event], lines: Sequence[LogLine]) -> None:
        """Take events and records in order; what it has already is not an error."""
        ...

    async def close(self, key: Key, job_id: str, end: End) -> None:
        """Take the end; idempotent."""
        ...


class Journal(Protocol):
    """
    What is in flight, and what ended until retention drops it. One writer; others may read while it is open or closed.

    ``append`` returns when the record survives a kill of the process.
    """

    async def append(self, key: Key, record: JournalRecord) -> None:
        """
        Write a record; the newest of each kind counts. A ``ClaimRecord`` of a later attempt, or after the entry was
        settled, clears all but the fault count; of the same attempt in flight it only renews token and claim.

        Raises:
            OutOfSpace: the disk is full.
        """
        ...

    async def entry(self, key: Key) -> JournalEntry | None:
        """Return one entry."""
        ...

    async def in_flight(self) -> tuple[JournalEntry, ...]:
        """Return all entries without ``settled`` that have not lost their claim, oldest claim first."""
        ...

    async def find(self, job_id: str) -> JournalEntry | None:
        """Return the newest entry whose job has this id, or whose key this is."""
        ...

    async def list(self, *, limit: int, ended: bool) -> tuple[JournalEntry, ...]:
        """List entries, newest claim first, bodies left out; without ``ended`` only those in flight."""
        ...

    async def prune(self, before: float) -> int:
        """Delete settled entries that ended before this epoch second; return how many."""
        ...

    async def close(self) -> None:
        """Write out and close."""
        ...


class Workspaces(Protocol):
    """The directories that jobs run in, one an attempt."""

    async def create(self, key: Key, attempt: int) -> str:
        """Make an empty workspace and return its reference; what an earlier life left there is deleted first."""
        ...

    async def place(self, workspace: str, item: Input, source: str | None) -> InputAccount:
        """
        Put one input at its path: ``source`` is a local file, None for a text input; unpacked where asked, read-only
        unless mutable.

        Raises:
            Refused: the path or a member of the archive would leave the workspace, the digest differs, or the archive
                holds what may not be unpacked; names the member.
            OutOfSpace: the disk is full.
        """
        ...

    async def collect(self, workspace: str, output: Output, job_id: str) -> tuple[CollectedFile, ...]:
        """
        Walk one output after the container is gone: regular files only, never through a link.

        What cannot be stored (never written, a link, FIFO, device, socket, sparse beyond its blocks) comes with a
        problem instead of a local path. Packed outputs come as one file.
        """
        ...

    async def used_bytes(self, workspace: str) -> int:
        """Measure what the workspace occupies."""
        ...

    async def remove(self, workspace: str) -> None:
        """Delete a workspace; idempotent."""
        ...

    async def prune(self, before: float, keep: frozenset[str]) -> int:
        """Delete workspaces last changed before this epoch second but for ``keep``; return how many."""
        ...

    async def free_bytes(self) -> int:
        """Return what the disk under the workspaces has free."""
        ...


class CollectedFile(msgspec.Struct, frozen=True):
    """
    One file of an output, to read from ``local`` until the workspace is removed; or a problem.

    ``path`` is the file's in the workspace; ``name`` is relative to the output's path (``a/b.txt``), for a single or
    packed file its last part (``model.bin``, ``model.tar.gz``). ``digest`` is ``sha256:…``.
    """

    path: str
    name: str
    local: str
    bytes: int = 0
    problem: str = ""
    digest: str = ""


class Blob(msgspec.Struct, frozen=True):
    """One object of the cache: its digest, size, local path (read only)."""

    digest: str
    size: int
    path: str


class Blobs(Protocol):
    """The content-addressed store under the cache; the actor owns single flight and pins."""

    async def find(self, url: str, version: str, scope: str) -> Blob | None:
        """Return the blob that this version of the URL was filled with under this credential scope."""
        ...

    def new_file(self) -> str:
        """Return the path of a temporary file on the same disk; the caller fills it and hands it to ``add``."""
        ...

    async def add(self, path: str, *, url: str, version: str, scope: str) -> Blob:
        """Hash a filled file and move it in."""
        ...

    async def evict(self, limit_bytes: int, pinned: frozenset[str]) -> int:
        """
        Delete least recently used blobs until at most ``limit_bytes`` are left, never a pinned digest; return bytes.
        """
        ...


class Control(Protocol):
    """What the control socket may ask of a running runner."""

    async def cancel(self, job_id: str) -> str:
        """End a job wherever it is; return one sentence that says which of the ways it took. Twice is no error."""
        ...

    async def sources(self) -> tuple[SourceRow, ...]:
        """Return the rows of ``runner sources``."""
        ...

    async def gpus(self) -> GpuTable:
        """Return the table of ``runner gpus``."""
        ...

    def stop(self, *, leave: bool, grace_s: float | None) -> None:
        """Begin a drain, or leave; again hurries."""
        ...


class Box(msgspec.Struct, frozen=True):
    """A machine as the runner may use it: id (a UUID), core numbers, bytes of memory and disk for jobs."""

    id: str
    cores: tuple[int, ...]
    memory: int
    disk: int
    hostname: str = ""


@dataclass(frozen=True)
class World:
    """
    Everything outside, handed to ``build``. Tests give fakes.

    ``containers`` is by runtime, ``dialects`` by name. The openers look up secrets themselves; each raises
    ``ConfigurationError`` for what is not served yet.
    """

    box: Box
    now: Callable[[], float]
    random: Callable[[], float]
    journal: Journal
    credentials: Credentials
    spool: Spool
    workspaces: Workspaces
    blobs: Blobs
    probe: GpuProbe
    containers: Mapping[str, Containers]
    images: Images | None
    dialects: Mapping[str, Dialect]
    open_broker: Callable[[Credential], Broker]
    open_store: Callable[[str, Rights], Store]
    open_results: Callable[[Credential, str], Results | None]
    """Credential and queue name."""
    open_sinks: Callable[[Results | None], Mapping[str, Sink]]
