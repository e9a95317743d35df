"""What is one for uploads in every result backend: their URLs, and a local copy that is whole or not there."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator

from adapters.files import remove_file
from runner.errors import Refused

PREFIX = "upload:sha256/"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_in(url: str) -> str:
    """
    Return the digest that an upload's URL names.

    Raises:
        Refused: it names none.
    """
    digest = url.removeprefix(PREFIX)
    if not url.startswith(PREFIX) or not _DIGEST.fullmatch(digest):
        raise Refused(f"input {url}: write {PREFIX} and 64 hexadecimal digits in lower case")
    return digest


def missing(url: str) -> Refused:
    """Say that there is no such upload."""
    return Refused(f"input {url}: there is no such upload, or it was not used for long: submit it again")


@contextlib.contextmanager
def partial(directory: str) -> Iterator[str]:
    """Give a name for a file in the making; what is left under it is deleted."""
    path = os.path.join(directory, f".partial.{secrets.token_hex(8)}")
    try:
        yield path
    finally:
        remove_file(path)
