"""Whose a workspace is: the job's while it runs, the runner's before and after."""

from __future__ import annotations

import contextlib
import os
import stat


def hand_over(workspace: str, uid: int) -> None:
    """
    Make the workspace and all in it belong to ``uid`` alone, never through a link.

    A file with a second name stays whose it is: the other name may be in the cache, where no job may write.
    """
    os.chown(workspace, uid, uid, follow_symlinks=False)
    os.chmod(workspace, 0o700)
    for _, directories, files, at in os.fwalk(workspace, follow_symlinks=False):
        for name in (*directories, *files):
            _hand_over_entry(name, uid, at)


def take_back(workspace: str) -> None:
    """
    Shut the workspace to the user that had it, so that the next one with the same number cannot enter.

    What lies in it stays as the job left it. No error where it is gone.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, os.geteuid(), os.getegid())
            os.fchmod(descriptor, stat.S_IRWXU)
        finally:
            os.close(descriptor)


def shut_ancestor(path: str) -> str | None:
    """Return the topmost directory above ``path`` that another user cannot pass through, None where there is none."""
    above = ""
    for part in os.path.realpath(path).split("/")[:-1]:
        above = f"{above}{part}/"
        if not os.stat(above).st_mode & stat.S_IXOTH:
            return above.rstrip("/")
    return None


def let_pass(path: str, top: str) -> None:
    """
    Let other users through the runner's own directories from ``top`` down to ``path``, and to nothing else in them.

    What stands beside the way is shut to them first.
    """
    top = os.path.realpath(top)
    way = os.path.relpath(os.path.realpath(path), top).split("/")[:-1]
    for depth in range(len(way) + 1):
        directory = os.path.join(top, *way[:depth])
        mode = os.stat(directory).st_mode
        if not mode & stat.S_IXOTH:
            _shut_entries(directory)
            os.chmod(directory, stat.S_IMODE(mode) | stat.S_IXOTH)


def _shut_entries(directory: str) -> None:
    with os.scandir(directory) as listing:
        for entry in listing:
            state = entry.stat(follow_symlinks=False)
            if state.st_uid == os.geteuid() and state.st_mode & stat.S_IRWXO and not entry.is_symlink():
                os.chmod(entry.path, stat.S_IMODE(state.st_mode) & ~stat.S_IRWXO)


def _hand_over_entry(name: str, uid: int, at: int) -> None:
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    has_second_name = stat.S_ISREG(found.st_mode) and found.st_nlink > 1
    if found.st_uid != uid and not has_second_name:
        os.chown(name, uid, uid, dir_fd=at, follow_symlinks=False)
