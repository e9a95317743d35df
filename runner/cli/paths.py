"""Where things stand below a state directory, and which state directory a command means."""

from __future__ import annotations

import os
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def default_state_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Return ``/var/lib/runner`` for root, else ``runner`` in the user's state directory."""
    if uid == 0:
        return Path("/var/lib/runner")
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "runner"


def state_dir(args: argparse.Namespace) -> Path:
    """Return the state directory: option, RUNNER_STATE_DIR, the file that RUNNER_CONFIG names, default; absolute."""
    return Path(args.state_dir).absolute() if args.state_dir else _meant_without_option()


def start_command(state: Path) -> str:
    """Return what to type to start a runner on a state directory: it is named unless nothing else would be meant."""
    named = [] if state == _meant_without_option() else ["--state-dir", str(state)]
    return f"{shlex.join(['runner', 'run', *named])} &"


def _meant_without_option() -> Path:
    named = os.environ.get("RUNNER_STATE_DIR") or _configured()
    return Path(named).absolute() if named else default_state_dir(os.environ, os.geteuid())


def _configured() -> str:
    try:
        return str(tomllib.loads(Path(os.environ["RUNNER_CONFIG"]).read_text("utf-8")).get("state_dir", ""))
    except (KeyError, OSError, ValueError):
        return ""


def control_socket(state: Path) -> Path:
    """Return the socket of a running runner."""
    return state / "control.sock"


def http_token(state: Path) -> Path:
    """Return the file with the token of ``listen``."""
    return state / "http-token"


def journal(state: Path) -> Path:
    """Return the journal's file."""
    return state / "journal.db"


def spools(state: Path) -> Path:
    """Return the directory of the jobs' logs."""
    return state / "spool"


def own_queue(state: Path) -> str:
    """Return the URL of the box's own queue."""
    from adapters.folder_urls import folder_url

    return folder_url(f"{state}/queue")
