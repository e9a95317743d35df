"""
Reads one job's records and events as they are written, by whatever process, in the order in which they are told.

Several boxes may have had one attempt, one after the other: the job's own output is then that of the box whose receipt
stands, else of the one that began last, and what the runners said is told of all.
"""

from __future__ import annotations

from adapters.results.folder_jobs import JobFile, Jobs, decode_events, file_name, read_file
from adapters.results.folder_lines import LineReader
from adapters.results.reading import read
from adapters.results.telling import OUTPUT, Telling
from adapters.watch import Watch
from runner.job import Key, safe_name
from runner.ports import LogLine, Position
from runner.receipt import Event, Receipt

FIRST_BYTES = 64
"""Enough to see how long the first record is, which is then read whole."""


class Follower:
    """One reader of one job, from a position on. Blocks; for one thread, but for ``wake``."""

    def __init__(self, jobs: Jobs, job_id: str, position: Position) -> None:
        self._jobs = jobs
        self._job_id = job_id
        # Found once and then kept, also when a newer job of this id comes.
        self._key: Key | None = None
        self._watch = Watch(jobs.path("ids"))
        self._telling = Telling(position)
        # By file name: the bytes of events read, and the readers of records.
        self._read_bytes: dict[str, int] = {}
        self._readers: dict[str, LineReader] = {}
        # By file name: when its first record was written, in epoch nanoseconds.
        self._began_ns: dict[str, int] = {}
        self._gone = False

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will come."""
        return self._gone or self._telling.ended

    def read(self) -> list[LogLine | Event]:
        """Return what is new, about 1 MiB of it; [] where nothing is. ``ended`` tells that nothing more will come."""
        self._key = self._key or self._find()
        if self._key is None or self.ended:
            return []
        try:
            while True:
                batch, progress = self._read_batch(self._key)
                if batch or not progress:
                    return batch
        except FileNotFoundError:
            self._gone = True  # it was pruned while it was read
            return []

    def wait(self, limit_s: float) -> None:
        """Return when something may be new, or after ``limit_s``."""
        self._watch.wait(limit_s)

    def wake(self) -> None:
        """End the present wait."""
        self._watch.wake()

    def close(self) -> None:
        """Stop watching; no wait may be in progress."""
        self._watch.close()

    def _find(self) -> Key | None:
        key = self._jobs.find(self._job_id)
        if key is not None:
            self._watch.close()
            self._watch = Watch(self._jobs.path("jobs", key))
        return key

    def _read_batch(self, key: Key) -> tuple[list[LogLine | Event], bool]:
        """Read events, then records, so that all records told before an event are there when its turn comes."""
        files = self._jobs.files(key)
        if not files and (self._read_bytes or self._readers):
            raise FileNotFoundError(self._jobs.path("jobs", key))
        for file in files:
            if file.kind == "events":
                self._read_events(key, file)
        lines = self._read_lines(key, [file for file in files if file.kind == "lines"])
        if lines is not None:
            return list(self._telling.merged(lines)), True
        return list(self._telling.rest()), False

    def _read_events(self, key: Key, file: JobFile) -> None:
        content = read_file(self._jobs.path("jobs", f"{key}/{file.name}"))
        whole = content.rpartition(b"\n")[0] + b"\n"
        self._telling.hear(decode_events(whole[self._read_bytes.get(file.name, 0) :]))
        self._read_bytes[file.name] = len(whole) if len(whole) > 1 else 0

    def _read_lines(self, key: Key, files: list[JobFile]) -> list[LogLine] | None:
        """Return the next records of the first attempt and box that have new ones; None: there are no new ones."""
        for attempt in sorted({file.attempt for file in files}):
            boxes = [file for file in files if file.attempt == attempt]
            for file in boxes if len(boxes) == 1 else sorted(boxes, key=lambda file: self._began(key, file)):
                lines = self._reader(key, file).read()
                if lines and (len(boxes) == 1 or self._speaks(key, file, boxes)):
                    return lines
                if lines:
                    return [line for line in lines if line.stream not in OUTPUT]
        return None

    def _speaks(self, key: Key, file: JobFile, boxes: list[JobFile]) -> bool:
        """Tell whether this box's output of the attempt is the one that counts."""
        path = self._jobs.path("jobs", f"{key}/{file_name('receipt', file.attempt)}")
        receipt = read(read_file(path), Receipt)
        winner = safe_name(receipt.box or "") if receipt else ""
        if winner in {other.box for other in boxes}:
            return file.box == winner
        return file == max(boxes, key=lambda other: self._began(key, other))

    def _began(self, key: Key, file: JobFile) -> int:
        if file.name not in self._began_ns:
            first = LineReader(self._jobs.path("jobs", f"{key}/{file.name}"), file.attempt).read(FIRST_BYTES)
            if not first:
                return 0
            self._began_ns[file.name] = first[0].at_ns
        return self._began_ns[file.name]

    def _reader(self, key: Key, file: JobFile) -> LineReader:
        if file.name not in self._readers:
            self._readers[file.name] = LineReader(self._jobs.path("jobs", f"{key}/{file.name}"), file.attempt)
        return self._readers[file.name]
