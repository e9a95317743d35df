"""``runner run``: the service itself, until it is drained or left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from runner.cli.parser import add_command

logger = logging.getLogger(__name__)

PRIVATE_UMASK = 0o077
"""What the runner keeps for itself is nobody else's, also where a library makes the file."""
OPEN_FILES = 1 << 16

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers
    from runner.config import Config


def add_parser(subparsers: Subparsers) -> None:
    """Add ``run``, with an option for each key of the configuration."""
    from runner.cli.settings import add_settings

    add_settings(add_command(subparsers, "run", run))


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; the exit status is 0 when drained."""
    import asyncio
    import faulthandler
    import os

    import uvloop

    from adapters.containers.undumpable import make_undumpable
    from runner.cli.process_log import set_up
    from runner.cli.settings import load
    from runner.garbage import tended

    config, _ = load(args)
    set_up(config.log_level)
    faulthandler.enable()  # a watchdog ends the process by a signal: the log says where it stood
    if not make_undumpable():
        logger.warning("other processes of this user can read the runner's memory", extra={"action": "start"})
    _allow_open_files()
    with tended(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        return loop.run(_serve(config, umask=os.umask(PRIVATE_UMASK)))


def _allow_open_files() -> None:
    """Take what the system grants: each queue of some services costs two connections. Jobs get limits of their own."""
    import contextlib
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(config: Config, *, umask: int) -> int:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from adapters.http.control import open_control
    from adapters.http.listening import open_http, open_listener
    from adapters.registry import open_world
    from adapters.systemd import Systemd
    from runner.app import serve
    from runner.cli.paths import control_socket, http_token
    from runner.listen import parse_address
    from runner.ports import Control

    manager = Systemd()
    async with open_world(config, umask=umask) as world, AsyncExitStack() as opened:
        opened.callback(manager.close)
        listener = opened.enter_context(open_listener(*parse_address(config.listen))) if config.listen else None

        async def on_ready(control: Control) -> None:
            socket = control_socket(Path(config.state_dir))
            asked = (control, world.journal, world.spool)
            await opened.enter_async_context(open_control(socket, *asked))
            if listener is not None:
                token = http_token(Path(config.state_dir))
                await opened.enter_async_context(open_http(listener, token, *asked))
            logger.info("serving", extra={"action": "ready", "state_dir": config.state_dir, "box": world.box.id})

        return await serve(config, world, on_ready=on_ready, manager=manager)
