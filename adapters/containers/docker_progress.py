"""What a pull is told as: short lines, few of them. No I/O."""

from __future__ import annotations

import msgspec

from runner.units import format_size

STEP = 10
"""Percent of the bytes known so far between two lines."""
_DONE = ("Pull complete", "Already exists")


class _Amounts(msgspec.Struct, frozen=True):
    current: int = 0
    total: int = 0


class _Event(msgspec.Struct, frozen=True):
    status: str = ""
    id: str = ""
    amounts: _Amounts = msgspec.field(name="progressDetail", default=_Amounts())


class PullProgress:
    """One pull: every layer that is done, and the bytes of those on their way."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Layer to bytes fetched and bytes in all, as told last.
        self._layers: dict[str, _Amounts] = {}
        self._done: set[str] = set()
        self._told_percent = -STEP

    def line(self, event: object) -> str | None:
        """Take one event of the engine; return a line where there is something new to say."""
        try:
            told = msgspec.convert(event, _Event)
        except msgspec.ValidationError:
            return None
        if told.status == "Downloading":
            self._layers[told.id] = told.amounts
            return self._downloading()
        if told.status in _DONE:
            self._done.add(told.id)
        return f"image {self._name}: {told.status}" if told.status.startswith(("Digest:", "Status:")) else None

    def _downloading(self) -> str | None:
        here = sum(layer.current for layer in self._layers.values())
        total = sum(layer.total for layer in self._layers.values())
        percent = 100 * here // total if total else 0
        if percent < self._told_percent + STEP:
            return None
        self._told_percent = percent
        done = f", {len(self._done)} layers done" if self._done else ""
        return f"image {self._name}: {format_size(here)} of {format_size(total)}{done}"
