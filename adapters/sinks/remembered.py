"""What a sink remembers of the jobs that it was fed last, in this life of the runner."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from runner.job import Key

JOBS_MAX = 1024
T = TypeVar("T")


class Remembered(Generic[T]):
    """One value a job; of more than 1024 jobs the one that was set longest ago is forgotten."""

    def __init__(self) -> None:
        self._values: OrderedDict[Key, T] = OrderedDict()

    def get(self, key: Key) -> T | None:
        """Return a job's value, None where it has none."""
        return self._values.get(key)

    def set(self, key: Key, value: T) -> None:
        """Remember a value."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > JOBS_MAX:
            self._values.popitem(last=False)

    def forget(self, key: Key) -> None:
        """Remember none."""
        self._values.pop(key, None)
