"""
Uploads by their content: ``upload:sha256/<hex>`` is the file ``uploads/<hex>``; blocking, in large reads.

A use touches the file, so that what nobody used for long can go.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator

from adapters.files import OWNER_FILE, make_directory, remove_file, sync_directory, write_all
from runner.errors import Refused

PREFIX = "upload:sha256/"
_DIGEST = re.compile(r"[0-9a-f]{64}")
CHUNK_BYTES = 1 << 20


class Stopped(Exception):
    """A copy was given up because nobody waits for it any more."""


def put_upload(source: str, directory: str, stop: threading.Event) -> str:
    """Copy a file to its digest's name; return its URL."""
    make_directory(directory)
    with _partial(directory) as partial:
        digest = copy(source, partial, stop, durable=True)
        path = os.path.join(directory, digest)
        if not touched(path):
            os.rename(partial, path)
            sync_directory(directory)
    return PREFIX + digest


def get_upload(url: str, directory: str, target: str, stop: threading.Event) -> None:
    """
    Copy an upload into the file ``target``, whole or not at all.

    Raises:
        Refused: the URL names none, there is none, or it is damaged.
    """
    digest = url.removeprefix(PREFIX)
    if not url.startswith(PREFIX) or not _DIGEST.fullmatch(digest):
        raise Refused(f"input {url}: write {PREFIX} and 64 hexadecimal digits in lower case")
    path = os.path.join(directory, digest)
    if not touched(path):
        raise Refused(f"input {url}: there is no such upload, or it was not used for long: submit it again")
    with _partial(os.path.dirname(target)) as partial:
        if copy(path, partial, stop, durable=False) != digest:
            raise Refused(f"input {url}: the stored upload is damaged: delete {path} and submit it again")
        os.rename(partial, target)


def copy(source: str, target: str, stop: threading.Event, *, durable: bool) -> str:
    """
    Copy a file to a name that is not taken; return the SHA-256 of its bytes in hexadecimal.

    Raises:
        Stopped: ``stop`` was set.
    """
    digest = hashlib.sha256()
    with open(source, "rb", buffering=0) as file:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_FILE)
        try:
            while chunk := file.read(CHUNK_BYTES):
                if stop.is_set():
                    raise Stopped
                digest.update(chunk)
                write_all(fd, chunk)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    return digest.hexdigest()


def touched(path: str) -> bool:
    """Note a use; False where the file is gone."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _partial(directory: str) -> Iterator[str]:
    """Give a name for a file in the making; what is left under it is deleted."""
    path = os.path.join(directory, f".partial.{secrets.token_hex(8)}")
    try:
        yield path
    finally:
        remove_file(path)
