"""
One look at a directory of credential files: every file read and hashed, also those one directory down.

Blocking. What a directory holds is looked at as one: a Kubernetes Secret is exchanged whole, by a link, and its files
are read again where that happened meanwhile. Never logs or tells a value of a file.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat

import msgspec

from adapters.credential_files import is_companion, read_credential, uses_companions
from adapters.files import explained
from adapters.secret_files import names_of
from adapters.unusable import Unusable
from runner.credential import Credential, CredentialFile

MAX_BYTES = 1 << 20
_LOOKS = 50
"""At a directory whose whole content is exchanged while it is read."""
_SKIPPED_ENDS = ("~", ".swp", ".swo", ".swx", ".tmp", ".part", ".bak", ".orig", ".rej", ".dpkg-new", ".dpkg-old")
_SKIPPED_STARTS = (".", "#")
_KUBERNETES_LOGINS = ".dockerconfigjson"
"""The one name with a dot that is read: what a Kubernetes Secret for image pulls is mounted as."""
_EDITOR_PROBE = "4913"
"""What vim writes to see whether it may."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WHOLE_SET = "..data"
"""The link that Kubernetes exchanges."""


class _Read(msgspec.Struct, frozen=True):
    """What one file held, or why it could not be read."""

    name: str
    data: bytes = b""
    reason: str = ""
    warning: str = ""


def scan_directory(directory: str) -> tuple[CredentialFile, ...]:
    """
    Return the credential files of a directory and of those in it, by name; none where it is missing.

    Raises:
        RunnerError: it cannot be read.
    """
    with explained("reading credentials", directory):
        try:
            found = _files(directory, "")
        except FileNotFoundError:
            return ()
        for place in subdirectories(directory):
            found += _files_below(directory, place)
    return tuple(sorted(found, key=lambda file: file.file))


def subdirectories(directory: str) -> tuple[str, ...]:
    """Name the directories in a directory, also through links, each once and never itself; () where it is missing."""
    known = {identity(directory)}
    found: list[str] = []
    for name in _names(directory):
        place = identity(os.path.join(directory, name))
        if place is not None and place not in known:
            known.add(place)
            found.append(name)
    return tuple(found)


def identity(directory: str) -> tuple[int, int] | None:
    """Return what tells a directory from another one that took its name, None where there is none."""
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not _is_skipped(name))
    except OSError:
        return []


def _is_skipped(name: str) -> bool:
    if name == _KUBERNETES_LOGINS:
        return False
    return name.startswith(_SKIPPED_STARTS) or name.endswith(_SKIPPED_ENDS) or name == _EDITOR_PROBE


def _files_below(directory: str, name: str) -> list[CredentialFile]:
    try:
        return _files(os.path.realpath(os.path.join(directory, name)), f"{name}/")
    except FileNotFoundError:
        return []
    except OSError as error:
        return [CredentialFile(f"{name}/", "", reason=f"{name}/ cannot be read: {error.strerror}")]


def _files(directory: str, prefix: str) -> list[CredentialFile]:
    """Return one directory's own files; ``prefix`` stands before their names."""
    read = _read_all(directory)
    companions = tuple(file.data for file in read if is_companion(file.data))
    wanted = any(uses_companions(file.data) for file in read)
    named = [it for it in read if not (it.data in companions and _is_used(it.data, wanted))]
    return [_file(it, directory, prefix, companions) for it in named]


def _read_all(directory: str) -> list[_Read]:
    """Read what stands in a directory, of a set that was not taken away meanwhile."""
    read: list[_Read] = []
    for _ in range(_LOOKS):
        whole_set = _whole_set(directory)
        names = sorted(os.listdir(directory))
        read = [found for name in names if (found := _read_named(directory, name, whole_set)) is not None]
        if _whole_set(directory) == whole_set or not any(file.reason for file in read):
            break
    return read


def _whole_set(directory: str) -> str:
    try:
        return os.readlink(os.path.join(directory, _WHOLE_SET))
    except OSError:
        return ""


def _is_used(companion: bytes, by_keys: bool) -> bool:  # noqa: FBT001 - private
    """Tell whether nobody need hear of a companion: certificates always; an AWS config where keys stand beside it."""
    return by_keys or companion.lstrip().startswith(b"-----BEGIN")


def _file(read: _Read, directory: str, prefix: str, companions: tuple[bytes, ...]) -> CredentialFile:
    name, digest = f"{prefix}{read.name}", hashlib.sha256(read.data)
    if read.reason:
        return CredentialFile(name, "", reason=f"{prefix}{read.reason}")
    beside = companions if uses_companions(read.data) else ()
    for companion in beside:
        digest.update(hashlib.sha256(companion).digest())
    warning = f"{prefix}{read.warning}" if read.warning else ""
    try:
        credential = read_credential(read.data, beside)
        names, problems = _secrets(credential.url, directory) if credential.kind == "secret" else ((), ())
    except Unusable as error:
        return CredentialFile(name, digest.hexdigest(), reason=f"{name} {error}")
    warnings = (warning, *problems, credential.options.get("warning", ""))
    warning = "; ".join(text for text in warnings if text)
    return CredentialFile(name, digest.hexdigest(), credential, warning=warning, note=_note(credential, names))


def _note(credential: Credential, secrets: tuple[str, ...]) -> str:
    match credential.kind:
        case "registry":
            return f"login at {credential.url}"
        case "secret":
            return f"{len(secrets)} secret{'' if len(secrets) == 1 else 's'}"
        case _:
            return ""


def _secrets(place: str, directory: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Look at a directory of secrets: their names, and what is wrong with others; values are read as a job starts."""
    if f"{os.path.realpath(place)}/".startswith(f"{os.path.realpath(directory)}/"):
        raise Unusable("names a directory in the watched one, whose files are read as credentials: put it elsewhere")
    return names_of(place)


def _read_named(directory: str, name: str, whole_set: str) -> _Read | None:
    """Read one name; None where it is none of a credential file, or was taken away just now."""
    path = os.path.join(directory, name)
    if _is_skipped(name) or os.path.isdir(path):
        return None
    try:
        data, state = _read(_in_set(path, whole_set))
    except Unusable as error:
        return _Read(name, reason=f"{name} {error}")
    except OSError as error:
        return _Read(name, reason=f"{name} cannot be read: {error.strerror}") if os.path.lexists(path) else None
    return _Read(name, data, warning=_warning(path, state))


def _in_set(path: str, whole_set: str) -> str:
    """Return the file of that very set, though another set may have taken its place meanwhile."""
    target = os.readlink(path) if whole_set and os.path.islink(path) else ""
    if not target.startswith(f"{_WHOLE_SET}/"):
        return path
    return os.path.join(os.path.dirname(path), whole_set, target.removeprefix(f"{_WHOLE_SET}/"))


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
    mounted = os.path.lexists(os.path.join(os.path.dirname(path), _WHOLE_SET)) or "/.." in os.path.realpath(path)
    return f"{open_to}: {'set defaultMode: 0400 on its volume' if mounted else f'chmod 600 {shlex.quote(path)}'}"
