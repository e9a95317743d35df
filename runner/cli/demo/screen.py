"""
Where the demo is shown: lines as they come, and on a terminal a part below them that is drawn again and again.

Off a terminal the same lines, each once it is final. Lines that are drawn again are cut to the terminal, others wrap.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from typing import TYPE_CHECKING, Self

from runner.cli.output import lively

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console
    from rich.live import Live
    from rich.padding import Padding
    from rich.text import Text

    from runner.cli.demo.tables import Line, Span


class Screen:
    """What the user sees; nothing at all unless ``shown``."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._console = _console() if shown and lively("stdout") else None
        # The part that is drawn again, while there is one.
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Make sure that every character can be printed, if only as a question mark."""
        with contextlib.suppress(AttributeError, ValueError):
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a test's stdout may be another kind
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the terminal back as it was."""
        self._stop_drawing()

    @property
    def width(self) -> int | None:
        """How wide lines may be; None where nothing limits them."""
        return self._console.width if self._console else None

    def line(self, *spans: Span) -> None:
        """Show a line for good."""
        self.lines([list(spans)])

    def lines(self, lines: Sequence[Line]) -> None:
        """Show lines for good, in place of what was drawn."""
        self._stop_drawing()
        if not self._shown:
            return
        for line in lines:
            if self._console is None:
                print("".join(span if isinstance(span, str) else span[0] for span in line).rstrip(), flush=True)
            else:
                self._console.print(_indented(_text(line)))

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw lines that will change, in place of those that were drawn before; only on a terminal."""
        if self._console is None:
            return
        from rich.console import Group

        if self._live is None:
            self._live = _live(self._console)
        self._live.update(Group(*(_text(line, cut=True) for line in lines)), refresh=True)

    def _stop_drawing(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _console() -> Console:
    from rich.console import Console

    # The last column stays empty: some terminals begin a new line after a full one.
    width = max(20, shutil.get_terminal_size().columns - 1)
    return Console(highlight=False, width=width)


def _live(console: Console) -> Live:
    from rich.live import Live

    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live


def _indented(text: Text) -> Padding:
    """Let a long line go on below its own beginning."""
    from rich.padding import Padding

    indent = len(text.plain) - len(text.plain.lstrip(" "))
    return Padding(text[indent:], (0, 0, 0, indent), expand=False)


def _text(line: Line, *, cut: bool = False) -> Text:
    from rich.text import Text

    text = Text.assemble(*line, no_wrap=cut, overflow="ellipsis" if cut else "fold")
    text.rstrip()
    return text
