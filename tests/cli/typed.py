"""Command lines typed in a test: in this process where nothing but arguments matters, else in one of their own."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from runner.cli.program import run_command
from runner.config import BARE_NAMES

LIMIT_S = 60


@dataclass(frozen=True)
class Typed:
    """What became of a command line."""

    status: int
    out: str
    err: str


def typed(*words: object) -> Typed:
    """Run a command line in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = run_command([str(word) for word in words])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return Typed(status, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def started(*words: object, environ: Mapping[str, str] | None = None, stdin: str = "") -> Typed:
    """Run a command line in a process of its own, with nothing of ours in its environment but what is given."""
    result = subprocess.run(
        [sys.executable, "-m", "runner", *map(str, words)],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=LIMIT_S,
        check=False,
        env={**clean_environ(), **(environ or {})},
    )
    return Typed(result.returncode, result.stdout, result.stderr)


def clean_environ() -> dict[str, str]:
    """Return this process's environment without what configures a runner."""
    bare = {name.upper() for name in BARE_NAMES}
    return {k: v for k, v in os.environ.items() if not k.startswith("RUNNER_") and k not in bare} | {"COLUMNS": "80"}
