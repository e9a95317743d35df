"""``runner ps``, ``show`` and ``why``: they read, and need no running runner."""

from __future__ import annotations

import asyncio
import shlex
import time
from typing import TYPE_CHECKING, TypeVar

from runner.cli.output import ago, clock, masked, print_facts, print_json, print_rows
from runner.cli.parser import add_command, add_job, add_json, add_queue
from runner.cli.place import means_box, same_place
from runner.errors import Refused

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from runner.cli.books import Book
    from runner.cli.parser import Subparsers
    from runner.receipt import JobRow

T = TypeVar("T")
HEADING = ("JOB", "STATE", "RAN", "EXIT", "TRY", "GPUS", "USER", "SUBMITTED", "QUEUE")


def add_parser(subparsers: Subparsers) -> None:
    """Add all three."""
    listing = add_command(subparsers, "ps", list_jobs)
    listing.add_argument("--all", action="store_true", help="also the jobs that ended")
    add_json(listing)
    add_queue(listing)
    for name, run in (("show", show_job), ("why", say_why)):
        parser = add_command(subparsers, name, run)
        add_job(parser)
        add_json(parser)
        add_queue(parser)


def list_jobs(args: argparse.Namespace) -> int:
    """Print one line a job, newest first."""
    rows = _read(args, lambda book: book.rows(ended=args.all))
    if args.json:
        print_json(rows)
        return 0
    now = time.time()
    print_rows(HEADING, [_cells(row, now) for row in rows])
    return 0


def show_job(args: argparse.Namespace) -> int:
    """Print all that is known of one job."""
    receipt = _known(args, _read(args, lambda book: book.receipt(args.job)))
    if args.json:
        print_json(receipt)
        return 0
    from runner.cli.receipt_text import facts

    print_facts(facts(receipt))
    return 0


def say_why(args: argparse.Namespace) -> int:
    """Print one sentence."""
    why = _known(args, _read(args, lambda book: book.why(args.job)))
    if args.json:
        print_json(why)
        return 0
    since = "at" if why.state == "ended" else "since"
    print_facts(((why.id, f"{why.state} {since} {clock(why.since)}: {why.sentence}"),))
    return 0


def _read(args: argparse.Namespace, ask: Callable[[Book], Awaitable[T]]) -> T:
    from runner.cli.books import open_book

    async def read() -> T:
        async with open_book(args) as book:
            return await ask(book)

    return asyncio.run(read())


def _known(args: argparse.Namespace, found: T | None) -> T:
    if found is None:
        raise unknown_job(args)
    return found


def unknown_job(args: argparse.Namespace) -> Refused:
    """Return the error for a job that nobody knows."""
    where = "on this box" if means_box(args) else f"in {masked(args.queue or args.credential)}"
    listing = shlex.join(["runner", "ps", "--all", *same_place(args)])
    return Refused(f"no job {args.job!r} {where}; list them with: {listing}")


def _cells(row: JobRow, now: float) -> tuple[object, ...]:
    return (
        row.id,
        row.end_reason or row.state,
        _ran(row, now),
        "-" if row.exit_code is None else row.exit_code,
        row.attempt,
        len(row.gpus) or "-",
        row.user or "-",
        ago(row.submitted_at, now),
        row.queue,
    )


def _ran(row: JobRow, now: float) -> str:
    from runner.units import format_duration

    if row.started_at is None or (row.ended_at is None and row.state == "waiting"):
        return "-"
    return format_duration(max(0.0, (row.ended_at or now) - row.started_at))
