"""
Nothing that tests and services start may outlive them.

`kept` runs its work as a child of a process that adopts every orphan below it, so that a process which left its
session, its group and its parent is still found. `descendants` names what is alive, `end_all` ends it.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# From linux/prctl.h.
SET_PDEATHSIG = 1
SET_CHILD_SUBREAPER = 36
# What a broker has to look names up may go on with that for seconds after the broker was killed.
GRACE_S = 15.0
POLL_INTERVAL_S = 0.05
EMPTY_LOOKS = 2


def kept(work: Callable[[int], int]) -> int:
    """
    Run `work` in a child, with the pid of its keeper, and return its exit code; returns in both processes.

    The keeper reaps whatever is orphaned, and when the child has ended kills what is left.
    """
    _control(SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        # A keeper that is killed cannot clean up, so its child does.
        _control(SET_PDEATHSIG, signal.SIGTERM)
        return work(keeper)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: _pass_on(child, received))
    status = _reap_until_gone(child)
    end_all(keeper)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def descendants(keeper: int, without: frozenset[int] = frozenset()) -> dict[int, str]:
    """Name each living process below `keeper`, except those in `without` and this one."""
    parents = {pid: (parent, name) for pid, parent, name in _processes()}
    left = {pid: name for pid, (_, name) in parents.items() if _is_below(pid, keeper, parents)}
    return {pid: name for pid, name in left.items() if pid not in without and pid != os.getpid()}


def await_none(keeper: int, without: frozenset[int] = frozenset(), grace_s: float = GRACE_S) -> dict[int, str]:
    """Give processes that are ending a moment, then return those that still run."""
    deadline = time.monotonic() + grace_s
    empty = 0
    # Twice, since a process that forks and exits during one look can hide from that look.
    while empty < EMPTY_LOOKS:
        left = descendants(keeper, without)
        if left and time.monotonic() >= deadline:
            return left
        empty = 0 if left else empty + 1
        time.sleep(POLL_INTERVAL_S)
    return {}


def end_all(keeper: int, without: frozenset[int] = frozenset()) -> None:
    """Kill each process below `keeper`, and reap those that are its own children."""
    for pid in descendants(keeper, without):
        os.kill(pid, signal.SIGKILL)
    if keeper == os.getpid():
        _reap_until_gone(None)


def _control(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) was refused")


def _leave(number: int, _: object) -> None:
    """Unwind as on any exit, so that services stop and files are put back."""
    sys.exit(128 + number)


def _pass_on(child: int, number: int) -> None:
    # A terminal sends Ctrl-C to both; passing it on again would interrupt the cleaning up.
    if number != signal.SIGINT:
        os.kill(child, number)


def _reap_until_gone(child: int | None) -> int:
    """Reap until `child` has ended and return its status; with None, until there is no child at all."""
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return 0
        if pid == child:
            return status


def _is_below(pid: int, keeper: int, parents: dict[int, tuple[int, str]]) -> bool:
    while pid in parents:
        pid = parents[pid][0]
        if pid == keeper:
            return True
    return False


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield pid, parent's pid and name of each process that is not a zombie."""
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                head, _, tail = (directory / "stat").read_text().rpartition(")")
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            state, parent, *_ = tail.split()
            if state != "Z":
                yield int(directory.name), int(parent), command or head.partition("(")[2]
