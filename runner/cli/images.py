"""
``runner images``: what images are here, and which of them the runner brought; pull, pin, unpin, prune.

Works on the engine and the box's account of images, whether a runner runs or not: both may write there at once.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runner.cli.output import ago, lively, print_json, print_rows, say
from runner.cli.parser import add_command, add_json
from runner.errors import Unavailable
from runner.image_keeping import removable, remove_image, wanted_by
from runner.image_name import whole_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from runner.cli.parser import Subparsers
    from runner.config import Config
    from runner.ports import ImageRecords, Images, KnownImages, LocalImage

HEADING = ("NAME", "SIZE", "USED", "PINNED", "IN USE", "OURS", "DIGEST")
ACTIONS = ("list", "pull", "pin", "unpin", "prune")
NAMED = frozenset({"pull", "pin", "unpin"})
SETTINGS = ("docker_host", "certs_dir")


class Row(msgspec.Struct, frozen=True):
    """One name of an image; ``last_used`` in epoch seconds, None where the runner never used it."""

    name: str
    id: str
    digest: str
    size: int
    last_used: float | None
    pinned: bool
    in_use: bool
    ours: bool


class Shelf:
    """The images of this box's engine, and what the box remembers of them."""

    def __init__(self, config: Config, images: Images, records: ImageRecords) -> None:
        """Keep where to look."""
        self.config, self.images, self.records = config, images, records

    async def rows(self) -> list[Row]:
        """List every name of every image, by name."""
        known, used = await self.records.known(), await self.images.in_use()
        found = [row for image in await self.images.list() for row in _rows(image, known, used)]
        return sorted(found, key=lambda row: (row.name == "", row.name, row.id))

    async def pull(self, name: str) -> Row:
        """Pull with the login that the credential files say; what it brings is ours."""
        from adapters.credentials import DirectoryCredentials
        from runner.credential import login_for

        whole, before = whole_name(name), await self.images.resolve(name)
        _, login = login_for(name, await DirectoryCredentials(self.config.certs_dir).scan()) or ("", None)
        await self.records.begin(whole, before.id if before else "")
        try:
            image = await self.images.pull(name, login, say if lively() else _unheard)
        except BaseException:
            await self.records.abandon(whole)
            raise
        if before is None or before.id != image.id:
            await self.records.complete(whole, image, time.time())
        else:
            await self.records.abandon(whole)
        return next(row for row in await self.rows() if row.id == image.id)

    async def pin(self, name: str) -> bool:
        """Let what has this name stay, now or once it is here, which is returned; before a pull is in time, too."""
        here = await self.images.resolve(name)
        await self.records.pin(whole_name(name))
        return here is not None

    async def prune(self) -> list[Row]:
        """Remove what the runner brought and nobody uses or wants; return what is gone."""
        from runner.cli.books import ROWS_MAX, open_journal

        async with open_journal(Path(self.config.state_dir)) as journal:
            wanted = wanted_by(await journal.list(limit=ROWS_MAX, ended=False))
        known, used, gone = await self.records.known(), await self.images.in_use(), list[Row]()
        for image in removable(await self.images.list(), known, wanted, used=used, now=time.time()):
            if await remove_image(image, known, self.images, self.records):
                gone += _rows(image, known, used)
        return gone


def add_parser(subparsers: Subparsers) -> None:
    """Add ``images``."""
    from runner.cli.settings import add_some_settings

    parser = add_command(subparsers, "images", handle)
    about = "list them, pull one, let one stay or let it go with the others, or remove what nobody uses"
    named = "with pull, pin and unpin: which one; it is its name that is pinned, and may be before it is here"
    parser.add_argument("action", choices=ACTIONS, help=about)
    parser.add_argument("name", metavar="IMAGE", nargs="?", help=named)
    add_json(parser)
    add_some_settings(parser, SETTINGS)


def handle(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    if (args.action in NAMED) != (args.name is not None):
        wanted = f"{args.action} takes the name of an image" if args.action in NAMED else f"{args.action} takes no name"
        args.parser.error(wanted)
    return asyncio.run(_handle(args))


async def _handle(args: argparse.Namespace) -> int:
    async with _opened(args) as shelf:
        match args.action:
            case "list":
                return _print(args, await shelf.rows())
            case "pull":
                row = await shelf.pull(args.name)
                return _done(args, row, f"{args.name} is here: {row.digest}")
            case "pin":
                stays = "stays" if await shelf.pin(args.name) else _absent(args.name)
                return _done(args, whole_name(args.name), f"{args.name} {stays}, whatever becomes of the disk")
            case "unpin":
                found = await shelf.records.unpin(whole_name(args.name))
                told = f"{args.name} goes with the others" if found else f"{args.name} was not pinned"
                return _done(args, whole_name(args.name), told)
            case _:
                gone = await shelf.prune()
                return _done(args, gone, _told(gone))


@asynccontextmanager
async def _opened(args: argparse.Namespace) -> AsyncIterator[Shelf]:
    from adapters.image_records import FileImageRecords
    from adapters.registry import open_images
    from runner.cli.settings import load

    config, _ = load(args)
    images = open_images(config)
    if images is None:
        raise Unavailable(f"no container engine at {config.docker_host}: start it, or name it with --docker-host")
    try:
        yield Shelf(config, images, FileImageRecords(config.state_dir))
    finally:
        await images.close()


def _rows(image: LocalImage, known: KnownImages, used: frozenset[str]) -> list[Row]:
    """Return a row for each name, or one without where it has none."""
    ours = {row.name: row for row in known.rows if row.id == image.id}
    last_used = max((row.used_at for row in ours.values()), default=None)
    names = image.names or ("",)
    return [
        Row(
            name,
            image.id,
            image.digest,
            image.size,
            last_used,
            pinned=bool({whole_name(name) if name else "", image.id} & known.pins),
            in_use=image.id in used,
            ours=(whole_name(name) in ours) if name else bool(ours),
        )
        for name in names
    ]


def _print(args: argparse.Namespace, rows: list[Row]) -> int:
    from runner.units import format_size

    if args.json:
        print_json(rows)
        return 0
    cells = [
        (row.name or "<none>", format_size(row.size), ago(row.last_used), *_flags(row), row.digest) for row in rows
    ]
    print_rows(HEADING, cells)
    return 0


def _flags(row: Row) -> tuple[str, ...]:
    return tuple("yes" if flag else "-" for flag in (row.pinned, row.in_use, row.ours))


def _done(args: argparse.Namespace, document: object, sentence: str) -> int:
    if args.json:
        print_json({args.action: document})
    else:
        print(sentence)
    return 0


def _told(gone: list[Row]) -> str:
    from runner.units import format_size

    sizes = {row.id: row.size for row in gone}
    if not sizes:
        return "0 images removed: the others are in use, wanted, pinned, not the runner's, or were used within a minute"
    count = f"{len(sizes)} image{'s' * (len(sizes) != 1)}"
    return f"{count} removed, {format_size(sum(sizes.values()))}"


def _absent(name: str) -> str:
    """Say that what is pinned is not here, which may be meant, or a mistyped name."""
    say(f"{name} is not here, its name alone is pinned; to pull it: runner images pull {shlex.quote(name)}")
    return "will stay"


def _unheard(_line: str) -> None:
    """Whoever reads a file wants the end alone."""
