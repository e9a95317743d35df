"""
What a container uses, from the engine's samples and the kernel's own accounts (control groups v1 and v2).

The engine tells the peak of memory on v1 alone, and nothing any more once the container has ended; the kernel has it in
a file on both for as long as the container runs. Reading that takes microseconds.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

SAMPLE_FIRST_S = 0.02
SAMPLE_GROWTH = 1.2
SAMPLE_MAX_S = 2.0
_NANO = 1e-9


class _CpuUsage(msgspec.Struct, frozen=True):
    nanoseconds: int = msgspec.field(name="total_usage", default=0)


class _Cpu(msgspec.Struct, frozen=True):
    usage: _CpuUsage = msgspec.field(name="cpu_usage", default=_CpuUsage())


class _Memory(msgspec.Struct, frozen=True):
    now_bytes: int | None = msgspec.field(name="usage", default=None)
    peak_bytes: int | None = msgspec.field(name="max_usage", default=None)


class Sample(msgspec.Struct, frozen=True):
    """One sample by the engine."""

    cpu: _Cpu = msgspec.field(name="cpu_stats", default=_Cpu())
    memory: _Memory = msgspec.field(name="memory_stats", default=_Memory())

    @property
    def memory_bytes(self) -> int | None:
        """The peak where the engine tells it, else the memory used now."""
        return self.memory.peak_bytes or self.memory.now_bytes

    @property
    def cpu_seconds(self) -> float:
        """Seconds of processor time since the start."""
        return self.cpu.usage.nanoseconds * _NANO


class PeakMemory:
    """The highest memory of one container, in bytes, as far as it was seen."""

    def __init__(self, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        self.seen_bytes: int | None = None
        self._proc, self._cgroups = proc, cgroups
        # When to read next; set while the container is watched.
        self._next: asyncio.TimerHandle | None = None

    def see(self, size: int | None) -> None:
        """Take note of one sample."""
        if size is not None:
            self.seen_bytes = max(size, self.seen_bytes or 0)

    def watch(self, pid: int, container_id: str) -> None:
        """Read the kernel's account from now on for as long as the container runs, where this machine shows it."""
        file = None if self._next is not None else self._account(pid, container_id)
        if file is not None:
            self._watch(file, SAMPLE_FIRST_S)

    def close(self) -> None:
        """Watch no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _watch(self, file: Path, pause_s: float) -> None:
        size = _read(file)
        self.see(size)
        self._next = None
        if size is not None:
            later = min(SAMPLE_MAX_S, pause_s * SAMPLE_GROWTH)
            self._next = asyncio.get_running_loop().call_later(pause_s, self._watch, file, later)

    def _account(self, pid: int, container_id: str) -> Path | None:
        try:
            lines = (self._proc / str(pid) / "cgroup").read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        # A pid means another process where the runner itself lives in a container, hence the id.
        groups = [line.split(":", 2)[1:] for line in lines if container_id in line]
        files = (self._file(controllers, path) for controllers, path in groups)
        return next((file for file in files if file is not None and file.exists()), None)

    def _file(self, controllers: str, path: str) -> Path | None:
        if not controllers:
            return self._cgroups / path.lstrip("/") / "memory.peak"
        if "memory" in controllers.split(","):
            return self._cgroups / "memory" / path.lstrip("/") / "memory.max_usage_in_bytes"
        return None


def _read(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
