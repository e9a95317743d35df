"""What this machine gives to jobs, as the runner of the demo will see it."""

from __future__ import annotations

from pathlib import Path

from runner.cli.demo.account import BoxFacts
from runner.config import Config
from runner.errors import Unavailable
from runner.units import format_size

SIMULATED = 2


async def look_at_machine(directory: Path) -> BoxFacts:
    """Measure cores and memory; GPUs are real where all that are healthy can be had now, else simulated."""
    from adapters.box import measure_box

    box = measure_box(Config(), "demo", str(directory))
    count, model, why = await _gpus()
    return BoxFacts(len(box.cores), box.memory, count or SIMULATED, model, why)


async def _gpus() -> tuple[int, str, str]:
    """Return how many cards can be had and what they are called, or why there are none to have."""
    from adapters.registry import open_probe
    from runner.receipt import GpuTable

    probe = open_probe(Config(), "demo")
    try:
        table: GpuTable = await probe.table()
        healthy = [gpu for gpu in table.gpus if gpu.health == "healthy"]
        if table.driver is None or not healthy:
            return 0, "", "no NVIDIA driver" if table.driver is None else "no healthy GPU"
        if not all(probe.lock(gpu.uuid) for gpu in healthy):
            return 0, "", "another runner has the GPUs"
        return len(healthy), healthy[0].model, ""
    except Unavailable:
        return 0, "", "the GPUs cannot be asked or locked"
    finally:
        await probe.close()


def runner_options(box: BoxFacts, locks: Path) -> tuple[str, ...]:
    """Return the options of ``run`` that make it see these GPUs; simulated ones are no other runner's business."""
    if box.gpu_model:
        return ("--gpus=auto",)
    return (f"--gpus=simulated:{box.gpus}", f"--gpu-locks={locks}")


def told(box: BoxFacts) -> tuple[str, ...]:
    """Say it in a few words each."""
    gpus = f"{box.gpus} GPU{'' if box.gpus == 1 else 's'}: {box.gpu_model}"
    if box.why_simulated:
        gpus = f"{box.why_simulated}, so {box.gpus} simulated GPUs"
    cores = f"{box.cores} core{'' if box.cores == 1 else 's'}"
    return cores, format_size(box.memory), gpus, "nothing else is needed"
