"""The parts of a page that tests look at: tables, blocks of commands, and what stands between backticks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#:]+)\)")


@dataclass(frozen=True)
class Page:
    """One document of the checkout."""

    name: str

    @property
    def text(self) -> str:
        """Return it whole."""
        return (ROOT / self.name).read_text("utf-8")

    def blocks(self, language: str) -> list[str]:
        """Return the blocks that are marked as of this language."""
        return [block for marked, block in _BLOCK.findall(self.text) if marked == language]

    def spans(self) -> list[str]:
        """Return what stands between backticks in running text and tables."""
        return _SPAN.findall(_BLOCK.sub("", self.text))

    def links(self) -> list[str]:
        """Return where links within the checkout lead."""
        return _LINK.findall(_BLOCK.sub("", self.text))

    def table(self, heading: str) -> list[list[str]]:
        """Return the rows of the one table whose first column is headed so, without the headings."""
        lines = iter(self.text.splitlines())
        (found,) = [_rows_after(lines) for line in lines if line.startswith(f"| {heading} |")]
        return found


def _rows_after(lines: Iterator[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[1:]
