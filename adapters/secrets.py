"""
Secrets of jobs by name: looked up in the directories that credential files of kind ``secret`` name.

A value is read when a job starts, so that a changed one reaches the next job. Blocks; no sentence holds a value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from adapters.credential_scan import scan_directory
from adapters.secret_files import read_secret
from adapters.unusable import Unusable
from runner.credential import CredentialFile
from runner.errors import SecretMissing


class Secrets:
    """What jobs may be given on this box, as a scan of the credential files says at that moment."""

    def __init__(self, certs_dir: str) -> None:
        """``certs_dir`` is the watched directory, "" for none."""
        self._certs_dir = certs_dir

    def values(self, names: Iterable[str]) -> dict[str, bytes]:
        """
        Return the values of these secrets now; of two directories with one name, the first by its file's name counts.

        Raises:
            SecretMissing: the box lacks one, or may not use it; says which.
        """
        names = tuple(dict.fromkeys(names))
        directories = self._directories() if names else ()
        return {name: self._value(name, directories) for name in names}

    def _directories(self) -> tuple[str, ...]:
        files = scan_directory(os.path.abspath(self._certs_dir)) if self._certs_dir else ()
        return tuple(_directory(file) for file in files if _directory(file))

    def _value(self, name: str, directories: tuple[str, ...]) -> bytes:
        for directory in directories:
            try:
                return read_secret(directory, name)
            except FileNotFoundError:
                continue
            except (Unusable, OSError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise SecretMissing(f"secret {name} cannot be given to the job: {directory}/{name} {why}") from None
        where = f"put it into {' or '.join(directories)}" if directories else 'add a file with kind = "secret"'
        raise SecretMissing(f"this box has no secret {name}, which the job asks for: {where}")


def _directory(file: CredentialFile) -> str:
    credential = file.credential
    return credential.url if credential is not None and credential.kind == "secret" else ""
