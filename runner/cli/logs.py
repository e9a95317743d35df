"""``runner logs``: what a job wrote, from wherever it stands."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from runner.cli import paths
from runner.cli.follow import Screen, print_record
from runner.cli.jobs import unknown_job
from runner.cli.output import say
from runner.cli.parser import add_command, add_job, add_json, add_queue
from runner.cli.place import means_box
from runner.errors import Refused, Unavailable
from runner.ports import LogLine, Position

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable

    from runner.cli.parser import Subparsers
    from runner.receipt import Event

    Show = Callable[[LogLine | Event], None]


LATE_S = 20.0
"""A box waits for less between two tries to send something."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``logs``."""
    parser = add_command(subparsers, "logs", print_log)
    add_job(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ended for good")
    add_json(parser)
    add_queue(parser)


def print_log(args: argparse.Namespace) -> int:
    """Print stdout to stdout, stderr to stderr, and what the runner added to stderr."""
    screen = Screen(verbose=False, runner_lines=True)
    show = print_record if args.json else screen.show
    if args.follow and means_box(args) and _follow_here(args, show):
        return 0
    empty = asyncio.run(_print(args, show))
    screen.clear()
    if empty and not args.json:
        say(empty)
    return 0


def _follow_here(args: argparse.Namespace, show: Show) -> bool:
    """Follow through the running runner; False where none runs, or it does not know the job yet."""
    from adapters.http.client import ControlClient

    client = ControlClient(paths.control_socket(paths.state_dir(args)))
    try:
        client.health()
        log = client.log(args.job, Position(), follow=True)
        first = next(log, None)
    except (Unavailable, Refused):
        return False
    if first is not None:
        show(first)
    for told in log:
        show(told)
    return True


async def _print(args: argparse.Namespace, show: Show) -> str:
    """Print what there is; return what to say where there was nothing."""
    from runner.cli.books import open_book

    async with open_book(args) as book:
        receipt = await book.receipt(args.job)
        if receipt is None:
            raise unknown_job(args)
        ended = receipt.state == "ended"
        if args.follow and not ended and means_box(args):
            say("no runner has this job now; waiting for one")
        empty = f"{receipt.id} has written nothing" + ("" if ended else f" yet: it is {receipt.state}")
        async for told in _stored(args, receipt.key or args.job, ended=ended):
            show(told)
            empty = "" if isinstance(told, LogLine) else empty
        return empty


async def _stored(args: argparse.Namespace, key: str, *, ended: bool) -> AsyncIterator[LogLine | Event]:
    """Read the spool on this box where there is one, else the result backend."""
    from runner.cli.target import open_view

    if means_box(args) and (ended or not args.follow):
        found = False
        async for told in _spooled(args, key):
            found = True
            yield told
        if found:
            return
    async with open_view(args) as view:
        log = view.results.tail(key, Position(), follow=args.follow)
        async for told in up_to_its_end(log, LATE_S) if args.follow and ended else log:
            yield told


async def up_to_its_end(log: AsyncIterator[LogLine | Event], limit_s: float) -> AsyncIterator[LogLine | Event]:
    """Follow a job that has ended: a box sends the last of a log after the receipt, or may never come to it."""
    while True:
        try:
            async with asyncio.timeout(limit_s):
                told = await anext(log, None)
        except TimeoutError:
            say("the box that had this job has not sent the end of its log: ask again later")
            return
        if told is None:
            return
        yield told


async def _spooled(args: argparse.Namespace, key: str) -> AsyncIterator[LogLine | Event]:
    from adapters.http.follow import told_by
    from adapters.spool import FileSpool
    from runner.job import Key

    spool, position = FileSpool(str(paths.spools(paths.state_dir(args))), time.time_ns), Position()
    while lines := await spool.read(Key(key), position):
        for line in lines:
            yield told_by(line)
        position = Position(lines[-1].attempt, lines[-1].sequence + 1)
