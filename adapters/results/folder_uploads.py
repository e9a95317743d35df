"""
Uploads by their content: ``upload:sha256/<hex>`` is the file ``uploads/<hex>``; blocking, in large reads.

A use touches the file, so that what nobody used for long can go.
"""

from __future__ import annotations

import hashlib
import os
import threading

from adapters.files import OWNER_FILE, make_directory, sync_directory, write_all
from adapters.results.upload_files import PREFIX, digest_in, missing, partial
from runner.errors import Refused

CHUNK_BYTES = 1 << 20


class Stopped(Exception):
    """A copy was given up because nobody waits for it any more."""


def put_upload(source: str, directory: str, stop: threading.Event) -> str:
    """Copy a file to its digest's name; return its URL."""
    make_directory(directory)
    with partial(directory) as temporary:
        digest = copy(source, temporary, stop, durable=True)
        path = os.path.join(directory, digest)
        if not touched(path):
            os.rename(temporary, path)
            sync_directory(directory)
    return PREFIX + digest


def get_upload(url: str, directory: str, target: str, stop: threading.Event) -> None:
    """
    Copy an upload into the file ``target``, whole or not at all.

    Raises:
        Refused: the URL names none, there is none, or it is damaged.
    """
    digest = digest_in(url)
    path = os.path.join(directory, digest)
    if not touched(path):
        raise missing(url)
    with partial(os.path.dirname(target)) as temporary:
        if copy(path, temporary, stop, durable=False) != digest:
            raise Refused(f"input {url}: the stored upload is damaged: delete {path} and submit it again")
        os.rename(temporary, target)


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
