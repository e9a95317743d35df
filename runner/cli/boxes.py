"""``runner boxes``: which machines serve a queue, by the signs of life that they give in its result backend."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from runner.cli.books import ALIVE_S
from runner.cli.output import ago, print_json, print_rows, say
from runner.cli.parser import add_command, add_json, add_queue

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers
    from runner.receipt import BoxBeat, GpuRow

HEADING = ("BOX", "SEEN", "STATE", "GPUS", "FREE", "CORES", "FREE", "MEMORY", "FREE", "JOBS", "MODEL", "ID")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``boxes``."""
    parser = add_command(subparsers, "boxes", list_boxes)
    add_json(parser)
    add_queue(parser)


def list_boxes(args: argparse.Namespace) -> int:
    """Print one line a box, those that were seen last first."""
    beats, now = asyncio.run(_read(args)), time.time()
    if args.json:
        print_json([_document(beat, now) for beat in beats])
        return 0
    if not beats:
        say("no box has given a sign of life within a day")
    print_rows(HEADING, [_cells(beat, now) for beat in beats])
    return 0


async def _read(args: argparse.Namespace) -> list[BoxBeat]:
    from runner.cli.target import open_view

    async with open_view(args) as view:
        return sorted(await view.results.beats(), key=lambda beat: (-beat.at, beat.box))


def _document(beat: BoxBeat, now: float) -> dict[str, object]:
    import msgspec

    fields = {name: getattr(beat, name) for name in beat.__struct_fields__}
    told = msgspec.to_builtins(fields)
    return {**told, "age": round(max(0.0, now - beat.at), 3), "state": _state(beat, now), "gpus_free": _free(beat.gpus)}


def _state(beat: BoxBeat, now: float) -> str:
    return "alive" if now - beat.at <= ALIVE_S else "silent"


def _free(gpus: tuple[GpuRow, ...]) -> int:
    return sum(gpu.job is None and gpu.health == "healthy" for gpu in gpus)


def _cells(beat: BoxBeat, now: float) -> tuple[object, ...]:
    from runner.units import format_size

    others = f"{beat.others} of other queues" if beat.others else ""
    jobs = " and ".join(text for text in (", ".join(beat.running), others) if text)
    return (
        beat.host or beat.box,
        ago(beat.at, now),
        _state(beat, now),
        len(beat.gpus),
        _free(beat.gpus),
        beat.cores,
        f"{beat.cores_free:g}",
        format_size(beat.memory),
        format_size(beat.memory_free),
        jobs or "-",
        _models(beat.gpus) or "-",
        beat.box,
    )


def _models(gpus: tuple[GpuRow, ...]) -> str:
    models = [gpu.model for gpu in gpus]
    return ", ".join(f"{models.count(model)} {model}" for model in dict.fromkeys(models))
