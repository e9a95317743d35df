"""
One parser for all commands: errors are one line that says what, where and what to do, and end 64.

Commands are loaded by name, so that the help of one does not load the others.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Never, Protocol, cast

from runner.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    Subparsers = argparse._SubParsersAction["Parser"]  # noqa: SLF001 - argparse has no public name for it

EXIT_USAGE = 64
DETAIL = re.compile(r"argument (?P<name>[^:]+): (?P<problem>.*)", re.DOTALL)


class Module(Protocol):
    """What the module of one or more commands gives."""

    def add_parser(self, subparsers: Subparsers) -> None:
        """Add a parser for each of its commands, through :func:`add_command`."""
        ...


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that names the nearest option, and never prints its usage for a mistake."""

    hint = ""
    """What to say to a word too many."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take no abbreviations: an option added later must not change what a script means."""
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": Help, **kwargs})  # type: ignore[arg-type]

    def error(self, message: str) -> Never:
        """Say in one line what is wrong, and end 64."""
        sys.stderr.write(f"{self.prog}: {self._one_line(message)}; see: {self.prog} --help\n")
        sys.exit(EXIT_USAGE)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(known)}{nearest(str(value), known)}")

    def _one_line(self, message: str) -> str:
        if message.startswith("unrecognized arguments: "):
            return self._unknown(message.split(": ", 1)[1].split())
        if message.startswith("the following arguments are required: "):
            return self._missing(message.split(": ", 1)[1])
        if found := DETAIL.fullmatch(message):
            return f"{found['name'].split('/')[-1]}: {found['problem']}"
        return " ".join(message.split())

    def _missing(self, name: str) -> str:
        known = next((action.choices for action in self._actions if name in {action.dest, action.metavar}), None)
        return f"{name} is missing" + (f": write {' or '.join(map(str, known))}" if known else "")

    def _unknown(self, words: list[str]) -> str:
        options = [word for word in words if word.startswith("-")]
        if not options:
            return f"{words[0]!r} is one word too many" + (f"; {self.hint}" if self.hint else "")
        known = [option for action in self._actions for option in action.option_strings]
        return f"no such option {options[0]}{nearest(options[0].split('=')[0], known)}"


class Help(argparse.HelpFormatter):
    """Help that fits the terminal, with room for the longest options."""

    def __init__(self, prog: str) -> None:
        """Leave a third of the line to the options."""
        super().__init__(prog, max_help_position=32)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` for the nearest known word, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def new_parser(names: Iterable[str]) -> Parser:
    """Make the program's parser with the named commands in it."""
    parser = Parser(prog="runner", add_help=False)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", parser_class=Parser)
    for module in dict.fromkeys(COMMANDS[name].module for name in names):
        # An import has no type of its own; completion loads every one of them.
        cast("Module", importlib.import_module(f"runner.cli.{module}")).add_parser(subparsers)
    return parser


def add_command(subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int]) -> Parser:
    """Add a command with the options that every command takes."""
    about = COMMANDS[name].about
    parser = subparsers.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    parser.add_argument(
        "--state-dir", metavar="DIR", help="the box's state (RUNNER_STATE_DIR; /var/lib/runner as root)"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback where something unexpected went wrong")
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_job(parser: Parser) -> None:
    """Add the job that a command is about."""
    parser.add_argument("job", metavar="JOB", type=_job_name, help="its id or key")


def _job_name(text: str) -> str:
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} names no job; list them with: runner ps --all")
    return text


def add_json(parser: Parser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document with stable names")


def add_raw(parser: Parser) -> None:
    """Add ``--raw``."""
    parser.add_argument("--raw", action="store_true", help="let all that the job wrote act on this terminal")


def add_queue(parser: Parser) -> None:
    """Add the options of commands that work from anywhere through a queue's result backend."""
    parser.add_argument(
        "--queue",
        metavar="URL",
        default=os.environ.get("RUNNER_QUEUE"),
        help="a queue, like folder:///q/train or redis://host:6379/0?queue=train (RUNNER_QUEUE); absent: this box. "
        "What it leaves out of a login is read from RUNNER_QUEUE_USERNAME and RUNNER_QUEUE_PASSWORD",
    )
    parser.add_argument(
        "--credential",
        metavar="FILE",
        default=os.environ.get("RUNNER_CREDENTIAL"),
        help="instead of a URL: the credential file that the boxes have (RUNNER_CREDENTIAL); --queue NAME then names "
        "one of several queues behind it",
    )
    parser.add_argument(
        "--results",
        metavar="URL",
        help="with --queue: its result backend, as its credential file names it (RUNNER_RESULTS); absent: its own",
    )
