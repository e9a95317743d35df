"""
Walks and deletes directory trees that somebody hostile may have made: any depth, any modes, changing meanwhile.

A walk holds one directory open, whatever the depth, and goes back up through ``..`` only where that is the directory it
came from. Nothing here follows a link. Everything here blocks; call it from a thread.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from adapters.beneath import DIRECTORY, open_directory

# 4 KiB. File systems are made with room for a file in every 16 KiB or so; then none can be made by anybody.
_LEAST_BLOCKS = 8

Identity = tuple[int, int]
ROUNDS_MAX = 10_000_000
"""Each round deletes or moves something; deleting gives up only where somebody creates as fast."""


class Found(NamedTuple):
    """
    One entry: its name in the open directory ``at``, the names above it, and its own state, links not followed.

    ``at`` and ``above`` are good until the walk goes on.
    """

    name: str
    at: int
    above: Sequence[str]
    state: os.stat_result


def _everywhere(_above: Sequence[str], _name: str) -> bool:
    return True


@dataclass
class _Level:
    """A directory on the way down: how to know it again, and which of its directories are still to be seen."""

    identity: Identity
    pending: list[str] = field(default_factory=list)


def walk(
    root: int, *, ordered: bool = False, enter: Callable[[Sequence[str], str], bool] = _everywhere
) -> Iterator[Found]:
    """
    Yield every entry below an open directory, a directory before what it holds; what vanishes meanwhile is left out.

    ``ordered`` gives the entries of each directory by name; ``enter`` says by path whether a directory is gone into.
    """
    here, names = os.dup(root), list[str]()
    levels = [_Level(_identity(here))]
    try:
        yield from _entries(here, names, levels[-1], ordered=ordered)
        while levels:
            name = _next_inside(levels[-1], names, enter)
            step = _down(here, name, levels, names) if name is not None else _up(root, here, levels, names)
            if step is None:
                continue
            os.close(here)
            here = step
            if name is not None:
                yield from _entries(here, names, levels[-1], ordered=ordered)
    finally:
        os.close(here)


def _identity(fd: int) -> Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _entries(here: int, names: list[str], level: _Level, *, ordered: bool) -> Iterator[Found]:
    with os.scandir(here) as listing:
        for entry in sorted(listing, key=lambda entry: entry.name) if ordered else listing:
            try:
                found = Found(entry.name, here, names, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(found.state.st_mode):
                level.pending.append(entry.name)
            yield found
    level.pending.reverse()


def _next_inside(level: _Level, names: list[str], enter: Callable[[Sequence[str], str], bool]) -> str | None:
    while level.pending:
        name = level.pending.pop()
        if enter(names, name):
            return name
    return None


def _down(here: int, name: str, levels: list[_Level], names: list[str]) -> int | None:
    """Go into a directory; None where it is gone, may not be read, or became something else."""
    try:
        inner = os.open(name, DIRECTORY, dir_fd=here)
    except OSError:
        return None
    levels.append(_Level(_identity(inner)))
    names.append(name)
    return inner


def _up(root: int, here: int, levels: list[_Level], names: list[str]) -> int | None:
    """Leave a directory for the one it was entered from; where that moved, for the nearest one above that did not."""
    levels.pop()
    if not levels:
        return None
    names.pop()
    above = _known(lambda: os.open("..", DIRECTORY, dir_fd=here), levels[-1])
    while above is None:
        above = _known(lambda: open_directory(root, names), levels[-1])
        if above is None:
            levels.pop()
            names.pop()
    return above


def _known(reach: Callable[[], int], level: _Level) -> int | None:
    """Return the directory reached if it is the one that the walk remembers."""
    try:
        fd = reach()
    except OSError:
        return None
    if _identity(fd) == level.identity:
        return fd
    os.close(fd)
    return None


def remove_tree(path: str) -> None:
    """
    Delete what stands at ``path``, whatever it is; idempotent.

    Directories in directories are moved up into the top one before they are emptied, so no depth is too much.

    Raises:
        OSError: something could not be deleted; the rest is.
    """
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
    except OSError:
        _remove_full(path)


def _remove_full(path: str) -> None:
    root = _open_forced(path, None)
    try:
        for _ in range(ROUNDS_MAX):
            if not _empty(root, root):
                break
    finally:
        os.close(root)
    os.rmdir(path)


def _empty(directory: int, root: int) -> bool:
    """Delete the files of a directory; its directories are emptied where it is the root, else moved there."""
    found_any = False
    with os.scandir(directory) as listing:
        for entry in listing:
            found_any = True
            if not entry.is_dir(follow_symlinks=False):
                _forced(directory, functools.partial(os.unlink, entry.name, dir_fd=directory))
            elif directory == root:
                _remove_inner(entry.name, root)
            else:
                _move_up(entry.name, directory, root)
    return found_any


def _remove_inner(name: str, root: int) -> None:
    inner = _open_forced(name, root)
    try:
        for _ in range(ROUNDS_MAX):
            if not _empty(inner, root):
                break
    finally:
        os.close(inner)
    _forced(root, lambda: os.rmdir(name, dir_fd=root))


def _move_up(name: str, directory: int, root: int) -> None:
    """Move a directory into the root under a name of its own; its ``..`` changes, so it must be writable itself."""
    os.close(_open_forced(name, directory))
    fresh = f".{secrets.token_hex(12)}"
    _forced(directory, lambda: os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=root))


def _forced(directory: int, change: Callable[[], None]) -> None:
    """Make a change in a directory, taking the right to write there where it is ours; what is gone is no error."""
    with contextlib.suppress(FileNotFoundError):
        try:
            change()
        except PermissionError:
            os.fchmod(directory, stat.S_IRWXU)
            change()


def _open_forced(name: str, at: int | None) -> int:
    """Open a directory of ours whatever its mode, never through a link."""
    try:
        fd = os.open(name, DIRECTORY, dir_fd=at)
    except PermissionError:
        _take_rights(name, at)
        return os.open(name, DIRECTORY, dir_fd=at)
    if os.geteuid() and os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, stat.S_IRWXU)
    return fd


def _take_rights(name: str, at: int | None) -> None:
    """Change a directory's mode without opening it for reading; the detour keeps links from being followed."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)
    except OSError as error:
        raise PermissionError(errno.EACCES, "may not be deleted by this user", name) from error
    finally:
        os.close(handle)


def used_below(root: int, check: Callable[[], object]) -> int:
    """
    Add up the bytes on disk below an open directory, a file of several names once; ``check`` may break off.

    An empty file counts, too: it takes an entry of the disk's table.
    """
    blocks, counted = os.fstat(root).st_blocks, set[tuple[int, int]]()
    for found in walk(root):
        check()
        identity = found.state.st_dev, found.state.st_ino
        if found.state.st_nlink == 1 or identity not in counted:
            blocks += max(found.state.st_blocks, _LEAST_BLOCKS)
        if found.state.st_nlink > 1:
            counted.add(identity)
    return blocks * 512
