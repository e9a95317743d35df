"""A look at the GPUs without a runner: locks none, hands out none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import ConfigurationError
from runner.receipt import GpuTable

if TYPE_CHECKING:
    from runner.config import Config
    from runner.ports import GpuProbe

SIMULATED = "simulated:"


async def look_at_gpus(config: Config) -> GpuTable:
    """
    Describe the GPUs that a runner with this configuration would find.

    Raises:
        Unavailable: the driver is there and does not answer.
        ConfigurationError: ``gpus`` is none of its values.
    """
    probe = _probe(config)
    if probe is None:
        return GpuTable(None)
    try:
        return await probe.table()
    finally:
        await probe.close()


def _probe(config: Config) -> GpuProbe | None:
    from adapters.gpus.nvml import NvmlProbe
    from adapters.gpus.simulated import SimulatedProbe
    from runner.cli.books import box_id

    count = config.gpus.removeprefix(SIMULATED)
    if config.gpus == "auto":
        return NvmlProbe(config.gpu_locks)
    if config.gpus.startswith(SIMULATED) and count.isdigit():
        return SimulatedProbe(int(count), box=box_id(Path(config.state_dir)), locks=config.gpu_locks)
    if config.gpus == "none":
        return None
    raise ConfigurationError(f'gpus: {config.gpus!r} will not do: write "auto", "none" or "simulated:2"')
