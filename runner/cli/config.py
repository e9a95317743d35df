"""``runner config explain``: each value, and where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.cli.output import masked, print_json, print_rows
from runner.cli.parser import add_command, add_json

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``config``."""
    from runner.cli.settings import add_settings

    parser = add_command(subparsers, "config", explain)
    parser.add_argument("action", choices=("explain",), help="what to do")
    add_json(parser)
    add_settings(parser)


def explain(args: argparse.Namespace) -> int:
    """Print every key with its value and origin; secrets in URLs are masked."""
    from runner.cli.settings import load, written

    config, origins = load(args)
    rows = [(it.name, masked(written(getattr(config, it.name))), it.source) for it in origins]
    if args.json:
        print_json([{"name": name, "value": value, "source": source} for name, value, source in rows])
        return 0
    print_rows(("KEY", "VALUE", "FROM"), rows)
    return 0
