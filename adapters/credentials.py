"""
The watched directory of credential files.

The truth is a scan that reads and hashes every file; notices of change only say when to scan, since a Kubernetes
Secret changes by exchanging a link that such notices misreport. Never logs or tells a value of a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shlex
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from adapters.credential_files import Unusable, read_credential
from adapters.files import explained
from adapters.interruptible import Stop, interruptibly
from runner.credential import CredentialFile

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
RESCAN_S = 5.0
ABSENT_S = 1.0
_STEP_MS, _SETTLED_MS = 50, 100
"""A notice comes within two steps; each step wakes a thread, so shorter ones cost an idle box processor time."""
_SKIPPED_ENDS = ("~", ".swp", ".swo", ".swx", ".tmp", ".part", ".bak", ".orig", ".rej", ".dpkg-new", ".dpkg-old")
_SKIPPED_STARTS = (".", "#")
_EDITOR_PROBE = "4913"
"""What vim writes to see whether it may."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class DirectoryCredentials:
    """The files of one directory, "" for none; one that is missing is looked for every ``absent_s`` seconds."""

    def __init__(self, directory: str, *, absent_s: float = ABSENT_S) -> None:
        self._absent_s = absent_s
        self._directory = os.path.abspath(directory) if directory else ""

    async def scan(self) -> tuple[CredentialFile, ...]:
        return await interruptibly("credentials", self._scan) if self._directory else ()

    async def changes(self) -> AsyncGenerator[None, None]:
        while True:
            if _identity(self._directory) is None:
                await asyncio.sleep(self._absent_s)
                yield
                continue
            try:
                async with contextlib.aclosing(self._watched()) as watched:
                    async for _ in watched:
                        yield
            except (OSError, RuntimeError) as error:
                # The kernel's watches are used up, or the directory went away: look at it from time to time instead.
                logger.debug("no notices of change", extra={"action": "watch", "reason": str(error)})
                await asyncio.sleep(RESCAN_S)
                yield

    async def _watched(self) -> AsyncGenerator[None, None]:
        """Yield as soon as the watch stands, then at every notice and after every pause, while it is this directory."""
        from watchfiles import awatch

        before = _identity(self._directory)
        notices = awatch(
            self._directory,
            watch_filter=None,
            debounce=_SETTLED_MS,
            step=_STEP_MS,
            rust_timeout=int(RESCAN_S * 1000),
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        async with contextlib.aclosing(notices), _begun(notices) as first:
            yield
            await first
            yield
            async for _ in notices:
                if _identity(self._directory) != before:
                    return
                yield

    def _scan(self, _stop: Stop) -> tuple[CredentialFile, ...]:
        with explained("reading credentials", self._directory):
            try:
                names = sorted(os.listdir(self._directory))
            except FileNotFoundError:
                return ()
        files = (name for name in names if not _is_skipped(name) and not self._is_directory(name))
        return tuple(_file(self._directory, name) for name in files)

    def _is_directory(self, name: str) -> bool:
        return os.path.isdir(os.path.join(self._directory, name))


@contextlib.asynccontextmanager
async def _begun(notices: AsyncIterator[T]) -> AsyncIterator[asyncio.Future[T]]:
    """Let the watch begin, which it does in its first step; what changes from here on is noticed."""
    first = asyncio.ensure_future(anext(notices))
    try:
        await asyncio.sleep(0)
        yield first
    finally:
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await first


def _identity(directory: str) -> tuple[int, int] | None:
    """Return what tells a directory from another one that took its name, None where there is none."""
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _is_skipped(name: str) -> bool:
    return name.startswith(_SKIPPED_STARTS) or name.endswith(_SKIPPED_ENDS) or name == _EDITOR_PROBE


def _file(directory: str, name: str) -> CredentialFile:
    path, content = os.path.join(directory, name), ""
    try:
        data, state = _read(path)
        content = hashlib.sha256(data).hexdigest()
        credential = read_credential(data)
    except Unusable as error:
        return CredentialFile(name, content, reason=f"{name} {error}")
    except OSError as error:
        return CredentialFile(name, content, reason=f"{name} cannot be read: {error.strerror}")
    return CredentialFile(name, content, credential, warning=_warning(path, state))


def _read(path: str) -> tuple[bytes, os.stat_result]:
    """
    Read a file whole, through links.

    Raises:
        Unusable: it is no file, too large, another user's, or was written to meanwhile.
        OSError: it may not be read.
    """
    fd = os.open(path, _READ)
    with os.fdopen(fd, "rb") as file:
        before = os.fstat(fd)
        _check_state(before)
        data = file.read(MAX_BYTES + 1)
        after = os.fstat(fd)
    if len(data) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Unusable("is being written; it is read again in a moment")
    return data, before


def _check_state(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise Unusable("is no file")
    if state.st_size > MAX_BYTES:
        raise Unusable("is over 1 MiB, which no credential is")
    if state.st_uid not in (0, os.geteuid()):
        raise Unusable(f"belongs to user {state.st_uid}: only files of root and of the runner's own user are used")


def _warning(path: str, state: os.stat_result) -> str:
    if not state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return ""
    open_to = f"{os.path.basename(path)} is open to other users (mode {stat.S_IMODE(state.st_mode):04o})"
    mounted = os.path.islink(path) and os.readlink(path).startswith("..data/")
    return f"{open_to}: {'set defaultMode: 0400 on its volume' if mounted else f'chmod 600 {shlex.quote(path)}'}"
