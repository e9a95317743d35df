"""``runner logs``: what a job wrote, from wherever it stands."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path
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
    from runner.receipt import Event, Receipt

    Show = Callable[[LogLine | Event], None]


LATE_S = 20.0
"""A box waits for less between two tries to send something."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``logs``."""
    parser = add_command(subparsers, "logs", print_log)
    add_job(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ended for good")
    parser.add_argument(
        "--archive",
        action="store_true",
        help="the whole stdout and stderr of its last attempt as one, from the archive that is stored at its end",
    )
    add_json(parser)
    add_queue(parser)


def print_log(args: argparse.Namespace) -> int:
    """Print stdout to stdout, stderr to stderr, and what the runner added to stderr."""
    if args.archive and (args.follow or args.json):
        args.parser.error("--archive: it is the log's own bytes of a job that ended, so without --follow and --json")
    if args.archive:
        asyncio.run(_print_archive(args))
        return 0
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
        empty = _why_empty(receipt)
        async for told in _stored(args, receipt.key or args.job, ended=ended):
            show(told)
            empty = "" if isinstance(told, LogLine) else empty
        return empty


def _why_empty(receipt: Receipt) -> str:
    if receipt.state != "ended":
        return f"{receipt.id} has written nothing yet: it is {receipt.state}"
    if receipt.log.bytes and receipt.log.url:
        return f"what {receipt.id} wrote is no longer kept here; its archive has it: runner logs --archive {receipt.id}"
    return f"{receipt.id} has written nothing"


async def _print_archive(args: argparse.Namespace) -> None:
    """Copy the archive here, then print what is packed in it."""
    from runner.cli.books import open_book
    from runner.cli.target import open_view

    async with open_book(args) as book:
        receipt = await book.receipt(args.job)
    if receipt is None:
        raise unknown_job(args)
    if not receipt.log.url:
        raise Refused(
            f"{receipt.id} has no archive of its log: it is {receipt.state}; runner logs prints what there is"
        )
    with tempfile.TemporaryDirectory(prefix="runner-log-") as scratch:
        archive = Path(scratch) / "log.gz"
        async with open_view(args) as view:
            await view.results.get_log(receipt.log.url, str(archive))
        await asyncio.to_thread(_unpack, archive, receipt.log.url)


def _unpack(archive: Path, url: str) -> None:
    sys.stdout.flush()
    try:
        with gzip.open(archive) as packed:
            shutil.copyfileobj(packed, sys.stdout.buffer)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refused(f"{url}: the archive is damaged: {error}") from error
    sys.stdout.buffer.flush()


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
