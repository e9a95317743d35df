"""The command ``runner``. Starts as little as it can: `runner version` answers before anything large is loaded."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and return its exit status."""
    from runner.cli.program import run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
