"""
A job's log on this terminal: its stdout to stdout, its stderr to stderr, what happens to it as one changing line.

Off a terminal that line is left out; ``verbose`` prints each change as a line of its own on stderr.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from runner.cli.output import lively, printable, say
from runner.job import EndReason, follow_exit
from runner.log_json import log_json
from runner.ports import LogLine

if TYPE_CHECKING:
    from runner.receipt import Event

CLEAR_LINE = "\r\x1b[2K"


class Screen:
    """Writes records as they come; knows the end once it came."""

    def __init__(self, *, verbose: bool, runner_lines: bool = False) -> None:
        """Begin with nothing shown; ``runner_lines`` says to print what the runner itself added to the log."""
        self._verbose = verbose
        self._runner_lines = runner_lines or verbose
        self._lively = lively()
        # Whether the changing line stands at the foot of the terminal now.
        self._progress = False
        self.end: Event | None = None

    def show(self, told: LogLine | Event) -> None:
        """Write one record, or take note of a state change."""
        if isinstance(told, LogLine):
            self._show_line(told)
        else:
            self._show_event(told)

    def _show_line(self, line: LogLine) -> None:
        if line.stream == "runner":
            self._show_progress(line.data.decode("utf-8", "replace").strip(), print_it=self._runner_lines)
            return
        stream = {"stdout": sys.stdout, "stderr": sys.stderr}.get(line.stream)
        if stream is None:
            return
        self.clear()
        stream.flush()
        stream.buffer.write(line.data)
        stream.buffer.flush()

    def _show_event(self, event: Event) -> None:
        if event.end_reason is not None:
            self.end = event
        if _is_between_attempts(event):
            self._show_progress(f"{event.id} attempt {event.attempt} ended as {event.message}", print_it=True)
            return
        self._show_progress(
            f"{event.id} {event.state}" + (f": {event.message}" if event.message else ""), print_it=self._verbose
        )

    def _show_progress(self, text: str, *, print_it: bool) -> None:
        if print_it:
            self.clear()
            for line in text.splitlines():
                say(line)
        elif self._lively:
            self.progress(text.splitlines()[-1] if text else "")

    def progress(self, text: str) -> None:
        """Show what is being done in the line at the foot, where there is one."""
        if self._lively:
            sys.stderr.write(f"{CLEAR_LINE}{printable(text)[: _columns() - 1]}")
            sys.stderr.flush()
            self._progress = True

    def clear(self) -> None:
        """Take the changing line away."""
        if self._progress:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()
            self._progress = False

    def exit_status(self) -> int | None:
        """Say how the job ended where that is worth a line; return the status, None where it goes on elsewhere."""
        self.clear()
        if self.end is None or self.end.end_reason is None:
            return None
        reason = EndReason(self.end.end_reason)
        if reason is not EndReason.SUCCEEDED:
            say(f"{self.end.id} {reason.value}" + (f": {self.end.message}" if self.end.message else ""))
        return follow_exit(reason, self.end.exit_code)


def _is_between_attempts(event: Event) -> bool:
    """Tell the end of an attempt that another follows; a box that has a job first says what it is called, too."""
    return event.state == "waiting" and event.row is None


class Records(Screen):
    """Writes records as JSON, one a line; what people are told goes to stderr as ever."""

    def show(self, told: LogLine | Event) -> None:
        """Write one record."""
        print_record(told)
        if not isinstance(told, LogLine):
            self._show_event(told)


def print_record(told: LogLine | Event) -> None:
    """Print a record of a log or a state change as one JSON document."""
    print(log_json(told).decode())


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns
