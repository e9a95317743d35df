"""
Puts one input into a workspace: a text, a file, or what an archive holds.

Archives are unpacked beside their place and moved there when that is complete. Everything here blocks; call it from a
thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence

from adapters.archives import FILE_MODE, Limits, unpack
from adapters.beneath import DIRECTORY, NEW_FILE, open_directory, parts_of, writable
from adapters.copying import copy_hashed, hash_file
from adapters.files import OWNER_FILE, write_all
from adapters.interruptible import Stop
from adapters.trees import remove_tree, walk
from runner.errors import Refused
from runner.job import Input
from runner.receipt import InputAccount

READ_ONLY = ~0o222
_BESIDE = ".runner-unpack-"


def place_text(root: int, item: Input) -> InputAccount:
    """Write a text input below an open workspace."""
    data = (item.text or "").encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _check_digest(item, digest)
    with _new_file(root, item) as fd:
        write_all(fd, data)
    return InputAccount(item.url, digest, len(data))


def place_file(root: int, item: Input, source: int, stop: Stop) -> InputAccount:
    """Copy an open file below an open workspace; one whose digest differs does not stay."""
    with _new_file(root, item) as fd:
        size, digest = copy_hashed(source, fd, stop)
        _check_digest(item, digest)
    return InputAccount(item.url, digest, size)


def place_archive(root: int, item: Input, source: int, limits: Limits, stop: Stop) -> InputAccount:
    """Unpack an open archive below an open workspace, into a directory that may stand there already."""
    size, digest = hash_file(source, stop)
    _check_digest(item, digest)
    with _beside(root) as beside:
        fd = os.open(beside, DIRECTORY, dir_fd=root)
        try:
            unpack(source, fd, limits, stop)
            made = _shut_files(fd, keep_open=item.mutable)
        finally:
            os.close(fd)
        kept = _move(root, beside, item)
    if not item.mutable:
        _shut_directories(root, parts_of(item.path), [parts for parts in made if parts not in kept])
    return InputAccount(item.url, digest, size)


def _check_digest(item: Input, digest: str) -> None:
    if item.sha256 and digest != f"sha256:{item.sha256.lower()}":
        raise Refused(f"input {item.path}: its sha256 is {digest[7:]}, but the job says {item.sha256.lower()}")


def _taken(path: str) -> Refused:
    return Refused(f"input {path}: another input stands there already: give one of them another path")


@contextlib.contextmanager
def _new_file(root: int, item: Input) -> Iterator[int]:
    """Give a new file at the input's path, which stays only if the body ends well."""
    *above, name = parts_of(item.path)
    parent = _open_parent(root, above, item.path)
    try:
        fd = _create(name, parent, item.path)
        try:
            yield fd
            os.fchmod(fd, FILE_MODE if item.mutable else FILE_MODE & READ_ONLY)
        except BaseException:
            writable(parent, lambda: os.unlink(name, dir_fd=parent))
            raise
        finally:
            os.close(fd)
    finally:
        os.close(parent)


def _open_parent(root: int, above: Sequence[str], path: str) -> int:
    try:
        return open_directory(root, above, make=True)
    except NotADirectoryError:
        raise _taken(path) from None


def _create(name: str, parent: int, path: str) -> int:
    made: list[int] = []
    try:
        writable(parent, lambda: made.append(os.open(name, NEW_FILE, OWNER_FILE, dir_fd=parent)))
    except FileExistsError:
        raise _taken(path) from None
    return made[0]


@contextlib.contextmanager
def _beside(root: int) -> Iterator[str]:
    """Give a new directory in the workspace, which is gone afterwards, moved or deleted."""
    name = _BESIDE + secrets.token_hex(8)
    os.mkdir(name, 0o755, dir_fd=root)
    try:
        yield name
    finally:
        remove_tree(f"/proc/self/fd/{root}/{name}")


def _shut_files(root: int, *, keep_open: bool) -> list[tuple[str, ...]]:
    """Take the right to write from files, unless they are to keep it; return the directories, to be shut in place."""
    made: list[tuple[str, ...]] = [()]
    for found in walk(root):
        if stat.S_ISDIR(found.state.st_mode):
            made.append((*found.above, found.name))
        elif not keep_open:
            os.chmod(found.name, stat.S_IMODE(found.state.st_mode) & READ_ONLY, dir_fd=found.at)
    return made


def _move(root: int, beside: str, item: Input) -> set[tuple[str, ...]]:
    """Move what was unpacked to its place; return the directories of it that stood there before."""
    *above, name = parts_of(item.path) or (".",)
    parent = _open_parent(root, above, item.path)
    try:
        if name != "." and not _stands(name, parent):
            writable(parent, lambda: os.rename(beside, name, src_dir_fd=root, dst_dir_fd=parent))
            return set()
        source, target = os.open(beside, DIRECTORY, dir_fd=root), _open_parent(parent, (name,), item.path)
        try:
            return set(_merge(source, target, (), item.path))
        finally:
            os.close(source)
            os.close(target)
    finally:
        os.close(parent)


def _stands(name: str, at: int) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _merge(source: int, target: int, parts: tuple[str, ...], path: str) -> Iterator[tuple[str, ...]]:
    """Move entries into a directory that exists, and go on inside directories that both have."""
    yield parts
    for name in sorted(os.listdir(source)):
        if not _stands(name, target):
            writable(target, lambda name=name: os.rename(name, name, src_dir_fd=source, dst_dir_fd=target))  # type: ignore[misc]  # bound now
            continue
        inner_path = f"{path.rstrip('/')}/{name}"
        try:
            inner = os.open(name, DIRECTORY, dir_fd=source)
        except NotADirectoryError:
            raise _taken(inner_path) from None
        try:
            inner_target = _open_parent(target, (name,), inner_path)
            try:
                yield from _merge(inner, inner_target, (*parts, name), inner_path)
            finally:
                os.close(inner_target)
        finally:
            os.close(inner)


def _shut_directories(root: int, place: tuple[str, ...], made: Sequence[tuple[str, ...]]) -> None:
    for parts in made:
        fd = open_directory(root, (*place, *parts))
        try:
            os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & READ_ONLY)
        finally:
            os.close(fd)
