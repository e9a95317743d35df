"""
The names of waiting messages in the order of their turns: highest priority, least served user, oldest. Pure.

A name says all of it: rank and time sort as text, and a tag tells users apart. Taking the next is cheap however many
wait: only users are looked at who were served, and stand in front of one who was not.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping

from adapters.queues.folder_names import rank_of, tag_of


class Turns:
    """Names by rank and user; some may be gone by now."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Begin with these."""
        self._ranks: dict[str, _Rank] = {}
        for name in names:
            self._rank(name).names_of(name).append(name)
        for rank in self._ranks.values():
            rank.arrange()

    def __bool__(self) -> bool:
        return bool(self._ranks)

    def add(self, name: str) -> None:
        """Remember one more."""
        self._rank(name).add(name)

    def pop(self, served: Mapping[str, float]) -> str | None:
        """Forget the next one and return it; ``served`` is by tag. None where none is left of users wanted now."""
        for key in sorted(self._ranks):
            name = self._ranks[key].pop(served)
            if not self._ranks[key].names:
                del self._ranks[key]
            if name is not None:
                return name
        return None

    def _rank(self, name: str) -> _Rank:
        rank = self._ranks.get(rank_of(name))
        if rank is None:
            rank = self._ranks[rank_of(name)] = _Rank()
        return rank


class _Rank:
    """Names of one priority."""

    def __init__(self) -> None:
        # Heaps by the tag of the user, none empty.
        self.names: dict[str, list[str]] = {}
        # The first name of each user as a heap; those that are the first no longer are skipped.
        self._first: list[str] = []

    def names_of(self, name: str) -> list[str]:
        return self.names.setdefault(tag_of(name), [])

    def arrange(self) -> None:
        for names in self.names.values():
            heapq.heapify(names)
        self._first = [names[0] for names in self.names.values()]
        heapq.heapify(self._first)

    def add(self, name: str) -> None:
        names = self.names_of(name)
        heapq.heappush(names, name)
        if names[0] == name:
            heapq.heappush(self._first, name)

    def pop(self, served: Mapping[str, float]) -> str | None:
        chosen, passed = self._choose(served)
        for name in passed:
            if name is not chosen:
                heapq.heappush(self._first, name)
        if chosen is not None:
            self._take(tag_of(chosen))
        return chosen

    def _choose(self, served: Mapping[str, float]) -> tuple[str | None, list[str]]:
        """Take users from the heap until one was not served; return the name to take, and those taken from it."""
        passed: list[str] = []
        while self._first:
            name = heapq.heappop(self._first)
            names = self.names.get(tag_of(name))
            if names is None or names[0] != name:
                continue
            if served.get(tag_of(name), 0.0) <= 0:
                return name, passed
            passed.append(name)
        wanted = [name for name in passed if served[tag_of(name)] < math.inf]
        return min(wanted, key=lambda name: (served[tag_of(name)], name), default=None), passed

    def _take(self, tag: str) -> None:
        names = self.names[tag]
        heapq.heappop(names)
        if names:
            heapq.heappush(self._first, names[0])
        else:
            del self.names[tag]
