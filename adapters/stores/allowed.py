"""
Which paths a queue's ``folder://`` URLs may name, and how to get there without being led elsewhere.

Links are followed one step at a time, each from an open directory, and only as long as they stay below an allowed one:
what was checked is what is opened, whatever is exchanged meanwhile.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from adapters.beneath import DIRECTORY, parts_of
from runner.credential import Rights
from runner.errors import Refused

LINKS_MAX = 40
_SCHEME = "folder://"
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Place:
    """A name in an open directory, which the holder closes."""

    directory: int
    name: str


class _Linked(Exception):
    """A part of the path is a link; the text is the path that it leads to."""


class AllowedPaths:
    """
    The directories of a credential file; all there are for the box's own queue.

    Directories that are made get ``directory_mode``; None: what the process's umask leaves.
    """

    def __init__(self, rights: Rights, *, directory_mode: int | None = None) -> None:
        named = ("/",) if rights.own else rights.paths
        self._roots = tuple(dict.fromkeys(path for root in named for path in (os.path.normpath(root), _real(root))))
        self._directory_mode = directory_mode

    def locate(self, url: str, *, make: bool = False) -> Place:
        """
        Return where the last part of a URL's path stands, links resolved; with ``make`` missing directories are made.

        Raises:
            Refused: no absolute ``folder://`` path, outside of what the rights name, or links without end.
            OSError: a directory on the way is missing or may not be entered.
        """
        path = path_of(url)
        for _ in range(LINKS_MAX):
            root, parts = self._below(path, url)
            try:
                return self._walk(root, parts, make=make)
            except _Linked as linked:
                path = str(linked)
        raise Refused(f"{url}: its links lead in a circle")

    def _below(self, path: str, url: str) -> tuple[str, tuple[str, ...]]:
        for root in self._roots:
            if path == root or path.startswith(root.rstrip("/") + "/"):
                return root, parts_of(path[len(root) :])
        known = f"; they are {', '.join(self._roots)}" if self._roots else ""
        line = f'paths = ["{path if url.endswith("/") else os.path.dirname(path)}"]'
        raise Refused(
            f"{url}: outside of the directories that its queue may use{known}; add {line} to the credential file"
        )

    def _walk(self, root: str, parts: tuple[str, ...], *, make: bool) -> Place:
        """Go down from an allowed directory; the directory itself is named ``.`` in itself."""
        at = os.open(root, _ROOT)
        try:
            for index, part in enumerate(parts):
                above = os.path.join(root, *parts[:index])
                _check_link(part, at, above, parts[index + 1 :])
                if index < len(parts) - 1:
                    inner = self._enter(part, at, make=make)
                    os.close(at)
                    at = inner
        except BaseException:
            os.close(at)
            raise
        return Place(at, parts[-1] if parts else ".")

    def _enter(self, name: str, at: int, *, make: bool) -> int:
        try:
            return os.open(name, DIRECTORY, dir_fd=at)
        except FileNotFoundError:
            if not make:
                raise
        try:
            os.mkdir(name, 0o777, dir_fd=at)
        except FileExistsError:
            return os.open(name, DIRECTORY, dir_fd=at)
        os.fsync(at)
        made = os.open(name, DIRECTORY, dir_fd=at)
        if self._directory_mode is not None:
            os.fchmod(made, self._directory_mode)
        return made


def path_of(url: str) -> str:
    """
    Return the absolute path of a ``folder://`` URL as it stands there; nothing in it is decoded.

    Raises:
        Refused: it has none.
    """
    path = url.removeprefix(_SCHEME)
    if path == url or not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise Refused(f"{url}: write folder:// and an absolute path without .., as in folder:///data/file")
    return "/" + "/".join(parts_of(path))


def _real(root: str) -> str:
    return os.path.realpath(root)


def _check_link(name: str, at: int, above: str, rest: tuple[str, ...]) -> None:
    try:
        target = os.readlink(name, dir_fd=at)
    except OSError:
        return
    raise _Linked(os.path.normpath(os.path.join(above, target, *rest)))
