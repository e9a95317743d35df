"""Runtimes, and the GPUs of a box."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

import msgspec

from runner.job import Key
from runner.receipt import GpuTable, Isolation, Usage
from runner.records import Grant


class ContainerSpec(msgspec.Struct, frozen=True):
    """
    What to start: one attempt of one job.

    ``name`` is unique on the box and made of key and attempt. ``env`` is complete but for what the runtime itself must
    add (PATH, HOME, TMPDIR). ``deadline_at`` stands in the file that RUNNER_DEADLINE_FILE names; None: no limit.

    ``steps`` stand instead of ``command``: run in order in one container; ``keep_going`` past one that fails.
    ``network``, ``capabilities``, ``mounts`` and what follows are what the queue's policy lets through, checked before.
    ``secrets`` are names, looked up at the start. ``log_max`` are bytes that the runtime's own log must hold.
    """

    name: str
    key: Key
    attempt: int
    command: tuple[str, ...]
    env: dict[str, str]
    workspace: str
    grant: Grant
    image: str = ""
    shm: int = 0
    paths: tuple[str, ...] = ()
    deadline_at: float | None = None
    steps: tuple[tuple[str, ...], ...] = ()
    keep_going: bool = False
    network: str = "none"
    capabilities: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    root: bool = False
    seccomp: str = ""
    oci_runtime: str = ""
    secrets: tuple[str, ...] = ()
    secrets_in_env: bool = False
    log_max: int = 0


class Running(msgspec.Struct, frozen=True):
    """A container that runs or ran: when it started (epoch seconds), how it is kept apart, a pid where there is one."""

    name: str
    started_at: float
    isolation: Isolation
    pid: int | None = None


class Exit(msgspec.Struct, frozen=True):
    """
    How a container ended. ``code`` is 128+n for signal n, None where nobody knows; ``oom``: the memory limit killed a
    process of it, whatever became of the first one; ``message`` carries a start error in the runtime's own words;
    ``by_others`` says in words what somebody else on the box did that it ended of, ``held_up`` what somebody else did
    that kept it from running, ``log_gap`` what may be missing of its output; ``ended_at`` may be early by up to
    ``coarse_s``, as a coarse clock is.
    """

    code: int | None
    ended_at: float
    coarse_s: float = 0.0
    oom: bool = False
    not_started: bool = False
    message: str = ""
    by_others: str = ""
    held_up: str = ""
    log_gap: str = ""
    usage: Usage = Usage()
    steps: tuple[int, ...] = ()
    """The exit code of each step that ended, in order."""


class Chunk(msgspec.Struct, frozen=True):
    """
    Bytes of ``stdout`` or ``stderr``, in the order in which that stream gave them; or of ``gap``: a line of JSON, a
    :class:`Gap`, for what is missing there and cannot be read any more.
    """

    stream: str
    data: bytes


class Containers(Protocol):
    """A runtime. Names are the identity: every call but ``start`` works on what an earlier life of the runner made."""

    async def start(self, spec: ContainerSpec) -> Running:
        """
        Create and start. The same name again does not start twice: it returns what runs or ran.

        Raises:
            BadInput: the command or image cannot be started; the text is for the job's user.
            Unavailable: the runtime did not answer, or lacks what the spec needs.
            OutOfSpace: no room to create it.
        """
        ...

    async def adopt(self, name: str) -> Running | None:
        """Return what runs or ran under this name; None: nothing was ever started, or it was removed."""
        ...

    def attach(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        """
        Yield the job's output from after the first ``skip[stream]`` bytes of each stream, to the end of both.

        Ends when the container is gone and both streams are at end of file, at most 10 s after its exit.
        """
        ...

    async def wait(self, name: str) -> Exit:
        """
        Wait for the end, and tell how; returns at once where it ended before, also in an earlier life of the runner.
        """
        ...

    async def stop(self, name: str, grace_s: float) -> None:
        """
        SIGTERM, ``grace_s`` seconds, SIGKILL, to the whole tree. Idempotent; no error where it ended or never was.
        """
        ...

    async def remove(self, name: str) -> None:
        """Delete what the runtime keeps, also leftover processes and raw output. Idempotent."""
        ...

    async def tell_deadline(self, name: str, at: float) -> None:
        """
        Write another end into the file that the job's RUNNER_DEADLINE_FILE names; no error once the job is removed.
        """
        ...

    async def list_ours(self) -> tuple[str, ...]:
        """Name every container of this box's id, running or not, sorted."""
        ...

    async def stats(self, name: str) -> Usage:
        """Sample what it uses now."""
        ...

    async def disk_bytes(self, name: str) -> int:
        """Measure what it wrote to the box's disk beside its workspace and its output, such as temporary files."""
        ...

    async def close(self) -> None:
        """Let go; containers run on."""
        ...


class GpuProbe(Protocol):
    """The box's GPUs. Calls block up to their time limit in a thread of the adapter's own."""

    simulated: bool

    async def table(self) -> GpuTable:
        """Describe all devices now, by index. A box without a driver has an empty table and driver None."""
        ...

    def lock(self, uuid: str) -> bool:
        """
        Take the machine-wide lock of one GPU (``flock`` on a file named by its UUID); False: another runner has it.
        """
        ...

    def unlock(self, uuid: str) -> None:
        """Give the lock back; idempotent."""
        ...

    async def close(self) -> None:
        """Shut the library down."""
        ...
