"""
The control directory of one process container: what was started, its pids, its raw output, how it ended.

| file | written by | holds |
| --- | --- | --- |
| ``spec`` | the runner, before the start | a :class:`Record` |
| ``lock`` | the runner | nothing; locked by the starter as long as it lives, which makes a reused pid harmless |
| ``pid`` | the starter, exclusively | its own pid, then the job's, a line each |
| ``run`` | the runner, deleted once it began | the job's environment, limits and command, for ``sh`` |
| ``stdout``, ``stderr`` | the job | raw output |
| ``exit`` | the starter | the exit code over a placeholder |
| ``steps`` | the job's shell, through a descriptor | the exit code of each step that ended, a line each |
| ``job/deadline``, ``job/tmp`` | the runner, the job | the only parts that the job may reach |

Every function blocks for as long as a local disk takes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable

import msgspec

from adapters.containers import steps
from adapters.files import explained, read_small, write_new, write_whole
from adapters.trees import remove_tree, used_below
from runner.errors import BadInput
from runner.job import ID_PATTERN
from runner.receipt import Isolation

STREAMS = ("stdout", "stderr")
CALL_FILTER = "call_filter"
"""Beside the directories of all containers: the filter of system calls, as the kernel takes it."""
PASS_THROUGH = 0o711  # others may go through to a name they know, and list nothing
_READABLE = 0o644
_PLACEHOLDER = b"...\n"


class Record(msgspec.Struct, frozen=True):
    """
    What an earlier life of the runner made.

    ``uid`` is None where the job shares the runner's user; ``groups`` are control group directories by hierarchy;
    ``wrapped``: the first process only stands for the job's, as that of ``bwrap`` does.
    """

    name: str
    box: str
    started_at: float
    workspace: str
    isolation: Isolation
    uid: int | None = None
    groups: dict[str, str] = {}
    wrapped: bool = False


_DECODE = msgspec.json.Decoder(Record).decode


class Pids(msgspec.Struct, frozen=True):
    """The starter and, once it began, the job's first process; a starter of 0 was killed as it claimed."""

    starter: int
    job: int | None = None


class Control:
    """One container's directory, whether it exists or not."""

    def __init__(self, root: str, name: str) -> None:
        if not ID_PATTERN.fullmatch(name):
            raise BadInput(f"{name!r} cannot name a container: use letters, digits and ._-, at most 128")
        self.name = name
        self.path = os.path.join(root, name)
        self.temporary = self._file("job/tmp")
        self.deadline = self._file("job/deadline")
        self.job_side = self._file("job")

    def output(self, stream: str) -> str:
        """Return the path of a raw output file."""
        return self._file(stream)

    def make(self) -> None:
        """Make the directory; others may pass through it but see nothing in it."""
        with explained("make a control directory", self.path):
            os.makedirs(self.path, exist_ok=True)

    def record(self) -> Record | None:
        """Return what was written before the start; None where nothing was, or a kill tore it."""
        try:
            return _DECODE(read_small(self._file("spec")))
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def save(self, record: Record) -> None:
        """Write what is about to be started."""
        write_whole(self._file("spec"), msgspec.json.encode(record), durable=False)

    def lay_out(self, *, run: bytes, deadline_at: float | None, uid: int | None, has_steps: bool) -> None:
        """Write everything that the starter finds, in place of what an unfinished start left."""
        for name in ("run", "exit", "steps", *STREAMS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._file(name))
        remove_tree(self.job_side)
        os.makedirs(self.temporary)
        if uid is not None:
            os.chown(self.temporary, uid, uid)
        os.chmod(self.temporary, stat.S_IRWXU)
        for directory in (self.path, self.job_side):
            os.chmod(directory, PASS_THROUGH)
        write_new(self.deadline, b"" if deadline_at is None else b"%.3f\n" % deadline_at, durable=False)
        os.chmod(self.deadline, _READABLE)
        write_new(self._file("exit"), _PLACEHOLDER, durable=False)
        if has_steps:
            write_new(self._file("steps"), b"", durable=False)
        write_new(self._file("run"), run, durable=False)

    def tell_deadline(self, at: float) -> None:
        """Write another deadline, in place: a job may see nothing but this very file. No error once it is gone."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            descriptor = os.open(self.deadline, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(descriptor, os.pwrite(descriptor, b"%.3f\n" % at, 0))
            finally:
                os.close(descriptor)

    def create_output(self, stream: str) -> int:
        """
        Create a raw output file and return it open for appending; the caller closes.

        Its mode keeps the job from opening it again and cutting it off, as ``> /dev/stderr`` would.
        """
        return os.open(self._file(stream), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)

    def forget_run(self) -> None:
        """Delete the job's environment, once its shell holds it open."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file("run"))

    def pids(self) -> Pids | None:
        """Return who claimed the attempt; None: nobody did."""
        try:
            found = [int(line) for line in read_small(self._file("pid")).split(b"\n")[:-1]]
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Pids(*found[:2]) if found else Pids(0)

    def exit_code(self) -> int | None:
        """Return the exit code, None where the starter did not get to write it."""
        with contextlib.suppress(OSError, ValueError):
            return int(read_small(self._file("exit")))
        return None

    def step_codes(self) -> tuple[int, ...]:
        """Return the exit codes of the steps that ended, in order."""
        return steps.codes(self._file("steps"))

    def ended_at(self) -> float | None:
        """Return when the exit code was written."""
        with contextlib.suppress(OSError):
            return os.stat(self._file("exit")).st_mtime
        return None

    def try_lock(self, *, shared: bool = False) -> int | None:
        """Lock the container and return the open lock; None while its starter, or another start, has it."""
        descriptor = os.open(self._file("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if shared or self._is_current(descriptor):
            return descriptor
        os.close(descriptor)
        return None

    def is_alive(self) -> bool:
        """Tell whether the starter lives."""
        try:
            descriptor = self.try_lock(shared=True)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def temporary_bytes(self, check: Callable[[], object]) -> int:
        """Measure what the job's temporary directory holds; ``check`` may break it off."""
        try:
            root = os.open(self.temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            return used_below(root, check)
        finally:
            os.close(root)

    def delete(self) -> None:
        """Delete the directory, last of all the record that names what else belongs to the container."""
        with contextlib.suppress(FileNotFoundError):
            remove_tree(self.job_side)
            for name in os.listdir(self.path):
                if name != "spec":
                    os.unlink(self._file(name))
            remove_tree(self.path)

    def _is_current(self, lock: int) -> bool:
        """Tell whether an open lock is still the one that others find, and not that of a deleted directory."""
        try:
            return os.path.samestat(os.fstat(lock), os.stat(self._file("lock")))
        except FileNotFoundError:
            return False

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)
