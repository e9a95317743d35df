"""
``runner demo``: a runner at work on this machine, in half a minute, with real jobs and a real ``kill -9``.

Runs processes of its own on a private temporary state directory and ends all of them; touches nothing else. Every
figure that it shows was measured in that run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.parser import add_command, add_json

if TYPE_CHECKING:
    import argparse

    from runner.cli.demo.account import Account
    from runner.cli.demo.screen import Screen
    from runner.cli.parser import Subparsers

DEFAULT_DIR = "demo-out"
EXIT_INTERRUPTED = 130


def add_parser(subparsers: Subparsers) -> None:
    """Add ``demo``."""
    parser = add_command(subparsers, "demo", demo)
    parser.add_argument(
        "--dir", metavar="DIR", default=DEFAULT_DIR, help="where outputs go; one that was interrupted goes on there"
    )
    add_json(parser)


def demo(args: argparse.Namespace) -> int:
    """Play it; 0 only if all was as expected."""
    import asyncio

    from runner.cli.demo.play import play
    from runner.cli.demo.screen import Screen
    from runner.cli.demo.stage import open_stage
    from runner.errors import UsageError

    if args.state_dir:
        raise UsageError("--state-dir: a demo has a private one; --dir names the directory of its outputs")
    with open_stage(Path(args.dir)) as stage, Screen(shown=not args.json) as screen:
        account = asyncio.run(play(stage, screen))
        if account is None:
            screen.line("")
            screen.line("demo interrupted: what it started is stopped; the same command goes on with it")
            return EXIT_INTERRUPTED
        stage.store(account)
    _conclude(args, screen, account)
    return 0 if account.ok else 1


def _conclude(args: argparse.Namespace, screen: Screen, account: Account) -> None:
    from runner.cli.demo.closing import closing
    from runner.cli.output import print_json

    if args.json:
        print_json(account)
    for line in closing(account, screen.width):
        screen.line(*line)
