"""A terminal of a given size, with a command typed on it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass

from tests.cli.typed import LIMIT_S, clean_environ


@dataclass(frozen=True)
class Seen:
    """What stood on the terminal, as lines, and the status."""

    status: int
    text: str

    @property
    def lines(self) -> list[str]:
        """Return the lines as they are read, without what only paints."""
        return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", self.text).splitlines()]


def on_terminal(
    *words: object, columns: int = 80, environ: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> Seen:
    """Run a command line on a terminal of its own and return all that it wrote there."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {**clean_environ(), "TERM": "xterm", "COLUMNS": str(columns), **(environ or {})}
    command = [sys.executable, "-m", "runner", *map(str, words)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=variables) as process:
        os.close(terminal)
        text = _read_all(master).decode(encoding)
        return Seen(process.wait(LIMIT_S), text)


def _read_all(master: int) -> bytes:
    parts = []
    with os.fdopen(master, "rb", buffering=0) as screen:
        while True:
            try:
                part = screen.read(4096)
            except OSError:  # EIO: the last writer closed the terminal
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts)
