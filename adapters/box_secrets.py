"""
All secrets that a box knows, so that none of them is shown in a log: of its credential files, and of every job.

Those that were replaced in this life of the runner stay known, as a job may have been given them, or an error may name
them late. All but ``redact`` blocks; no sentence holds a value.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

from adapters.credential_scan import scan_directory
from adapters.interruptible import interruptibly
from adapters.redaction import redaction_of
from adapters.secret_files import names_of, read_secret
from adapters.unusable import Unusable
from runner.credential import Credential
from runner.errors import RunnerError

FRESH_S = 1.0
KEPT = 1000
"""Replaced values; those of longest ago are forgotten, where a directory changes all the time."""
_NO_SECRETS = ("username", "results_username")


class BoxSecrets:
    """What stands in a directory of credential files, and in the directories of secrets that they name."""

    def __init__(self, certs_dir: str, up_s: Callable[[], float] = time.monotonic) -> None:
        """``certs_dir`` is the watched directory, "" for none."""
        self._certs_dir = os.path.abspath(certs_dir) if certs_dir else ""
        self._up_s = up_s
        self._looked_at = float("-inf")
        # Replaced ones first, in the order of that.
        self._seen: dict[bytes, None] = {}
        self._looking = threading.Lock()

    def __call__(self) -> frozenset[bytes]:
        """Return every value of now and of earlier in this life; looks again after a second."""
        with self._looking:
            if self._up_s() - self._looked_at >= FRESH_S:
                self._look()
                self._looked_at = self._up_s()
            return frozenset(self._seen)

    async def redact(self, text: str) -> str:
        """Put stars over every value in a text that is all there is."""
        return await interruptibly("secrets", lambda _: self._redacted(text))

    def _redacted(self, text: str) -> str:
        return redaction_of(self()).whole(text.encode(errors="replace")).decode(errors="replace")

    def _look(self) -> None:
        now = dict.fromkeys(self._values_now())
        earlier = [value for value in self._seen if value not in now]
        self._seen = dict.fromkeys(earlier[-KEPT:]) | now

    def _values_now(self) -> Iterator[bytes]:
        with contextlib.suppress(RunnerError):
            files = scan_directory(self._certs_dir) if self._certs_dir else ()
            for file in files:
                if file.credential is not None:
                    yield from _values_of(file.credential)


def _values_of(credential: Credential) -> Iterator[bytes]:
    secrets = [secret for name, secret in credential.secrets.items() if name not in _NO_SECRETS]
    for login in credential.logins:
        secrets += [login.password, login.token]
    yield from (text.encode() for secret in secrets if (text := secret.reveal()))
    if credential.kind == "secret":
        yield from _values_in(credential.url)


def _values_in(directory: str) -> Iterator[bytes]:
    with contextlib.suppress(Unusable):
        names, _ = names_of(directory)
        for name in names:
            with contextlib.suppress(Unusable, OSError):
                yield read_secret(directory, name)
