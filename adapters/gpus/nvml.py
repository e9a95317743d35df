"""
The ``GpuProbe`` port on NVIDIA's management library.

All calls of the library run in one thread, bounded in time, so that a driver that hangs costs the table and nothing
else. A card that answers nothing about itself is told as lost; one that does not know a figure stays healthy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from adapters.gpus.device_thread import DeviceThread
from adapters.gpus.locks import GpuLocks
from runner.errors import Unavailable
from runner.receipt import GpuRow, GpuTable

LIMIT_S = 5.0
UNKNOWN_MODEL = "unknown NVIDIA GPU"


class NvmlProbe:
    """
    The cards of this machine.

    Args:
        locks: the directory that all runners of the machine share.
        limit_s: how long one look at all cards may take.
    """

    simulated = False

    def __init__(self, locks: str, limit_s: float = LIMIT_S) -> None:
        self._locks = GpuLocks(locks)
        self._thread = DeviceThread("the NVIDIA driver", limit_s)
        self._library = _Library()

    async def table(self) -> GpuTable:
        return await self._thread.call(self._library.table)

    def lock(self, uuid: str) -> bool:
        return self._locks.lock(uuid)

    def unlock(self, uuid: str) -> None:
        self._locks.unlock(uuid)

    async def close(self) -> None:
        await self._thread.close(self._library.close)
        self._locks.unlock_all()


class _Library:
    """NVML, used by one thread."""

    def __init__(self) -> None:
        # The module, once it is imported and initialised.
        self._nvml: Any = None
        # Index to what a card said of itself last, so that a lost one is known by name.
        self._known: dict[int, GpuRow] = {}

    def table(self) -> GpuTable:
        import pynvml

        # The errors are classes that the module makes as it is loaded.
        nvml: Any = pynvml
        try:
            return self._read(nvml)
        except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
            self.close()
            return GpuTable(None)
        except nvml.NVMLError as error:
            self.close()
            raise Unavailable(f"the NVIDIA driver cannot list its cards: {error}; see `nvidia-smi`") from error

    def _read(self, nvml: Any) -> GpuTable:
        if self._nvml is None:
            nvml.nvmlInit()
            self._nvml = nvml
        rows = tuple(self._row(index) for index in range(nvml.nvmlDeviceGetCount()))
        return GpuTable(str(nvml.nvmlSystemGetDriverVersion()), rows)

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            with suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _row(self, index: int) -> GpuRow:
        nvml = self._nvml
        try:
            row = self._described(index, nvml.nvmlDeviceGetHandleByIndex(index))
        except nvml.NVMLError_GpuIsLost as error:
            return self._in_trouble(index, "lost", error)
        except nvml.NVMLError_NoPermission as error:
            return self._in_trouble(index, "withheld", error)
        except nvml.NVMLError as error:
            return self._in_trouble(index, "quarantined", error)
        self._known[index] = row
        return row

    def _described(self, index: int, card: Any) -> GpuRow:
        nvml = self._nvml
        memory = self._memory(card)
        return GpuRow(
            index,
            uuid=str(self._ask(nvml, nvml.nvmlDeviceGetUUID, card) or ""),
            model=str(self._ask(nvml, nvml.nvmlDeviceGetName, card) or UNKNOWN_MODEL),
            memory_total=int(memory.total) if memory else 0,
            memory_used=int(memory.used) if memory else None,
            processes=self._processes(card),
        )

    def _memory(self, card: Any) -> Any:
        """Ask in the newer way, which leaves the driver's own share out of what is used, as ``nvidia-smi`` does."""
        nvml = self._nvml
        newer = self._ask(nvml, nvml.nvmlDeviceGetMemoryInfo, card, nvml.nvmlMemory_v2)
        return newer or self._ask(nvml, nvml.nvmlDeviceGetMemoryInfo, card)

    def _processes(self, card: Any) -> tuple[int, ...]:
        """Name the processes that compute; each question by its version, since the library refuses the plain one."""
        nvml = self._nvml
        questions = (
            (nvml.nvmlDeviceGetComputeRunningProcesses_v3, nvml.nvmlDeviceGetComputeRunningProcesses_v2),
            (nvml.nvmlDeviceGetMPSComputeRunningProcesses_v3, nvml.nvmlDeviceGetMPSComputeRunningProcesses_v2),
        )
        found = (self._ask(nvml, newer, card) or self._ask(nvml, older, card) or () for newer, older in questions)
        return tuple(sorted({int(process.pid) for processes in found for process in processes}))

    def _in_trouble(self, index: int, health: str, error: Exception) -> GpuRow:
        known = self._known.get(index) or GpuRow(index, uuid="", model=UNKNOWN_MODEL, memory_total=0)
        return msgspec.structs.replace(known, memory_used=None, processes=(), health=health, reason=str(error))

    @staticmethod
    def _ask(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer, None where this card or library does not know it."""
        unknown = (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_ArgumentVersionMismatch,
        )
        try:
            return ask(*arguments)
        except unknown:
            return None
