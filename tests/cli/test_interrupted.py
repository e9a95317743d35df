"""Ctrl-C while a command still starts: it ends, and shows nobody the inside of the program."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.__main__ import INTERRUPTED
from tests.cli.typed import LIMIT_S, clean_environ

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("loaded", ["argparse", "asyncio", "msgspec", "redis.asyncio"])
def test_ctrl_c_at_any_stage_of_a_start_leaves_no_traceback(tmp_path: Path, loaded: str) -> None:
    """Right after ``loaded`` was imported: what a command needs is loaded piece by piece, as it is needed."""
    words = ["ps", "--state-dir", str(tmp_path), "--queue", "redis://127.0.0.1:1/0?queue=train"]
    command = [sys.executable, "-X", "importtime", "-m", "runner", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_environ()) as process:
        assert process.stderr is not None
        assert any(line.rpartition("|")[2].strip() == loaded for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(LIMIT_S) in {INTERRUPTED, 69, -signal.SIGINT}
    assert "Traceback" not in said
