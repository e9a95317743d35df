"""GPUs that are names alone, for boxes without any: everything but the computing can be tried."""

from __future__ import annotations

from adapters.gpus.locks import GpuLocks
from runner.receipt import GpuRow, GpuTable

DRIVER = "simulated"


class SimulatedProbe:
    """
    A number of equal cards, always healthy, never busy.

    Args:
        count: how many.
        box: the box's id, so that two boxes on one machine have different cards.
        locks: the directory that all runners of the machine share.
        model: what they call themselves.
        memory: bytes of each.
    """

    simulated = True

    def __init__(
        self, count: int, *, box: str, locks: str, model: str = "Simulated GPU", memory: int = 16 << 30
    ) -> None:
        self._locks = GpuLocks(locks)
        self._table = GpuTable(
            DRIVER,
            tuple(
                GpuRow(index, uuid=f"SIM-{box}-{index}", model=model, memory_total=memory, memory_used=0)
                for index in range(count)
            ),
        )

    async def table(self) -> GpuTable:
        return self._table

    def lock(self, uuid: str) -> bool:
        return self._locks.lock(uuid)

    def unlock(self, uuid: str) -> None:
        self._locks.unlock(uuid)

    async def close(self) -> None:
        self._locks.unlock_all()
