"""The command ``runner``. Starts as little as it can: `runner version` answers before anything large is loaded."""

from __future__ import annotations

import signal
import sys

INTERRUPTED = 130
"""As a shell reports a program that Ctrl-C ended."""


def main() -> int:
    """Run the command line of this process and return its exit status."""
    try:
        from runner.cli.program import run_command

        return run_command(sys.argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        # What the interpreter still does is nothing that a second Ctrl-C should leave a traceback of.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
