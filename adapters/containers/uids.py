"""
Users that exist by number only: each running job has one of its own, so that no job can touch another or the runner.

A claim is a symbolic link named by the number, in a directory that all runners of the machine share and that a reboot
empties; it points to the control directory of its container. Every function blocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator

from runner.errors import Unavailable

CLAIMS = "/run/runner/uids"


class Uids:
    """A range of user numbers, used as group numbers too, and who has which."""

    def __init__(self, first: int, count: int, claims: str = CLAIMS) -> None:
        self.first = first
        self.count = count
        # Shared with every runner on this machine, whatever its state directory.
        self._claims = claims

    def claim(self, owner: str) -> int:
        """
        Return the number that this control directory has, or a free one that is its from now on.

        Raises:
            Unavailable: all are taken.
        """
        with self._locked():
            taken = self._taken()
            for uid, holder in taken.items():
                if holder == owner:
                    return uid
            for uid in self._in_turn(owner):
                if uid not in taken or self._is_stale(taken[uid], uid):
                    os.symlink(owner, self._path(uid))
                    return uid
        raise Unavailable(
            f"start {owner}: all {self.count} users from {self.first} on have a job: widen the range of uids, "
            f"or look in {self._claims} for containers that should be gone"
        )

    def holds(self, uid: int, owner: str) -> bool:
        """Tell whether this number is still this control directory's; after a reboot none is."""
        try:
            return os.readlink(self._path(uid)) == owner
        except OSError:
            return False

    def release(self, uid: int, owner: str) -> None:
        """Give a number back; no process of it may be left. Idempotent."""
        with self._locked():
            if self.holds(uid, owner):
                os.unlink(self._path(uid))

    def kill_all(self, uid: int) -> None:
        """Kill every process of a number at once; none can escape by forking."""
        subprocess.run(
            ["/bin/sh", "-c", "kill -9 -1"],
            user=uid, group=uid, extra_groups=[], check=False, timeout=10, cwd="/", env={}, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _in_turn(self, owner: str) -> Iterator[int]:
        """Begin at another place for each owner, so that a number rests before the next job gets it."""
        start = hash(owner) % self.count
        return (self.first + (start + step) % self.count for step in range(self.count))

    def _is_stale(self, holder: str, uid: int) -> bool:
        if os.path.lexists(holder):
            return False
        self.kill_all(uid)
        os.unlink(self._path(uid))
        return True

    def _taken(self) -> dict[int, str]:
        names = [name for name in os.listdir(self._claims) if name.isdigit()]
        return {int(name): os.readlink(os.path.join(self._claims, name)) for name in names}

    def _path(self, uid: int) -> str:
        return os.path.join(self._claims, str(uid))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._claims, mode=0o755, exist_ok=True)
        descriptor = os.open(os.path.join(self._claims, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def mapped(first: int, count: int) -> bool:
    """Tell whether this process may use these numbers: a container may have been given fewer."""
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        for line in lines:
            start, _, length = map(int, line.split())
            if start <= first and first + count <= start + length:
                return True
    return False
