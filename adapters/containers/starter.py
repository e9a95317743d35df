"""
Starts one attempt: everything laid out, then ``starter.sh`` in a view and a place of its own.

Each start has a thread of its own, since entering a view changes a thread for good. Blocks until the command begins.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import queue
import select
import signal
from collections.abc import Iterator
from io import FileIO

import msgspec

from adapters.containers import namespaces, syscalls
from adapters.containers.call_filter import filter_program
from adapters.containers.command import SYSTEM_PATH
from adapters.containers.control import CALL_FILTER, STREAMS, Control
from adapters.containers.namespaces import View
from adapters.containers.spawning import on_cores, spawn
from adapters.files import write_whole
from runner.errors import Unavailable

_SCRIPT = "starter.sh"
_SHELL = "/bin/sh"
_BEGUN = b"begun\n"
_BEGIN_LIMIT_S = 30.0
_BEGIN_LIMIT_BYTES = 4096
_FIRST_GROUP_FD = 5
_STDERR_FD = 2
_LAST_FD = 9  # a POSIX shell can name no higher one
_UMASK = 0o022


class Launch(msgspec.Struct, frozen=True):
    """
    One start: the programs before the job's shell, the groups to join, the cores to stay on, the view to enter, and
    the filter of its system calls where the programs install none themselves.
    """

    control: Control
    prefix: list[str]
    joining: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    view: View | None = None
    call_filter: bytes = b""


def install_script(root: str) -> None:
    """
    Put the starter, and the filter for programs that read it, beside the control directories: a job's view may hide
    where this package is installed.
    """
    with open(os.path.join(os.path.dirname(__file__), _SCRIPT), "rb") as file:
        _install(os.path.join(root, _SCRIPT), file.read())
    _install(os.path.join(root, CALL_FILTER), filter_program())


def _install(path: str, content: bytes) -> None:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read() == content:
            return
    write_whole(path, content, durable=False, mode=0o644)


def launch(start: Launch, lock: int) -> int:
    """
    Start, and return the starter's pid once the command is about to begin; this process is its parent.

    The starter holds the container's open ``lock`` as long as it lives.

    Raises:
        Unavailable: it could not begin, and nothing of it runs.
        OSError: the same, by the system's refusal.
    """
    outcomes: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()

    def launch_alone() -> None:
        try:
            outcomes.put(_launch(start, lock))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            outcomes.put(error)

    # Without the bookkeeping of `threading`, which costs more than the rest of it.
    _thread.start_new_thread(launch_alone, ())
    outcome = outcomes.get()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _launch(start: Launch, lock: int) -> int:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with _opened(start, lock, writer) as descriptors:
            _enter(start)
            pid = _spawn(start, descriptors)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as begin:
        _await_begin(begin, pid, start.control)
    return pid


def _enter(start: Launch) -> None:
    # Held open through the change: the starter works there, whatever the job's view makes of the path.
    here = os.open(start.control.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_FS)
        os.umask(_UMASK)
        if start.view is not None:
            namespaces.enter(start.view)
        os.fchdir(here)
        if start.call_filter:
            syscalls.filter_calls(start.call_filter)
    finally:
        os.close(here)


@contextlib.contextmanager
def _opened(start: Launch, lock: int, writer: int) -> Iterator[list[int]]:
    """Open what the starter gets, in the order of its numbers, each numbered above all of those."""
    with contextlib.ExitStack() as stack:

        def keep(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        def copy(descriptor: int) -> int:
            return keep(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_FD + 1))

        stdout, stderr = (copy(keep(start.control.create_output(stream))) for stream in STREAMS)
        nothing = copy(keep(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)))
        groups = [copy(keep(os.open(path, os.O_WRONLY | os.O_CLOEXEC))) for path in start.joining]
        yield [copy(lock), stdout, nothing, copy(writer), stderr, *groups]


def _spawn(start: Launch, descriptors: list[int]) -> int:
    _keep_private()
    numbers = " ".join(str(number) for number in range(_FIRST_GROUP_FD, len(descriptors)))
    words = ["sh", f"../{_SCRIPT}", start.control.name, numbers, *start.prefix]
    with on_cores(start.cores) if start.cores else contextlib.nullcontext():
        return spawn(_SHELL, words, {"PATH": SYSTEM_PATH}, descriptors)


def _keep_private() -> None:
    """Keep what a library opened, or a parent left open, from the job: spawning closes no descriptor by itself."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > _STDERR_FD:
                os.set_inheritable(int(name), False)  # noqa: FBT003 - its only form


def _await_begin(begin: FileIO, pid: int, control: Control) -> None:
    waiting = select.poll()
    waiting.register(begin, select.POLLIN)
    heard = begin.read(_BEGIN_LIMIT_BYTES) if waiting.poll(_BEGIN_LIMIT_S * 1000) else b""
    if heard == _BEGUN:
        return
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    trouble = heard.decode(errors="replace").strip() or "its starter ended before it began, or hung"
    raise Unavailable(f"start {control.name}: {trouble}: look at the disk and the control groups with `runner doctor`")
