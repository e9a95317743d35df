"""Simulated cards are told apart by box, and are always there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.gpus.simulated import SimulatedProbe
from runner.ports import GpuProbe


def test_simulated_cards_have_names_of_their_box(tmp_path: Path) -> None:
    async def scenario() -> None:
        probe: GpuProbe = SimulatedProbe(2, box="b1", locks=str(tmp_path), memory=1 << 30)
        table = await probe.table()
        assert (True, "simulated") == (probe.simulated, table.driver)
        assert [(0, "SIM-b1-0"), (1, "SIM-b1-1")] == [(gpu.index, gpu.uuid) for gpu in table.gpus]
        assert {("healthy", 1 << 30, 0)} == {(gpu.health, gpu.memory_total, gpu.memory_used) for gpu in table.gpus}
        await probe.close()

    asyncio.run(scenario())


def test_closing_gives_the_locks_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = (SimulatedProbe(1, box="b", locks=str(tmp_path)) for _ in range(2))
        assert (True, False) == (first.lock("SIM-b-0"), second.lock("SIM-b-0"))
        await first.close()
        assert second.lock("SIM-b-0")
        second.unlock("SIM-b-0")
        assert first.lock("SIM-b-0")
        await first.close()

    asyncio.run(scenario())
