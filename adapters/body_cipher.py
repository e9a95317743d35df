"""
Encrypts what a message said before it rests on the disk, with a key that stands beside the journal.

It keeps copies of the journal (backups, bug reports) from giving away the storage keys that foreign messages carry, not
from whoever can read the state directory. The key never leaves this module.
"""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from typing import TYPE_CHECKING

from adapters.files import create_whole
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class BodyCipher:
    """
    AES-256-GCM under the key in one file, which is made at the first encryption.

    The library behind it costs 7 MiB and 40 ms, so it is loaded when the first message comes, not in an idle process.
    """

    def __init__(self, key_path: str) -> None:
        self._key_path = key_path
        self._aead: AESGCM | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the next encryption takes microseconds."""
        return self._aead is not None

    def encrypt(self, plain: bytes, context: str) -> bytes:
        """Return nonce and ciphertext, bound to ``context``: they decrypt under the same one only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._opened().encrypt(nonce, plain, context.encode())

    def decrypt(self, sealed: bytes, context: str) -> bytes:
        """
        Return what was encrypted under this context.

        Raises:
            ConfigurationError: the key file is another one, or is gone.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._opened(make=False).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context.encode())
        except InvalidTag as cause:
            raise ConfigurationError(
                f"cannot decrypt the message of job {context} with the key in {self._key_path}: put back the key file "
                "that belongs to this journal, or move the journal away to start without its jobs"
            ) from cause

    def _opened(self, *, make: bool = True) -> AESGCM:
        if self._aead is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            if make:
                create_whole(self._key_path, secrets.token_bytes(KEY_BYTES))
            self._aead = AESGCM(_load_key(self._key_path))
        return self._aead


def _load_key(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            key, mode = file.read(KEY_BYTES + 1), os.fstat(file.fileno()).st_mode
    except FileNotFoundError as cause:
        raise ConfigurationError(
            f"the journal's key {path} is gone: put it back, or move the journal away to start without its jobs"
        ) from cause
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"the journal's key {path} has {len(key)} bytes, not {KEY_BYTES}: put back the right file"
        )
    if mode & _OTHERS:
        raise ConfigurationError(f"the journal's key {path} can be read by others: run `chmod 600 {shlex.quote(path)}`")
    return key
