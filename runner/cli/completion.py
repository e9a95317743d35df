"""``runner completion``: a script that lets a shell complete commands and options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.cli.commands import COMMANDS
from runner.cli.parser import add_command, new_parser

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers

SHELLS = ("bash", "zsh", "fish")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``completion``."""
    parser = add_command(subparsers, "completion", print_completion)
    parser.add_argument("shell", choices=SHELLS, help="for example: source <(runner completion bash)")


def print_completion(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(new_parser(COMMANDS), args.shell))
    return 0
