"""
How process jobs are kept apart on this box, best first, found by trying once.

| where | user | what it sees |
| --- | --- | --- |
| root with ``CAP_SYS_ADMIN`` | a number of its own | its own mounts, network, shared memory, /tmp |
| root without (a plain container) | a number of its own | the box |
| not root, ``bwrap`` works | the runner's | its own mounts, network, processes, /tmp, no home, no state directory |
| else | the runner's | the box |

Nothing here starts a job; ``starter.py`` does. What is missing is named for receipts and ``doctor``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import Literal

import msgspec

from adapters.containers import namespaces, syscalls
from adapters.containers.call_filter import filter_program
from adapters.containers.control import CALL_FILTER, Control
from adapters.containers.namespaces import TEMPORARY, View, is_below
from adapters.containers.ownership import let_pass, shut_ancestor
from adapters.containers.uids import Uids
from runner.errors import Unavailable
from runner.ports import ContainerSpec

Way = Literal["view", "uid", "bwrap", "plain"]

# What each way leaves open, in the words of a receipt.
_MISSING: dict[Way, tuple[str, ...]] = {
    "view": ("reading of files that all users may read", "disk limit"),
    "uid": (
        "network", "private temporary files", "process list", "shared memory",
        "files that all users may read or write", "disk limit",
    ),
    "bwrap": ("user", "reading of files that the runner may read", "disk limit"),
    "plain": ("user", "network", "files", "process list", "shared memory", "disk limit"),
}  # fmt: skip
SERVICES = "/run"
"""Where services have the sockets that every user may speak to: message bus, engines, databases."""
# On NixOS all programs and drivers are found by way of these.
_KEPT_OF_SERVICES = ("/run/current-system", "/run/opengl-driver", "/run/opengl-driver-32")
_BWRAP_LIMIT_S = 10
_FILTER_FD = 9  # above those that take processes into control groups, which are closed by then


class Confinement(msgspec.Struct, frozen=True):
    """What this box can do, with the paths of installed programs; without ``uids`` jobs share the runner's user."""

    way: Way
    setsid: str
    setpriv: str | None = None
    bwrap: str | None = None
    uids: Uids | None = None
    state_dir: str = ""
    secret_places: tuple[str, ...] = ()
    call_filter: bytes = b""

    @property
    def missing(self) -> tuple[str, ...]:
        """Name what is not isolated, limits aside."""
        user = () if self.uids or self.way in ("bwrap", "plain") else ("user",)
        calls = () if self.call_filter else ("system call filter",)
        privileges = () if self.setpriv or self.bwrap or self.call_filter else ("no new privileges",)
        return user + _MISSING[self.way] + calls + privileges

    @property
    def network(self) -> str:
        """Return ``none`` where jobs have no network, else ``host``."""
        return "none" if self.way in ("view", "bwrap") else "host"

    def temporary(self, control: Control) -> str:
        """Return the job's TMPDIR as the job sees it."""
        return TEMPORARY[0] if self.way in ("view", "bwrap") else control.temporary

    def view(self, control: Control, spec: ContainerSpec, secrets: str = "") -> View | None:
        """Return the view to enter before the start, None where there is none; ``secrets`` is the job's directory."""
        if self.way != "view":
            return None
        writable = tuple(os.path.realpath(path) for path in _granted(spec) if os.path.exists(path))
        own = tuple(os.path.realpath(path) for path in (control.job_side, secrets) if path)
        shut = {shut_ancestor(path) for path in (*writable, *own)} if self.uids else set()
        return View(
            temporary=os.path.realpath(control.temporary),
            writable=writable,
            readable=(*own, *_kept_of_services()),
            hidden=(SERVICES, *(path for path in shut if path and not is_below(path, [SERVICES]))),
            shm_bytes=spec.shm,
        )

    def check_reachable(self, control: Control, spec: ContainerSpec) -> None:
        """
        Make sure that a user of its own can get to its workspace.

        Raises:
            Unavailable: a directory above shuts it out, and is not the runner's to open.
        """
        if self.way != "uid":
            return
        for path in (control.job_side, os.path.realpath(spec.workspace)):
            if is_below(path, [self.state_dir]):
                let_pass(path, self.state_dir)
            shut = shut_ancestor(path)
            if shut:
                open_it = f"chmod o+x {shlex.quote(shut)}"
                raise Unavailable(
                    f"start {spec.name}: jobs have a user of their own, and {shut} lets no other user pass to {path}: "
                    f"`{open_it}`, or put the state directory where all may pass, as /var/lib/runner is"
                )

    def prefix(self, control: Control, spec: ContainerSpec, uid: int | None, secrets: str = "") -> list[str]:
        """Return the programs that drop what the job must not have, and then run ``sh``."""
        if self.way == "bwrap" and self.bwrap:
            return [*self._bwrap(control), *self._bwrap_options(control, spec, secrets), "/bin/sh"]
        if self.setpriv is None:
            return [self.setsid, "/bin/sh"]
        drop = [self.setpriv, "--no-new-privs", "--inh-caps=-all"]
        if os.geteuid() == 0:
            drop.append("--bounding-set=-all")
        if uid is None:
            return [self.setsid, *drop, "/bin/sh"]
        # The starter's session is the job's: it cannot signal the starter, which is another user's.
        return [*drop, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/bin/sh"]

    def why_not(self, file: str, spec: ContainerSpec) -> str | None:
        """Tell why the job could not run an existing file, None where it could."""
        real = os.path.realpath(file)
        if is_below(real, [os.path.realpath(path) for path in _granted(spec)]):
            return None
        if self.way == "bwrap":
            covered = is_below(real, self._hidden())
            return f"{real} is hidden from jobs: name its directory in the queue's `paths`" if covered else None
        if self.uids is None:
            return None if os.access(real, os.X_OK) else "the runner's user may not run it: change its mode"
        shut = shut_ancestor(real)
        if shut:
            return f"jobs have a user of their own, and {shut} lets no other user pass: install it where all may"
        allowed = os.stat(real).st_mode & stat.S_IXOTH
        return None if allowed else "jobs have a user of their own, who may not run it: `chmod o+x`"

    def _hidden(self) -> list[str]:
        home = os.path.realpath(os.path.expanduser("~"))
        own = os.path.realpath(self.state_dir)
        return [path for path in (SERVICES, own, home, *TEMPORARY) if path not in ("/", "") and os.path.isdir(path)]

    def _bwrap(self, control: Control) -> list[str]:
        """Return the program, which itself needs calls that it then filters."""
        words = [self.setsid, self.bwrap or "bwrap"]
        if not self.call_filter:
            return words
        path = os.path.join(os.path.dirname(control.path), CALL_FILTER)
        return ["/bin/sh", "-c", f'exec "$@" {_FILTER_FD}< "$0"', path, *words, "--seccomp", str(_FILTER_FD)]

    def _bwrap_options(self, control: Control, spec: ContainerSpec, secrets: str) -> list[str]:
        options = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
        options += ["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc", "--tmpfs", "/dev/shm"]  # noqa: S108 - the job's own
        for path in self._hidden():
            options += ["--bind", control.temporary, path] if path in TEMPORARY else ["--tmpfs", path]
        for path in _kept_of_services():
            options += ["--ro-bind", path, path]
        for path in _granted(spec):
            options += ["--bind-try", path, path]
        # What lies there are secrets, of other jobs and of the runner, whose user is the same.
        for path in filter(os.path.isdir, self.secret_places):
            options += ["--tmpfs", path]
        for path in (control.job_side, secrets):
            options += ["--ro-bind", path, path] if path else []
        return options


def _granted(spec: ContainerSpec) -> list[str]:
    """Return what a job may write to; jobs of the box's own queue may name any path in URLs, and have a view too."""
    return [spec.workspace, *(path for path in spec.paths if os.path.realpath(path) != "/")]


def _kept_of_services() -> list[str]:
    return [path for path in _KEPT_OF_SERVICES if os.path.isdir(path)]


def find_confinement(state_dir: str, uids: Uids | None, secret_places: tuple[str, ...] = ()) -> Confinement:
    """
    Try what this box can do; takes some milliseconds, once. ``secret_places`` are directories that no job looks into.

    Raises:
        Unavailable: ``setsid`` is not installed.
    """
    setsid, setpriv = shutil.which("setsid"), shutil.which("setpriv")
    if setsid is None:
        raise Unavailable("the process runtime needs `setsid`: install util-linux")
    program = filter_program()
    call_filter = program if program and _can(lambda: syscalls.filter_calls(program)) else b""
    if os.geteuid() == 0:
        own = uids if setpriv else None
        way: Way = "view" if _can_enter_view() else ("uid" if own else "plain")
        return Confinement(way, setsid, setpriv, uids=own, state_dir=state_dir, call_filter=call_filter)
    bwrap = shutil.which("bwrap")
    if bwrap and _works(bwrap):
        return Confinement(
            "bwrap", setsid, setpriv, bwrap, state_dir=state_dir, secret_places=secret_places, call_filter=call_filter
        )
    return Confinement("plain", setsid, setpriv, call_filter=call_filter)


def _can_enter_view() -> bool:
    # Deleted by this thread: the other one no longer sees it.
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory() as temporary:
        return _can(lambda: namespaces.enter(View(temporary=temporary, writable=())))
    return False


def _can(change: Callable[[], None]) -> bool:
    """Try what changes a thread for good, in one that ends with it."""
    done = threading.Event()

    def try_it() -> None:
        with contextlib.suppress(OSError):
            change()
            done.set()

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return done.is_set()


def _works(bwrap: str) -> bool:
    """Try it: where unprivileged user namespaces are forbidden, it is installed and cannot do anything."""
    probe = [bwrap, "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(probe, capture_output=True, timeout=_BWRAP_LIMIT_S, check=False).returncode == 0
    return False
