"""
A job's log on this terminal: its stdout to stdout, its stderr to stderr, what happens to it as one changing line.

Off a terminal the bytes of a job are as they are and that line is left out; ``verbose`` prints each change as a line of
its own on stderr.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

from runner.cli.gap_text import gap_of, gap_text
from runner.cli.harmless import Harmless
from runner.cli.output import lively, printable, say
from runner.job import EndReason, follow_exit
from runner.log_json import log_json
from runner.ports import LogLine

if TYPE_CHECKING:
    from typing import TextIO

    from runner.receipt import Event

CLEAR_LINE = "\r\x1b[2K"


class _Way:
    """One stream of a job on its way to one of ours."""

    def __init__(self, stream: TextIO, *, raw: bool, timestamps: bool) -> None:
        self._stream = stream
        self._timestamps = timestamps
        self._harmless = None if raw or not stream.isatty() else Harmless()
        # Whether what comes next begins a line.
        self._begins = True

    def write(self, line: LogLine) -> None:
        data = self._stamped(line) if self._timestamps else line.data
        self._stream.buffer.write(data if self._harmless is None else self._harmless.passed(data))

    def finish(self) -> None:
        """Write what was held."""
        if self._harmless is not None:
            self._stream.buffer.write(self._harmless.rest())

    def flush(self) -> None:
        self._stream.flush()
        self._stream.buffer.flush()

    def _stamped(self, line: LogLine) -> bytes:
        """Put the time in front of each line that begins here."""
        stamp, data = stamp_of(line).encode() + b" ", line.data
        first, self._begins = stamp if self._begins else b"", data.endswith(b"\n")
        return first + data[:-1].replace(b"\n", b"\n" + stamp) + data[-1:]


def stamp_of(line: LogLine) -> str:
    """Write when a record was written, in local time; ``-`` where nobody knows."""
    if not line.at_ns:
        return "-"
    return datetime.fromtimestamp(line.at_ns / 1e9).astimezone().isoformat(timespec="milliseconds")


class Screen:
    """
    Writes records as they come; knows the end once it came.

    What a job writes that would do harm on a terminal is made visible there, unless ``raw``.
    """

    def __init__(
        self,
        *,
        verbose: bool = False,
        runner_lines: bool = False,
        raw: bool = False,
        timestamps: bool = False,
        live: bool = True,
    ) -> None:
        """
        Begin with nothing shown.

        ``runner_lines``: print what the runner itself added to the log; ``live``: what came is seen at once.
        """
        self._verbose = verbose
        self._runner_lines = runner_lines or verbose
        self._timestamps = timestamps
        self._live = live
        self._lively = lively()
        # Whether the changing line stands at the foot of the terminal now.
        self._progress = False
        ours = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._ways = {name: _Way(stream, raw=raw, timestamps=timestamps) for name, stream in ours.items()}
        # The one that was written to last: two that are one file keep their order.
        self._last: _Way | None = None
        self.end: Event | None = None

    def show(self, told: LogLine | Event) -> None:
        """Write one record, or take note of a state change."""
        if isinstance(told, LogLine):
            self._show_line(told)
        else:
            self._show_event(told)

    def _show_line(self, line: LogLine) -> None:
        match line.stream:
            case "gap":
                self._note(line, gap_text(gap_of(line)))
            case "runner" if self._runner_lines:
                self._note(line, line.data.decode("utf-8", "replace").strip())
            case "runner":
                self._show_progress(line.data.decode("utf-8", "replace").strip(), print_it=False)
            case name:
                if (way := self._ways.get(name)) is not None:
                    self._write(way, line)

    def _write(self, way: _Way, line: LogLine) -> None:
        self.clear()
        if self._last is not way and self._last is not None:
            self._last.flush()
        self._last = way
        way.write(line)
        if self._live:
            way.flush()

    def _note(self, line: LogLine, text: str) -> None:
        """Say what is no output of the job."""
        self._flush()
        stamp = f"{stamp_of(line)} " if self._timestamps else ""
        self._show_progress("\n".join(stamp + part for part in text.splitlines()), print_it=True)

    def _flush(self) -> None:
        for way in self._ways.values():
            way.flush()

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

    def finish(self) -> None:
        """Write what was held, end colours, take the changing line away."""
        self.clear()
        for way in self._ways.values():
            way.finish()
        self._flush()

    def exit_status(self) -> int | None:
        """Say how the job ended where that is worth a line; return the status, None where it goes on elsewhere."""
        self.finish()
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


def print_record(told: LogLine | Event, *, live: bool = True) -> None:
    """Print a record of a log or a state change as one JSON document, to be seen at once where it is ``live``."""
    print(log_json(told).decode(), flush=live)


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns
