"""A look at the GPUs without a runner: locks none, hands out none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.config import Config
    from runner.receipt import GpuTable


async def look_at_gpus(config: Config) -> GpuTable:
    """
    Describe the GPUs that a runner with this configuration would find.

    Raises:
        Unavailable: the driver is there and does not answer.
    """
    from adapters.registry import open_probe
    from runner.cli.books import box_id

    probe = open_probe(config, box_id(Path(config.state_dir)))
    try:
        return await probe.table()
    finally:
        await probe.close()
