"""``runner logs``: what a job wrote, from wherever it stands."""

from __future__ import annotations

import asyncio
import functools
import gzip
import shutil
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli import paths
from runner.cli.follow import Screen, print_record
from runner.cli.jobs import unknown_job
from runner.cli.log_choice import LastLines, add_choice, choice_of
from runner.cli.log_following import follow_here, take_spool
from runner.cli.log_sources import LATE_S, Archives, HealedLog, resumed, up_to_its_end
from runner.cli.output import say
from runner.cli.parser import add_command, add_job, add_json, add_queue, add_raw
from runner.cli.place import means_box
from runner.errors import Refused
from runner.job import Key
from runner.ports import LogLine, Position
from runner.receipt import end_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from runner.cli.log_choice import Choice
    from runner.cli.parser import Subparsers
    from runner.ports import Results
    from runner.receipt import Event, Receipt

    Told = LogLine | Event
    Show = Callable[[Told], None]


def add_parser(subparsers: Subparsers) -> None:
    """Add ``logs``."""
    parser = add_command(subparsers, "logs", print_log)
    add_job(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ended for good")
    add_choice(parser)
    parser.add_argument("--timestamps", action="store_true", help="the local time in front of each line")
    add_raw(parser)
    parser.add_argument(
        "--archive",
        action="store_true",
        help="the whole stdout and stderr of its last attempt as one, from the archive that is stored at its end",
    )
    add_json(parser)
    add_queue(parser)


def print_log(args: argparse.Namespace) -> int:
    """Print stdout to stdout, stderr to stderr, and what the runner added to stderr."""
    _check(args)
    if args.archive:
        asyncio.run(_print_archive(args))
        return 0
    screen = Screen(runner_lines=True, raw=args.raw, timestamps=args.timestamps, live=args.follow)
    reader = Reader(functools.partial(print_record, live=args.follow) if args.json else screen.show, choice_of(args))
    try:
        if not (args.follow and means_box(args) and follow_here(paths.state_dir(args), args.job, reader)):
            empty = asyncio.run(_print(args, reader))
            reader.caught_up()
            if reader.empty and not args.json:
                say(empty)
    finally:
        screen.finish()
    return 0


def _check(args: argparse.Namespace) -> None:
    chosen = args.stream or args.since is not None or args.tail is not None or args.timestamps
    if args.archive and (args.follow or args.json or chosen):
        args.parser.error(
            "--archive: it is the log's own bytes of a job that ended, so without --follow, --json, --timestamps and "
            "what chooses lines"
        )
    if args.json and args.timestamps:
        args.parser.error("--timestamps: with --json each record has its time in at")


class Reader:
    """Shows what is chosen of what comes: the last lines of what there is, then each as it comes."""

    def __init__(self, show: Show, choice: Choice) -> None:
        """Show nothing yet."""
        self._show = show
        self._choice = choice
        self._kept = None if choice.tail is None else LastLines(choice.tail)
        # State changes, which may come again from another source.
        self._events: set[Event] = set()
        # Whether no record came.
        self.empty = True
        self.next = Position()

    @property
    def wants_last(self) -> bool:
        """Tell whether all that there is must be read before anything is shown."""
        return self._kept is not None

    def take(self, told: Told) -> None:
        """Take the next record or state change."""
        if isinstance(told, LogLine):
            self.empty, self.next = False, told.next
        elif told in self._events:
            return
        else:
            self._events.add(told)
        if self._choice.wants(told):
            (self._show if self._kept is None else self._kept.add)(told)

    def caught_up(self) -> None:
        """Show what was kept: what comes now is shown as it comes."""
        kept, self._kept = self._kept, None
        for told in kept.told() if kept is not None else ():
            self._show(told)


async def _print(args: argparse.Namespace, reader: Reader) -> str:
    """Take in what there is; return what to say where there was nothing."""
    from runner.cli.books import open_book
    from runner.cli.target import open_view

    async with open_book(args) as book:
        receipt = await book.receipt(args.job)
    if receipt is None:
        raise unknown_job(args)
    key, ended = Key(receipt.key or args.job), receipt.state == "ended"
    if means_box(args):
        await take_spool(paths.state_dir(args), key, reader)
        if not reader.empty and (ended or not args.follow):
            reader.take(end_of(receipt)) if ended else None
            return ""
    async with open_view(args) as view:
        archives = Archives(view.results, receipt)
        if args.follow and not ended:
            await _follow(view.results, key, archives, reader)
        else:
            late_s = LATE_S if args.follow and not archives.attempts else None
            await _take_whole(view.results, key, archives, reader, late_s=late_s)
        return _why_empty(receipt, archives.problem)


async def _follow(results: Results, key: Key, archives: Archives, reader: Reader) -> None:
    if reader.wants_last:
        await _take_whole(results, key, archives, reader, late_s=None)
        reader.caught_up()
    async for told in resumed(results, key, reader.next):
        reader.take(told)


async def _take_whole(results: Results, key: Key, archives: Archives, reader: Reader, *, late_s: float | None) -> None:
    """Take in all that stands; of a job that ended, wait for what comes late up to ``late_s``."""
    log = results.tail(key, Position(), follow=late_s is not None)
    healed = HealedLog(log if late_s is None else up_to_its_end(log, late_s), archives)
    async for told in healed.read():
        reader.take(told)
    if late_s is not None and not healed.whole:
        say("the box that had this job has not sent the end of its log: ask again later")


def _why_empty(receipt: Receipt, problem: str) -> str:
    if receipt.state != "ended":
        return f"{receipt.id} has written nothing yet: it is {receipt.state}"
    if receipt.log.bytes and problem:
        return f"what {receipt.id} wrote is no longer kept here, and its archive cannot be had: {problem}"
    return f"{receipt.id} has written nothing"


async def _print_archive(args: argparse.Namespace) -> None:
    """Print what is packed in it: of the one on this box, else of a copy."""
    from adapters.spool_shelf import SpoolShelf
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
    shelf, key = SpoolShelf(str(paths.spools(paths.state_dir(args)))), Key(receipt.key or args.job)
    if means_box(args) and shelf.is_sealed(key, receipt.attempt):
        await asyncio.to_thread(_unpack, Path(shelf.archive(key, receipt.attempt)), receipt.log.url)
        return
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
