"""
A directory that is a queue: how it is told, made, opened and checked. Never reads a message.

``queue.json`` marks it, is written last, and holds the identity that all boxes agree on wherever they mount it.
"""

from __future__ import annotations

import errno
import os
import uuid
from dataclasses import dataclass
from typing import Literal

import msgspec

from adapters.files import create_whole, explain, make_directory, names_in, sync_directory
from runner.errors import ConfigurationError, RunnerError

MARKER = "queue.json"
PARTS = ("tmp", "ready", "claimed", "later", "dead", "notes")
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WRONG_PLACE = frozenset({errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST})


class _Marker(msgspec.Struct, frozen=True):
    identity: str
    format: Literal[1] = 1


@dataclass(frozen=True)
class Layout:
    """An open queue directory: its root, the identity in its marker, and one path for each part."""

    root: str
    identity: str

    def path(self, part: str, name: str = "") -> str:
        """Return a part's path, or that of a name in it."""
        return f"{self.root}/{part}/{name}" if name else f"{self.root}/{part}"


def queue_directory(root: str, name: str) -> str:
    """Return the directory of the queue that people call ``name``: ``root`` itself, or the one of this name in it."""
    root = os.path.normpath(root)
    if name == os.path.basename(root) and (is_queue(root) or not queues_in(root)):
        return root
    return os.path.join(root, checked_name(name))


def checked_name(name: str) -> str:
    """
    Return a queue's name that can be a directory.

    Raises:
        ConfigurationError: it is a path, hidden, or empty.
    """
    if not is_name(name):
        raise ConfigurationError(f"queue name {name!r}: it names a directory: no slash, no leading dot, not empty")
    return name


def is_name(name: str) -> bool:
    """Tell whether a queue's name can be a directory's."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def is_queue(path: str) -> bool:
    """Tell whether a directory carries the marker."""
    return os.path.isfile(os.path.join(path, MARKER))


def queues_in(root: str) -> tuple[str, ...]:
    """List the queues below a parent directory, sorted."""
    return tuple(sorted(name for name in names_in(root) if is_queue(os.path.join(root, name))))


def open_layout(root: str) -> Layout:
    """
    Open the queue in a directory, for its owner only where it has to be made.

    Raises:
        ConfigurationError: it is no directory, holds something else, cannot be written, or is of a later version.
        OutOfSpace: it cannot be made.
        Unavailable: the file system does not answer as it should.
    """
    try:
        if not is_queue(root):
            _check_free(root)
        for part in PARTS:
            make_directory(os.path.join(root, part))
        layout = Layout(root, _identity(root))
        _check_writable(layout)
        return layout
    except OSError as error:
        raise _explain_opening(error, root) from error


def _check_free(root: str) -> None:
    """Refuse to spread a queue's parts over a directory that is something else."""
    make_directory(root)
    sync_directory(os.path.dirname(root))
    if queues := queues_in(root):
        raise ConfigurationError(
            f"open queue {root}: it is no queue but holds {', '.join(queues)}: name one of them with ?queue="
        )
    if foreign := sorted(set(names_in(root)) - {*PARTS, MARKER, "results"}):
        raise ConfigurationError(
            f"open queue {root}: it is no queue and holds other files ({foreign[0]}): name an empty or new directory"
        )


def _check_writable(layout: Layout) -> None:
    """Ask without writing anything, so that a queue on a full disk can still be opened, and emptied."""
    for part in PARTS:
        if not os.access(layout.path(part), os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), layout.path(part))


def _identity(root: str) -> str:
    path = os.path.join(root, MARKER)
    if not os.path.exists(path):
        create_whole(path, msgspec.json.encode(_Marker(str(uuid.uuid4()))), mode=0o644)
    with open(path, "rb") as file:
        content = file.read()
    try:
        return msgspec.json.decode(content, type=_Marker).identity
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"open queue {root}: {MARKER} cannot be used ({error}): it was made by a later version, or damaged"
        ) from error


def _explain_opening(error: OSError, root: str) -> RunnerError:
    if error.errno in _DENIED:
        return ConfigurationError(
            f"open queue {root}: user {os.geteuid()} may not write to {error.filename} ({error.strerror}): give the"
            " directory to that user, or mount it writable, or name another"
        )
    if error.errno in _WRONG_PLACE:
        return ConfigurationError(f"open queue {root}: it, or what it lies in, is no directory: name another")
    return explain(error, "open queue", root)
