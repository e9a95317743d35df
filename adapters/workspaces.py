"""
The directories that jobs run in: ``<root>/<key>.<attempt>``, and beside them the outboxes of their outputs.

A job may own its workspace and be hostile, so nothing below it is reached through a path: everything is opened step by
step, without following links. Long work runs in threads that end when their caller is cancelled.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import replace

from adapters.archives import Limits
from adapters.beneath import DIRECTORY
from adapters.build_context import pack_context, read_text
from adapters.collecting import Collecting, CollectLimits
from adapters.files import OWNER_DIRECTORY, explained, make_directory
from adapters.interruptible import Stop, interruptibly
from adapters.outbox import Outbox
from adapters.placing import place_archive, place_file, place_text
from adapters.trees import remove_tree, used_below
from adapters.worker import Worker
from runner.errors import Refused
from runner.job import Input, Key, Output
from runner.ports import BuildContext, CollectedFile
from runner.receipt import InputAccount

ROOT_MODE = 0o711
"""Jobs have users of their own, which pass through here to their workspace and see no other."""
_OUTBOXES = ".outbox"
_CONTEXT = "build-context.tar"
_PROTECTED_HARDLINKS = "/proc/sys/fs/protected_hardlinks"


class FolderWorkspaces:
    """Workspaces below one directory; their references are their paths."""

    def __init__(
        self, root: str, *, unpack_limits: Limits | None = None, collect_limits: CollectLimits | None = None
    ) -> None:
        self._root = os.path.abspath(root)
        self._outboxes = os.path.join(self._root, _OUTBOXES)
        self._unpack_limits = unpack_limits or Limits()
        self._collect_limits = collect_limits or CollectLimits(trust_second_names=_hardlinks_are_protected())
        # For what takes microseconds; anything longer gets a thread of its own.
        self._quick = Worker("workspaces")

    async def create(self, key: Key, attempt: int) -> str:
        workspace = os.path.join(self._root, f"{key}.{attempt}")
        if not await self._quick.run(self._make, workspace):
            await interruptibly("workspaces", lambda _: self._remake(workspace))
        return workspace

    async def place(self, workspace: str, item: Input, source: str | None) -> InputAccount:
        return await interruptibly("placing", lambda stop: self._place(workspace, item, source, stop))

    async def collect(self, workspace: str, output: Output, job_id: str) -> tuple[CollectedFile, ...]:
        return await interruptibly("collecting", lambda stop: self._collect(workspace, output, job_id, stop))

    async def read_text(self, workspace: str, path: str) -> str:
        return await interruptibly("placing", lambda _: self._read_text(workspace, path))

    async def pack_context(
        self, workspace: str, path: str, *, dockerfile: tuple[str, str], limit_bytes: int
    ) -> BuildContext:
        pack = functools.partial(self._pack_context, workspace, path, dockerfile, limit_bytes)
        return await interruptibly("packing", pack)

    async def drop_context(self, workspace: str) -> None:
        await interruptibly("workspaces", lambda _: remove_tree(self._context(workspace)))

    async def used_bytes(self, workspace: str) -> int:
        return await interruptibly("measuring", lambda stop: self._used_bytes(workspace, stop))

    async def remove(self, workspace: str) -> None:
        self._check_ours(workspace)
        if not await self._quick.run(self._remove_empty, workspace):
            await interruptibly("workspaces", lambda _: self._remove(workspace))

    async def prune(self, before: float, keep: frozenset[str]) -> int:
        return await interruptibly("pruning", lambda stop: self._prune(before, keep, stop))

    async def free_bytes(self) -> int:
        return await self._quick.run(self._free_bytes)

    async def close(self) -> None:
        """Let the thread end; workspaces stay."""
        self._quick.shutdown()

    def _make(self, workspace: str) -> bool:
        """Make a workspace, False where something stands there."""
        with explained("making a workspace", workspace):
            try:
                os.mkdir(workspace, OWNER_DIRECTORY)
            except FileExistsError:
                return False
            except FileNotFoundError:
                os.makedirs(self._root, ROOT_MODE, exist_ok=True)
                os.mkdir(workspace, OWNER_DIRECTORY)
            return True

    def _remake(self, workspace: str) -> None:
        self._remove(workspace)
        self._make(workspace)

    def _place(self, workspace: str, item: Input, source: str | None, stop: Stop) -> InputAccount:
        with explained("placing an input", item.path), self._opened(workspace) as root:
            if source is None:
                return place_text(root, item)
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if item.unpack:
                    return place_archive(root, item, fd, self._room(root), stop)
                return place_file(root, item, fd, stop)
            finally:
                os.close(fd)

    def _room(self, root: int) -> Limits:
        """Limit an archive to what the disk has, so that a small one cannot fill it for everybody."""
        disk = os.fstatvfs(root)
        return replace(self._unpack_limits, room_bytes=disk.f_bavail * disk.f_frsize)

    def _collect(self, workspace: str, output: Output, job_id: str, stop: Stop) -> tuple[CollectedFile, ...]:
        outbox = Outbox(self._outbox(workspace), output.path)
        with (
            explained("collecting an output", output.path),
            self._opened(workspace) as root,
            contextlib.closing(outbox),
        ):
            return tuple(Collecting(root, outbox, self._collect_limits, stop).collect(output, job_id))

    def _read_text(self, workspace: str, path: str) -> str:
        with self._opened(workspace) as root:
            return read_text(root, path)

    def _pack_context(
        self, workspace: str, path: str, dockerfile: tuple[str, str], limit_bytes: int, stop: Stop
    ) -> BuildContext:
        target = self._context(workspace)
        with explained("packing what is to be built", target), self._opened(workspace) as root:
            make_directory(os.path.dirname(target))
            remove_tree(target)
            return pack_context(root, path, dockerfile, target, limit_bytes, stop)

    def _context(self, workspace: str) -> str:
        return os.path.join(self._outbox(workspace), _CONTEXT)

    def _outbox(self, workspace: str) -> str:
        return os.path.join(self._outboxes, os.path.basename(workspace))

    def _used_bytes(self, workspace: str, stop: Stop) -> int:
        with explained("measuring a workspace", workspace):
            try:
                with self._opened(workspace) as root:
                    return used_below(root, stop.check)
            except FileNotFoundError:
                return 0

    def _remove_empty(self, workspace: str) -> bool:
        """Delete a workspace that holds nothing, and has no outbox; False where there is more to do."""
        try:
            os.rmdir(workspace)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return not os.path.lexists(self._outbox(workspace))

    def _remove(self, workspace: str) -> None:
        with explained("deleting a workspace", workspace):
            remove_tree(self._outbox(workspace))
            remove_tree(workspace)

    def _prune(self, before: float, keep: frozenset[str], stop: Stop) -> int:
        count = 0
        with explained("deleting old workspaces", self._root):
            for name in _names(self._root):
                stop.check()
                workspace = os.path.join(self._root, name)
                kept = name == _OUTBOXES or workspace in keep or name.rpartition(".")[0] in keep
                if not kept and _changed_at(workspace) < before:
                    self._remove(workspace)
                    count += 1
            self._remove_orphans()
        return count

    def _remove_orphans(self) -> None:
        """Delete outboxes whose workspace is gone, as a kill between the two leaves them."""
        for name in _names(self._outboxes):
            if not os.path.lexists(os.path.join(self._root, name)):
                remove_tree(os.path.join(self._outboxes, name))

    def _free_bytes(self) -> int:
        with explained("measuring the disk", self._root):
            os.makedirs(self._root, ROOT_MODE, exist_ok=True)
            disk = os.statvfs(self._root)
            return disk.f_bavail * disk.f_frsize

    @contextlib.contextmanager
    def _opened(self, workspace: str) -> Iterator[int]:
        self._check_ours(workspace)
        root = os.open(workspace, DIRECTORY)
        try:
            yield root
        finally:
            os.close(root)

    def _check_ours(self, workspace: str) -> None:
        above, name = os.path.split(workspace)
        if above != self._root or name in ("", ".", "..", _OUTBOXES):
            raise Refused(f"{workspace} is no workspace below {self._root}: was the state directory moved?")


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _changed_at(path: str) -> float:
    """Return the time that a job cannot set; what is gone changed just now."""
    try:
        return os.lstat(path).st_ctime
    except FileNotFoundError:
        return float("inf")


def _hardlinks_are_protected() -> bool:
    try:
        with open(_PROTECTED_HARDLINKS, encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return False
