"""``runner version``."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import runner
from runner.cli.parser import add_command, add_json

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``version``."""
    add_json(add_command(subparsers, "version", show_version))


def show_version(args: argparse.Namespace) -> int:
    """Print the version, and that of the Python it runs on."""
    if args.json:
        import json

        print(json.dumps({"version": runner.__version__, "python": platform.python_version()}, separators=(",", ":")))
        return 0
    print(f"runner {runner.__version__} (Python {platform.python_version()})")
    return 0
