"""
Secrets of containers as files in memory: one directory a container, which its job's user alone can read.

They stand on a tmpfs, so that no disk ever holds them (a kernel with swap may write any memory there), and outlive the
runner as the containers do. Every function blocks.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence

from adapters.containers.syscalls import is_in_memory
from adapters.files import explained, names_in, read_small, write_new
from adapters.redaction import Redaction, redaction_of
from adapters.trees import remove_tree
from runner.errors import OutOfSpace, RunnerError, SecretMissing, Unavailable

SECRETS_VARIABLE = "RUNNER_SECRETS_DIR"
_PASS_THROUGH = 0o711  # others may go through to a name they know, and list nothing
_FOR_THE_JOB = 0o550
Values = Callable[[Iterable[str]], dict[str, bytes]]
"""Return secrets by name; raises SecretMissing where the box lacks one."""


def no_secrets(names: Iterable[str]) -> dict[str, bytes]:
    """Be a box without any."""
    for name in names:
        raise SecretMissing(f"this box has no secret {name}, which the job asks for")
    return {}


def places_in_memory() -> tuple[str, ...]:
    """Return where a box may have room in memory, best first; each is the runner's user's own."""
    if os.geteuid() == 0:
        return "/run/runner/secrets", "/dev/shm/runner-secrets"  # noqa: S108 - checked to be ours before it is used
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    shared = f"/dev/shm/runner-secrets-{os.geteuid()}"  # noqa: S108 - the same
    return (f"{own}/runner-secrets", shared) if own.startswith("/") else (shared,)


class SecretShelf:
    """
    The secrets of one runtime's containers.

    Args:
        owner: tells this shelf from those of other boxes and runtimes on the machine.
        values: looks secrets up.
        places: directories of which the first that is in memory and the runner's own is used.
        known: every secret of the box, whoever has it.
    """

    def __init__(
        self,
        owner: str,
        values: Values,
        places: Sequence[str] | None = None,
        known: Callable[[], Iterable[bytes]] = tuple,
    ) -> None:
        self.values = values
        self._known = known
        self._owner = owner
        self._places = places_in_memory() if places is None else tuple(places)

    @property
    def places(self) -> tuple[str, ...]:
        """Return the directories that jobs of the same user must not look into: made, so that they can be hidden."""
        if os.geteuid() != 0:
            with contextlib.suppress(OSError, RunnerError):
                self._root()
        return self._places

    def path(self, name: str) -> str:
        """
        Say where a container's secrets are to stand; the directories above are made.

        Raises:
            SecretMissing: nothing here is in memory.
        """
        return os.path.join(self._root(), name)

    def make(self, name: str) -> str:
        """
        Make a container's directory, empty, and return its path. Idempotent.

        Raises:
            SecretMissing: nothing here is in memory.
        """
        path = self.path(name)
        with explained(f"lay out the secrets of {name}", path):
            os.makedirs(path, mode=stat.S_IRWXU, exist_ok=True)
        return path

    def fill(self, name: str, values: Mapping[str, bytes], uid: int) -> str:
        """
        Lay the values out for a job's user, in place of what an earlier try left, and return the directory.

        The files are the user's; the directory stays the runner's, so that the job puts nothing beside them.
        """
        path = self.make(name)
        with explained(f"lay out the secrets of {name}", path):
            os.chmod(path, stat.S_IRWXU)
            for old in os.listdir(path):
                os.unlink(os.path.join(path, old))
            for key, value in values.items():
                write_new(os.path.join(path, key), value, durable=False, mode=stat.S_IRUSR)
                self._give(os.path.join(path, key), uid, uid)
            os.chmod(path, _FOR_THE_JOB)
            self._give(path, os.geteuid(), uid)
        return path

    def _give(self, path: str, uid: int, gid: int) -> None:
        if gid != os.geteuid():
            os.chown(path, uid, gid)

    def remove(self, name: str) -> None:
        """Delete a container's secrets. Idempotent."""
        for place in self._places:
            remove_tree(os.path.join(place, self._owner, name))

    def values_of(self, name: str) -> tuple[bytes, ...]:
        """
        Return what a container was given, also in an earlier life; () where that is nothing.

        The files are its job's, which may have made them longer than any secret is.
        """
        found = [os.path.join(place, self._owner, name) for place in self._places]
        return tuple(read_small(os.path.join(path, key)) for path in found for key in names_in(path))

    def redaction(self, name: str) -> Redaction:
        """Return what is covered in a container's output: what it was given, and every other secret of the box."""
        return redaction_of(frozenset((*self.values_of(name), *self._known())))

    def names(self) -> frozenset[str]:
        """Name the containers that have secrets here, also of earlier lives."""
        return frozenset(name for place in self._places for name in names_in(os.path.join(place, self._owner)))

    def _root(self) -> str:
        reasons = []
        for place in self._places:
            try:
                return self._usable(place)
            except OutOfSpace:
                raise
            except (OSError, RunnerError) as error:
                reasons.append(str(error))
        raise SecretMissing(
            f"secrets are kept in memory only, and this box has no place for them: {'; '.join(reasons)}"
        )

    def _usable(self, place: str) -> str:
        root = os.path.join(place, self._owner)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        for directory in (place, root):
            _make_own(directory)
        if not is_in_memory(root):
            raise Unavailable(f"{place} is on a disk, not on a tmpfs")
        return root


def _make_own(directory: str) -> None:
    """Make a directory that others may pass through; one of somebody else is not used."""
    try:
        os.mkdir(directory, _PASS_THROUGH)
    except FileExistsError:
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise Unavailable(f"{directory} is somebody else's") from None
    os.chmod(directory, _PASS_THROUGH)


def variable(name: str, value: bytes) -> str:
    """
    Return a secret as the text of a variable, without the line ends that editors put behind it.

    Raises:
        SecretMissing: no variable can have it.
    """
    try:
        text = value.decode().rstrip("\n")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SecretMissing(
            f"secret {name} is no text, so it cannot be a variable: take secrets_in_env out of the queue's file"
        )
    return text
