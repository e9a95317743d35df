"""
From the words typed to an exit status: finds the command, runs it, and turns every failure into one line.

Exit statuses: 0, the command's own, 64 usage, 69 a needed service is unavailable, 70 a fault of the program,
78 configuration, 130 interrupted, 1 for everything else that is known by name.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.commands import COMMANDS
from runner.cli.parser import EXIT_USAGE, nearest, new_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXIT_INTERRUPTED = 130


def run_command(words: Sequence[str]) -> int:
    """Run one command line; never raises but for ``SystemExit`` from the parser."""
    _prepare_streams()
    try:
        return _flushed(list(words))
    except OSError as error:
        # What is left to write at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read had enough
            return 0
        from runner.cli.failure import EXIT_FAILED

        print(f"runner: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED


def _prepare_streams() -> None:
    """Open standard streams that were closed, whose numbers the next files would take; let the others take any text."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may be any bytes, a terminal any encoding


def _flushed(words: list[str]) -> int:
    try:
        return _dispatch(words)
    finally:
        sys.stdout.flush()


def _dispatch(words: list[str]) -> int:
    if words and words[0] in {"-h", "--help", "help"}:
        return _help(words[1:])
    if words and words[0] == "--version":
        words[0] = "version"
    if not words and _nothing_to_serve():
        print(help_screen(), file=sys.stderr)
        return EXIT_USAGE
    if not words or words[0].startswith("-"):
        words.insert(0, "run")
    if words[0] not in COMMANDS:
        print(f"runner: no such command {words[0]!r}{nearest(words[0], COMMANDS)}; see: runner --help", file=sys.stderr)
        return EXIT_USAGE
    words, command = _split_command(words)
    args, left = new_parser([words[0]]).parse_known_args(words)
    if left:
        args.parser.error(f"unrecognized arguments: {' '.join(left)}")
    args.words = command
    return _guarded(args)


def _split_command(words: list[str]) -> tuple[list[str], list[str] | None]:
    """Part what stands behind the first ``--``: it is a job's command, never an option of ours."""
    if words[0] != "submit" or "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _guarded(args: argparse.Namespace) -> int:
    try:
        return int(args.run(args))
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort of a command: one line, and the details on demand
        from runner.cli.failure import first_of

        first = first_of(error)
        if isinstance(first, BrokenPipeError) or _no_output(first):
            raise first from None
        return _failed(args, first)


def _no_output(error: Exception) -> bool:
    """Tell whether standard output is full: what fails over a file names it."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None


def _failed(args: argparse.Namespace, error: Exception) -> int:
    from runner.cli.failure import EXIT_FAULT, describe

    if getattr(args, "debug", False) or os.environ.get("RUNNER_DEBUG"):
        traceback.print_exception(error)
    status, sentence = describe(error)
    hint = "; for the details, the same again with --debug" if status == EXIT_FAULT else ""
    print(f"runner: {sentence}{hint}", file=sys.stderr)
    return status


def _nothing_to_serve() -> bool:
    sources = ("RUNNER_CERTS_DIR", "CERTS_DIR", "RUNNER_CONFIG")
    return sys.stdin.isatty() and sys.stderr.isatty() and not any(os.environ.get(name) for name in sources)


def _help(words: list[str]) -> int:
    if words and words[0] in COMMANDS:
        new_parser([words[0]]).parse_args([words[0], "--help"])
    print(help_screen())
    return 0


def help_screen() -> str:
    """Return the one screen of help."""
    lines = [
        "usage: runner [run] [options]        serve this box",
        "       runner submit [options] (JOB.toml | JOB.json | - | -- COMMAND...)",
        "       runner COMMAND --help         all about one command",
    ]
    for heading in dict.fromkeys(command.heading for command in COMMANDS.values()):
        lines += ["", f"{heading}:"]
        lines += [f"  {name:<12}{it.about}" for name, it in COMMANDS.items() if it.heading == heading]
    lines += [
        "",
        "Begin with:  runner run &",
        "             runner submit --follow -- python3 -c 'print(6*7)'",
        "             runner doctor",
    ]
    return "\n".join(lines)
