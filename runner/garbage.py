"""
What the garbage collector looks at: what stands since before is left alone, but for once an hour.

A full collection goes through all that lives, modules and the models of services included: 30 ms with Redis, 90 ms
with SQS, while the event loop stands still. So what a full one found alive is put aside (``gc.freeze``), and the next
looks only at what is newer. A cycle that dies there is found by the whole one an hour later.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WHOLE_EVERY_S = 3600.0


@contextmanager
def tended(clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Keep full collections short within this block; what was put aside stays so. ``clock`` is in seconds."""
    whole_at = clock()

    def tend(phase: str, info: dict[str, int]) -> None:
        nonlocal whole_at
        if info["generation"] < len(gc.get_count()) - 1:
            return
        if phase == "stop":
            gc.freeze()
        elif clock() - whole_at >= WHOLE_EVERY_S:
            whole_at = clock()
            gc.unfreeze()

    gc.callbacks.append(tend)
    try:
        yield
    finally:
        gc.callbacks.remove(tend)
