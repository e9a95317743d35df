"""``runner gpus`` and ``sources``: the running runner answers; without one, `gpus` looks for itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from runner.cli import paths
from runner.cli.output import print_json, print_rows, say
from runner.cli.parser import add_command, add_json
from runner.errors import Unavailable

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers
    from runner.receipt import GpuRow, GpuTable, QueueRow, SourceRow

GPUS = ("GPU", "MODEL", "MEMORY", "USED", "HEALTH", "JOB", "UUID", "NOTE")
SOURCES = ("FILE", "KIND", "STATE", "QUEUE", "WAITING", "NOTE")


def add_parser(subparsers: Subparsers) -> None:
    """Add both."""
    add_json(add_command(subparsers, "gpus", list_gpus))
    add_json(add_command(subparsers, "sources", list_sources))


def list_gpus(args: argparse.Namespace) -> int:
    """Print one line a GPU."""
    from adapters.http.client import ControlClient

    try:
        table = ControlClient(paths.control_socket(paths.state_dir(args))).gpus()
    except Unavailable:
        table = asyncio.run(_look(args))
    if args.json:
        print_json(table)
        return 0
    if not table.gpus:
        say("no GPU: the NVIDIA driver is not loaded" if table.driver is None else "no GPU")
    print_rows(GPUS, [_gpu_cells(gpu) for gpu in table.gpus])
    return 0


async def _look(args: argparse.Namespace) -> GpuTable:
    from runner.cli.look import look_at_gpus
    from runner.cli.settings import load

    return await look_at_gpus(load(args)[0])


def _gpu_cells(gpu: GpuRow) -> tuple[object, ...]:
    from runner.units import format_size

    used = "-" if gpu.memory_used is None else format_size(gpu.memory_used)
    note = gpu.reason or (f"processes {', '.join(map(str, gpu.processes))}" if gpu.processes else "")
    return gpu.index, gpu.model, format_size(gpu.memory_total), used, gpu.health, gpu.job or "-", gpu.uuid, note


def list_sources(args: argparse.Namespace) -> int:
    """Print one line a queue, and one for each credential file without any."""
    from adapters.http.client import ControlClient

    rows = ControlClient(paths.control_socket(paths.state_dir(args))).sources()
    if args.json:
        print_json(rows)
        return 0
    print_rows(SOURCES, [cells for row in rows for cells in _source_cells(row)], wrap=True)
    return 0


def _source_cells(row: SourceRow) -> list[tuple[object, ...]]:
    head = (row.file, row.kind or "-", row.state)
    if not row.queues:
        empty = row.note or ("no queue behind it that is wanted" if row.state == "in use" else "")
        return [(*head, "-", "-", _note(row, row.reason or empty, row.warning))]
    return [
        (*head, queue.name, "-" if queue.depth is None else queue.depth, _queue_note(row, queue))
        for queue in row.queues
    ]


def _queue_note(row: SourceRow, queue: QueueRow) -> str:
    """Say what a person should know; of a queue that is well, that it is polled."""
    return _note(row, row.reason or queue.state, queue.warning, row.warning)


def _note(row: SourceRow, *parts: str) -> str:
    """Join what is said of a file, whose name stands before it already."""
    return "; ".join(part.removeprefix(f"{row.file} ") for part in parts if part)
