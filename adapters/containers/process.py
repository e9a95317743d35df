"""
The process runtime: a job is a tree of processes of this box, kept apart as well as the box permits.

Needs nothing but ``sh`` and util-linux. All that must outlive the runner stands in a control directory per container
(``control.py``); the runner waits by pidfd, in this and in later lives. What is not isolated is named in every
:class:`Isolation`. A job writes to files, not to pipes of ours; it cannot open ``/dev/stderr`` anew (``>&2`` works).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future

from adapters.containers.cgroup import Cgroups
from adapters.containers.cgroup_group import Group
from adapters.containers.confinement import Confinement, find_confinement
from adapters.containers.control import PASS_THROUGH, STREAMS, Control, Record
from adapters.containers.exits import Ending, Exits
from adapters.containers.notices import Notices
from adapters.containers.output_files import Follower, OutputFile
from adapters.containers.ownership import take_back
from adapters.containers.preparation import Preparation
from adapters.containers.secret_shelf import SecretShelf, no_secrets
from adapters.containers.starter import install_script
from adapters.containers.tree import Tree
from adapters.containers.uids import CLAIMS, Uids, mapped
from adapters.files import explained, names_in
from adapters.interruptible import interruptibly
from adapters.redaction import context_of, masked
from adapters.worker import Worker
from runner.errors import Unavailable
from runner.ports import Chunk, ContainerSpec, Exit, Running
from runner.receipt import Usage

_EMPTYING_PAUSE_S = 0.05
_REMOVE_LIMIT_S = 20.0
_THREADS_MAX = 32


class ProcessContainers:
    """
    The Containers port on this box's own processes.

    Args:
        state_dir: the runner's; containers are kept in ``process`` below it.
        box_id: containers of other ids are never touched.
        uid_range: first number and how many, for the users that jobs get; None: jobs run as the runner's user.
        now: UTC epoch seconds.
        cgroups: where control groups are made; found by itself if None.
        claims: the directory, shared by all runners of the machine, of who has which user.
        shelf: where the secrets of jobs come from and stand meanwhile; without it there are none.
        closed: directories that no job sees, where the box can hide any from jobs of the runner's own user.
    """

    def __init__(  # noqa: PLR0913 - each is a fact of the box
        self,
        state_dir: str,
        *,
        box_id: str,
        uid_range: tuple[int, int] | None,
        now: Callable[[], float],
        cgroups: Cgroups | None = None,
        claims: str = CLAIMS,
        shelf: SecretShelf | None = None,
        closed: tuple[str, ...] = (),
    ) -> None:
        self._root = os.path.join(os.path.realpath(state_dir), "process")
        self._box_id, self._now, self._closed, self._cgroups = box_id, now, closed, cgroups
        self._shelf = shelf or SecretShelf(f"{box_id}.process", no_secrets)
        self._uids = Uids(*uid_range, claims) if uid_range and os.geteuid() == 0 and mapped(*uid_range) else None
        # Tried at the first start, since it takes some milliseconds.
        self._preparation: Preparation | None = None
        self._preparing = threading.Lock()
        # Who ended, in this and in earlier lives of the runner.
        self._exits = Exits()
        self._notices = Notices()
        self._threads = Worker("containers", threads=_THREADS_MAX)
        # Starts under way by name, also those that nobody awaits any more: a thread cannot be called back.
        self._starting: dict[str, list[Future[None]]] = {}

    def confinement(self) -> Confinement:
        """Return how this box keeps jobs apart, for ``doctor``. Blocks some milliseconds at the first call."""
        return self._prepared().confinement

    def limits_missing(self) -> tuple[str, ...]:
        """Name the limits that this box cannot set, for ``doctor``. Blocks as ``confinement``."""
        return self._prepared().limits_missing()

    async def start(self, spec: ContainerSpec) -> Running:
        """
        Start a job's processes, or return those of an earlier start.

        Raises:
            BadInput: the command is not there, or no process can be given it; nothing was started.
            Unavailable: the box cannot start it now.
            OutOfSpace: the disk of the state directory is full.
        """
        control = self._control(spec.name)
        starting = self._threads.submit(self._start, spec, control)
        self._starting.setdefault(spec.name, []).append(starting)
        try:
            await asyncio.wrap_future(starting)
        finally:
            self._nothing_starts(spec.name)
        running = self._running(control)
        if running is None:
            raise Unavailable(f"start {spec.name}: it was removed meanwhile")
        self._exits.watch(control)
        return running

    async def adopt(self, name: str) -> Running | None:
        control = self._control(name)
        return None if control.pids() is None and not control.is_alive() else self._running(control)

    async def attach(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        control = self._control(name)
        context = context_of({stream: skip.get(stream, 0) for stream in STREAMS})
        files = [OutputFile(it, control.output(it), skip.get(it, 0), context[it]) for it in STREAMS]
        has_leftovers = lambda: bool((tree := self.tree(name)) and tree.pids())  # noqa: E731 - one question, named
        follower = Follower(files, self._exits.watch(control), has_leftovers, self._notices)
        redaction = await self._threads.run(self._shelf.redaction, name)
        async with contextlib.aclosing(masked(follower.chunks(), redaction, context)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def wait(self, name: str) -> Exit:
        """
        Wait for the end of the job's first process; what it left behind lives on until ``remove``.

        Raises:
            Unavailable: there is no such container.
        """
        control = self._control(name)
        ended = self._exits.watch(control)
        await asyncio.wait({ended})
        record = control.record()
        if record is None:
            raise Unavailable(f"wait for {name}: there is no such container: it was never started, or was removed")
        if control.exit_code() is None:
            # Nobody watches over the rest any more.
            await self._threads.run(self._tree(control, record).kill)
        return self._ending(control, record).exit(self._now())

    async def stop(self, name: str, grace_s: float) -> None:
        control = self._control(name)
        record = control.record()
        if record is None:
            return
        tree = self._tree(control, record)
        if await self._threads.run(tree.pids):
            await self._threads.run(tree.terminate)
            await self._emptied(tree, self._exits.watch(control), grace_s)
        await self._kill(control, tree)

    async def remove(self, name: str) -> None:
        """
        End what is left of a container and forget it; its workspace is shut to the user that had it.

        Raises:
            Unavailable: a process of it does not die.
        """
        control = self._control(name)
        give_up_at = asyncio.get_running_loop().time() + _REMOVE_LIMIT_S
        while not await self._is_removed(control):
            if asyncio.get_running_loop().time() > give_up_at:
                raise Unavailable(f"remove {name}: it is being started and does not get on: look at the disk")
            await asyncio.sleep(_EMPTYING_PAUSE_S)
        self._exits.forget(name)

    async def tell_deadline(self, name: str, at: float) -> None:
        await self._threads.run(self._control(name).tell_deadline, at)

    async def list_ours(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in names_in(self._root) if self._is_ours(name)))

    async def stats(self, name: str) -> Usage:
        tree = self.tree(name)
        return await self._threads.run(tree.used) if tree else Usage()

    async def disk_bytes(self, name: str) -> int:
        return await interruptibly("measuring", lambda stop: self._control(name).temporary_bytes(stop.check))

    def tree(self, name: str) -> Tree | None:
        """Return the processes of a container, None where there is no such container."""
        record = (control := self._control(name)).record()
        return self._tree(control, record) if record else None

    async def close(self) -> None:
        self._exits.close()
        self._notices.close()
        self._threads.shutdown()

    def _control(self, name: str) -> Control:
        return Control(self._root, name)

    def _prepared(self) -> Preparation:
        with self._preparing:
            if self._preparation is None:
                with explained("prepare the process runtime", self._root):
                    os.makedirs(self._root, exist_ok=True)
                    os.chmod(self._root, PASS_THROUGH)
                    install_script(self._root)
                places = (*self._shelf.places, *self._closed)
                confinement = find_confinement(os.path.dirname(self._root), self._uids, places)
                cgroups = self._cgroups or Cgroups.detect(f"runner.{self._box_id[:8]}.")
                self._preparation = Preparation(self._box_id, confinement, cgroups, self._now, self._shelf)
            return self._preparation

    def _start(self, spec: ContainerSpec, control: Control) -> None:
        # Also where nobody awaits this any more, so that the child will be reaped.
        if self._prepared().start(spec, control):
            self._exits.add_child(control.name)

    def _running(self, control: Control) -> Running | None:
        if (record := control.record()) is None:
            return None
        pids = control.pids()
        return Running(control.name, record.started_at, record.isolation, pids.job if pids else None)

    def _is_ours(self, name: str) -> bool:
        record = (control := self._control(name)).record()
        return os.path.isdir(control.path) if record is None else record.box == self._box_id

    def _tree(self, control: Control, record: Record) -> Tree:
        return Tree(control, record, self._uids)

    def _ending(self, control: Control, record: Record) -> Ending:
        return Ending(control, record, self._exits.resources(control.name))

    async def _emptied(self, tree: Tree, ended: asyncio.Future[None], grace_s: float) -> None:
        """Wait until no process is left, ``grace_s`` at most: children may still be saving when the first one ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.wait({ended})
                while await self._threads.run(tree.pids):  # noqa: ASYNC110 - only the kernel could tell, and does not
                    await asyncio.sleep(_EMPTYING_PAUSE_S)

    async def _kill(self, control: Control, tree: Tree) -> None:
        """Kill until also the starter is gone: a start that is under way may still bring processes."""
        ended = self._exits.watch(control)
        while True:
            if not await self._threads.run(tree.kill):
                raise Unavailable(_immortal(control, tree))
            if ended.done():
                return
            await asyncio.wait({ended}, timeout=_EMPTYING_PAUSE_S)

    def _ended_and_forgotten(self, control: Control) -> bool:
        """End and forget a container in one go; False while a starter of it still lives."""
        with explained("remove a container", control.path), contextlib.suppress(FileNotFoundError):
            self._kill_all(control)
            lock = control.try_lock()
            if lock is None:
                return False
            try:
                # A starter that lived until just now may have begun something since.
                self._forget(control, self._kill_all(control))
            finally:
                os.close(lock)
        return True

    async def _is_removed(self, control: Control) -> bool:
        # Asked first: what a start makes until it is over must be found.
        nothing_starts = self._nothing_starts(control.name)
        return await self._threads.run(self._ended_and_forgotten, control) and nothing_starts

    def _nothing_starts(self, name: str) -> bool:
        """Tell whether no start of this name is under way."""
        under_way = [starting for starting in self._starting.pop(name, ()) if not starting.done()]
        if under_way:
            self._starting[name] = under_way
        return not under_way

    def _kill_all(self, control: Control) -> Record | None:
        record = control.record()
        if record is not None:
            tree = self._tree(control, record)
            if not tree.kill():
                raise Unavailable(_immortal(control, tree))
        return record

    def _forget(self, control: Control, record: Record | None) -> None:
        self._shelf.remove(control.name)
        if record is not None:
            Group(record.groups).remove()
            if record.uid is not None and self._uids and self._uids.holds(record.uid, control.path):
                take_back(record.workspace)
                self._uids.release(record.uid, control.path)
        control.delete()


def _immortal(control: Control, tree: Tree) -> str:
    return (
        f"end {control.name}: processes {sorted(tree.pids())} do not die: something they wait for, such as a file "
        "server or a device, does not answer"
    )
