"""``runner doctor``: what this box can do, one line each, with what to type where something is amiss."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.output import print_json, print_rows
from runner.cli.parser import add_command, add_json
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers
    from runner.receipt import Check

HEADING = ("STATE", "CHECK", "FOUND")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``doctor``, with the options of ``run``, since it looks at what `run` would use."""
    from runner.cli.settings import add_settings

    parser = add_command(subparsers, "doctor", examine)
    add_json(parser)
    add_settings(parser)


def examine(args: argparse.Namespace) -> int:
    """Print all checks; 1 where one failed, a warning is none."""
    checks = asyncio.run(_examine(args))
    if args.json:
        print_json(checks)
    else:
        print_rows(HEADING, [(check.state, check.check, _told(check)) for check in checks], wrap=True)
    return int(any(check.state == "fail" for check in checks))


def _told(check: Check) -> str:
    return f"{check.found}; to mend it: {check.fix}" if check.fix else check.found


async def _examine(args: argparse.Namespace) -> list[Check]:
    from adapters.registry import has_engine
    from runner.cli import check_allowed, check_box, check_escapes, check_services
    from runner.cli.settings import load
    from runner.receipt import Check

    try:
        config, _ = load(args)
    except ConfigurationError as error:
        wrong = Check("configuration", "fail", str(error), "runner config explain")
        return [check_box.python(), check_box.clock(), wrong]
    state = Path(config.state_dir)
    return [
        check_box.python(),
        Check("configuration", "ok", "every value can be used"),
        check_box.state(state),
        check_box.running(state),
        check_box.disk(state),
        check_box.clock(),
        check_box.cgroups(),
        check_box.isolation(config),
        *check_services.docker(config),
        *(check_escapes.escapes(config) if has_engine(config) else ()),
        *check_allowed.in_configuration(config),
        await check_services.gpus(config),
        *await check_services.sources(config),
    ]
