"""The terminal: one line that is redrawn while something runs, and plain lines where there is no terminal."""

import shutil
import sys
from collections.abc import Sequence

from tests.suite.outcome import Outcome

REASON_WIDTH = 150


class Screen:
    """Writes to standard output; `live` lines appear on a terminal only and are overwritten by the next line."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._live = False

    def say(self, text: str = "") -> None:
        """Write a line that stays."""
        sys.stdout.write(f"\r\033[K{text}\n" if self._live else f"{text}\n")
        self._live = False
        sys.stdout.flush()

    def live(self, text: str) -> None:
        """Show the state of what runs now."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\033[K{text[:width]}")
            self._live = True
            sys.stdout.flush()


def group_line(outcome: Outcome, shows: str) -> str:
    """Tell in one line how a group stands."""
    counts = f"{outcome.passed:5} passed  {outcome.failed:3} failed  {outcome.skipped:3} not run"
    return f" {outcome.name:<12} {shows:<54} {counts}  {outcome.seconds:7.1f} s"


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Draw the table at the end: each group, then what failed, then what was not run and why."""
    lines = [" GROUP          PASSED  FAILED  NOT RUN  SECONDS"]
    lines += [
        f" {each.name:<14} {each.passed:6}  {each.failed:6}  {each.skipped:7}  {each.seconds:7.1f}" for each in outcomes
    ]
    failures = [f"   {each.name}: {what}" for each in outcomes for what in each.failures]
    gaps = [f"   {each.name}: {gap.reason}{_times(gap.count)}" for each in outcomes for gap in each.gaps]
    if failures:
        lines += ["", " Failed", *failures]
    if gaps:
        lines += ["", " Not run, and why", *(_shortened(gap) for gap in gaps)]
    return lines


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Say how it ended in one plain line."""
    passed, failed, skipped = (
        sum(getattr(each, name) for each in outcomes) for name in ("passed", "failed", "skipped")
    )
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def _times(count: int) -> str:
    return f" ({count} tests)" if count > 1 else ""


def _shortened(line: str) -> str:
    return line if len(line) <= REASON_WIDTH else line[: REASON_WIDTH - 1] + "…"
