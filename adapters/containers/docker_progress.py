"""What a pull or push is told as: short lines, each of which stands for all before it. No I/O."""

from __future__ import annotations

from adapters.containers.docker_stream import Amounts, EngineEvent
from runner.units import format_size

_DONE = ("Pull complete", "Already exists", "Pushed", "Layer already exists")
_MOVING = ("Downloading", "Pushing")
_KNOWN = ("Pulling fs layer", "Waiting", "Preparing", "Download complete", "Extracting", "Verifying Checksum")
_WORDS = ("Digest:", "Status:")


class Progress:
    """One image on its way: the layers known so far, those that are done, and the bytes of those that move."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Layer to bytes moved and bytes in all, as told last.
        self._layers: dict[str, Amounts] = {}
        self._done: set[str] = set()
        self._told = ""

    def line(self, event: EngineEvent) -> str | None:
        """Take one event of the engine; return a line where there is something new to say."""
        if event.status.startswith(_WORDS):
            return f"image {self._name}: {event.status}"
        if event.status in _DONE:
            self._done.add(event.id)
        elif event.status in _MOVING:
            self._layers[event.id] = event.amounts
        elif event.status not in _KNOWN:
            return None
        self._layers.setdefault(event.id, Amounts())
        return self._news()

    def _news(self) -> str | None:
        """Say how far it is, where that is another percent or another layer."""
        here = sum(_here(amounts, id_ in self._done) for id_, amounts in self._layers.items())
        total = sum(amounts.total for amounts in self._layers.values())
        layers = f"{len(self._done)} of {len(self._layers)} layers"
        told = f"{layers}, {100 * here // total} %" if total else layers
        if told == self._told:
            return None
        self._told = told
        amount = f", {format_size(here)} of {format_size(total)} ({100 * here // total} %)" if total else ""
        return f"image {self._name}: {layers}{amount}"


def _here(amounts: Amounts, done: bool) -> int:  # noqa: FBT001 - private
    return amounts.total if done else min(amounts.current, amounts.total)
