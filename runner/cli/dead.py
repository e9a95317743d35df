"""
``runner dead``: the messages that a queue rejected; each can be looked at, tried again, or deleted.

A message is shown as the job that it holds. What may be secret of it is masked: all values of ``env``, logins in URLs,
and in a message of another form what its keys call a secret. ``--raw`` prints its own bytes.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import TYPE_CHECKING

import msgspec

from runner.cli.letters import Letter, letters_of
from runner.cli.output import ago, clock, print_facts, print_json, print_rows, printable
from runner.cli.parser import add_command, add_json, add_queue
from runner.cli.place import same_place
from runner.errors import Refused

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Sequence

    from runner.cli.parser import Subparsers
    from runner.ports import Queue

HEADING = ("SUBMISSION", "JOB", "WHEN", "TRIES", "USER", "REASON")
ACTIONS = ("list", "show", "retry", "drop")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``dead``."""
    parser = add_command(subparsers, "dead", handle)
    parser.add_argument("action", choices=ACTIONS, help="list them, show one, let it wait again, or delete it")
    parser.add_argument(
        "letter", metavar="SUBMISSION", nargs="?", help="which one, by the beginning of its submission or its job's id"
    )
    parser.add_argument("--all", action="store_true", help="with retry and drop: every one that stands there now")
    parser.add_argument("--raw", action="store_true", help="with show: the message's own bytes, secrets and all")
    add_json(parser)
    add_queue(parser)


def handle(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    _check(args)
    return asyncio.run(_handle(args))


def _check(args: argparse.Namespace) -> None:
    takes_all, named = args.action in {"retry", "drop"}, args.letter is not None
    if args.all and not takes_all:
        args.parser.error(f"--all: it is for retry and drop, and {args.action} takes none")
    if args.raw and args.action != "show":
        args.parser.error("--raw: it is for show")
    if args.action == "list" and named:
        args.parser.error(f"{args.letter!r} is one word too many; runner dead show prints one")
    if args.action != "list" and named == args.all:
        both = "either a SUBMISSION or --all" if takes_all else "a SUBMISSION"
        args.parser.error(f"{args.action} takes {both}; list them with: runner dead list")


async def _handle(args: argparse.Namespace) -> int:
    from runner.cli.target import existing_place, open_target

    place = existing_place(args)
    if place.own and place.root is not None and not place.root.is_dir():
        return _done(args, ())
    async with open_target(args, make=False) as target:
        letters = letters_of(target.queue, await target.queue.dead())
        match args.action:
            case "list":
                return _list(args, letters)
            case "show":
                return _show(args, _named(args, letters))
            case _:
                chosen = letters if args.all else (_named(args, letters),)
                return _done(args, await _each(target.queue, args.action, chosen))


def _list(args: argparse.Namespace, letters: Sequence[Letter]) -> int:
    if args.json:
        print_json([letter.row() for letter in letters])
        return 0
    cells = [(it.submission[:12], it.id, ago(it.at), it.tries, it.user or "-", it.reason) for it in letters]
    print_rows(HEADING, cells, wrap=True)
    return 0


def _named(args: argparse.Namespace, letters: Sequence[Letter]) -> Letter:
    """
    Find the one that is meant.

    Raises:
        Refused: there is none, or several.
    """
    found = [it for it in letters if it.id == args.letter or it.submission.startswith(args.letter)]
    if len(found) == 1:
        return found[0]
    if not found:
        listing = shlex.join(["runner", "dead", "list", *same_place(args)])
        raise Refused(f"no dead letter {args.letter!r}; list them with: {listing}")
    several = ", ".join(it.submission for it in found[:3])
    raise Refused(f"{args.letter!r} means {len(found)} dead letters; write more of one: {several}")


def _show(args: argparse.Namespace, letter: Letter) -> int:
    if args.raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(letter.body)
        return 0
    message, problem = letter.content()
    if args.json:
        told = {"message": message, "bytes": len(letter.body), "problem": problem, "history": letter.note.history}
        print_json({**letter.row(), **told})
        return 0
    past = "; ".join(f"{it.reason} on {it.box} after {it.seconds:g} s" for it in letter.note.history)
    facts = [("submission", letter.submission), ("job", letter.id), ("name", letter.name)]
    facts += [("user", letter.user), ("rejected", clock(letter.at)), ("reason", letter.reason)]
    facts += [("tries", str(letter.tries)), ("history", past), ("boxes", ", ".join(letter.note.boxes))]
    print_facts([*facts, ("message", f"{len(letter.body)} bytes" + (f": {problem}" if problem else ""))])
    text = "" if problem else msgspec.json.format(msgspec.json.encode(message), indent=2).decode()
    for line in text.splitlines():
        print(printable(line))
    return 0


async def _each(queue: Queue, action: str, letters: Sequence[Letter]) -> tuple[str, ...]:
    """Retry or drop; return the submissions of those that were still there."""
    call: Callable[[str], Awaitable[bool]] = queue.retry_dead if action == "retry" else queue.drop_dead
    return tuple([letter.submission for letter in letters if await call(letter.submission)])


def _done(args: argparse.Namespace, submissions: Sequence[str]) -> int:
    if args.json:
        print_json([] if args.action == "list" else {args.action: submissions})
        return 0
    if args.action == "list":
        print_rows(HEADING, ())
        return 0
    what = "made to wait again" if args.action == "retry" else "deleted"
    print(f"{len(submissions)} dead letter{'s' * (len(submissions) != 1)} {what}")
    return 0
