"""
What ``folder:`` URLs of queues and of result backends mean: the same directory to the runner and to every client.

Such a URL is one: ``%20`` is a space, and a ``%``, ``?`` or ``#`` of a path stands there as ``%25``, ``%3F``, ``%23``.
The URLs of inputs and outputs hold plain paths instead; those are the folder store's.
"""

from __future__ import annotations

import os
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from adapters.queues.folder_layout import is_name
from runner.errors import ConfigurationError

NO_PATH = "must be folder:// and an absolute path without .., as in folder:///var/queue"
MORE = "may say nothing behind its path but ?queue=NAME; a ? or # of the path is written %3F or %23"
NO_NAME = "names a queue that cannot be one directory: no slash, no leading dot, not empty"
NO_QUEUE = "is the directory of result backends, one for each queue in it: leave ?queue= out"
_DROPPED = frozenset("\t\r\n")
"""Characters that are left out of any URL as it is split."""


def folder_url(path: str) -> str:
    """Return the URL that means this absolute path."""
    return f"folder://{quote(path, errors='surrogateescape')}"


def queue_location(url: str) -> tuple[str, bool]:
    """
    Return the directory that a ``folder:`` URL names, and whether it names exactly one queue.

    ``folder:///q?queue=train`` is the queue in ``/q/train``. ``folder:///q`` may be one queue or the parent of several.

    Raises:
        ConfigurationError: it is no absolute folder URL, says more, or the queue's name is a path.
    """
    if problem := queue_url_problem(url):
        raise ConfigurationError(f"{url!r} {problem}")
    path, names = _path(url), _fields(url)
    return (os.path.join(path, names[0][1]), True) if names else (path, False)


def results_directory(url: str, queue: str) -> str:
    """
    Return the directory of a queue's result backend where a URL is named for it: one of the queue's name.

    So queues with different names may share the URL, as those behind one credential file do.

    Raises:
        ConfigurationError: it is no absolute folder URL, or names a queue itself.
    """
    if problem := results_url_problem(url):
        raise ConfigurationError(f"{url!r} {problem}")
    return os.path.join(_path(url), queue)


def queue_url_problem(url: str) -> str:
    """Say what is wrong with a queue's URL, without repeating any of it; "" where nothing is."""
    if not _names_path(url):
        return NO_PATH
    match _fields(url):
        case [] if "?" not in url and "#" not in url:
            return ""
        case [("queue", name)] if "#" not in url:
            return "" if is_name(name) else NO_NAME
        case _:
            return MORE


def results_url_problem(url: str) -> str:
    """Say what is wrong with a result backend's URL, without repeating any of it; "" where nothing is."""
    problem = queue_url_problem(url)
    return NO_QUEUE if not problem and _fields(url) else problem


def _names_path(url: str) -> bool:
    parts = _parts(url)
    path = _decoded(parts.path)
    is_folder = parts.scheme == "folder" and not parts.netloc and path.startswith("/")
    return is_folder and "\0" not in path and not _DROPPED.intersection(url)


def _path(url: str) -> str:
    return os.path.normpath(_decoded(_parts(url).path))


def _decoded(path: str) -> str:
    return unquote(path, errors="surrogateescape")


def _fields(url: str) -> list[tuple[str, str]]:
    return parse_qsl(_parts(url).query, keep_blank_values=True, errors="surrogateescape")


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # a bracket where a host would stand
        return SplitResult("", "", "", "", "")
