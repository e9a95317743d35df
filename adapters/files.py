"""
Whole files: written so that a reader, a kill or a power cut meets all of one or nothing of it.

Owns the one way in which adapters replace and create small files, and what an ``OSError`` means to the rest of the
house. Everything here blocks; call it from a thread. Temporary names begin with a dot, so that listings skip them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator

from runner.errors import OutOfSpace, RunnerError, Unavailable

OWNER_FILE = 0o600
OWNER_DIRECTORY = 0o700
SMALL_BYTES = 64 << 10
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_whole(path: str, data: bytes, *, durable: bool = True, mode: int = OWNER_FILE) -> None:
    """
    Put ``data`` in the place of what stood at ``path``, in one step.

    With ``durable`` it also survives a power cut once this returned, else only a kill of the process.

    Raises:
        OSError: nothing changed at ``path``.
    """
    with _written(path, data, durable=durable, mode=mode) as temporary:
        os.rename(temporary, path)
    if durable:
        sync_directory(os.path.dirname(path))


def create_whole(path: str, data: bytes, *, durable: bool = True, mode: int = OWNER_FILE) -> bool:
    """
    Put ``data`` at ``path`` if nothing stands there; False, and no change, where something does.

    Of several callers, on one box or many, exactly one gets True. The file system must have hard links.

    Raises:
        OSError: nothing stands at ``path`` by this call.
    """
    with _written(path, data, durable=durable, mode=mode) as temporary:
        created = _link_exclusively(temporary, path)
        remove_file(temporary)
    if created and durable:
        sync_directory(os.path.dirname(path))
    return created


def write_new(path: str, data: bytes, *, durable: bool = True, mode: int = OWNER_FILE) -> None:
    """Write a file that must not exist, in place: for names that nobody reads before they are moved."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def read_small(path: str) -> bytes:
    """
    Read a file of at most 64 KiB, such as those of /proc and ours; a third of the cost of ``open``.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, SMALL_BYTES)
    finally:
        os.close(fd)


def make_directory(path: str) -> None:
    """Make a directory and those above it that are missing, all for the owner only; what stands stays as it is."""
    if os.path.isdir(path):
        return
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(path, OWNER_DIRECTORY)
        except FileNotFoundError:
            make_directory(os.path.dirname(path) or ".")
            os.mkdir(path, OWNER_DIRECTORY)


def sync_directory(path: str) -> None:
    """Wait until the names in a directory are on the disk."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_file(path: str) -> bool:
    """Delete a name; False where there was none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def names_in(path: str) -> list[str]:
    """List a directory without the names that begin with a dot, unsorted; [] where it is missing."""
    try:
        return [name for name in os.listdir(path) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however the kernel splits it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def explained(doing: str, path: str) -> Iterator[None]:
    """
    Say what an ``OSError`` of the body means.

    Raises:
        OutOfSpace: the disk, its inodes or a quota are used up.
        Unavailable: anything else.
    """
    try:
        yield
    except OSError as error:
        raise explain(error, doing, path) from error


def explain(error: OSError, doing: str, path: str) -> RunnerError:
    """Return the error that the rest of the house understands: what was attempted, where, and what to do."""
    if error.errno in _FULL:
        return OutOfSpace(f"{doing}: no space or no inodes left for {path}: free some (look with `df` and `df -i`)")
    where = error.filename if isinstance(error.filename, str) else path
    return Unavailable(f"{doing}: {where}: {error.strerror or error}: check that it is mounted, there, and this user's")


@contextlib.contextmanager
def _written(path: str, data: bytes, *, durable: bool, mode: int) -> Iterator[str]:
    """Give a temporary file beside ``path`` that holds ``data``, for the body to take away; gone when that fails."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(8)}")
    try:
        write_new(temporary, data, durable=durable, mode=mode)
        yield temporary
    except BaseException:
        remove_file(temporary)
        raise


def _link_exclusively(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over NFS the reply to a link that was made can be lost, and the repeated request then finds its own work.
        return os.stat(temporary).st_nlink > 1
    return True
