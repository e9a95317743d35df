"""
While one job has the box for itself: who is told, and that the runner keeps off that job's cores.

From its grant until its container is gone. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.inventory.floor import Floor
from runner.kernel import Ref
from runner.messages import QuietChanged
from runner.quiet import Quiet


class Solitude:
    """Tells ``actors``, and changes ``quiet`` at once, which the edge reads."""

    def __init__(
        self,
        floor: Floor,
        quiet: Quiet,
        keep_off: Callable[[tuple[int, ...]], None],
        actors: tuple[Ref[QuietChanged], ...],
    ) -> None:
        """Begin with nothing told."""
        self._floor, self._quiet, self._keep_off = floor, quiet, keep_off
        self._actors = actors

    def look(self) -> None:
        """Tell everybody where a job begins to be alone, or ended."""
        found = self._floor.alone()
        key = None if found is None else found.claim.key
        if key == self._quiet.alone:
            return
        self._keep_off(found.place.cores if found is not None and found.place is not None else ())
        changed = QuietChanged(key)
        self._quiet.change(changed)
        for actor in self._actors:
            actor.urgent(changed)
