"""The runner's threads keep off a job's cores, and come back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.own_cores import OwnCores

ALL = frozenset(os.sched_getaffinity(0))


def where() -> set[frozenset[int]]:
    return {frozenset(os.sched_getaffinity(int(path.name))) for path in Path("/proc/self/task").iterdir()}


@contextmanager
def waiting_threads(count: int) -> Iterator[None]:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(len(ALL) < 2, reason="this machine gives one core")
def test_all_threads_move_and_what_begins_then_is_there_too() -> None:
    own, first = OwnCores(), min(ALL)
    with waiting_threads(3):
        own.keep_off((first,))
        try:
            with waiting_threads(2):
                assert where() == {ALL - {first}}
        finally:
            own.keep_off(())
        assert where() == {ALL}


def test_nobody_is_left_without_a_core() -> None:
    """A box of one core is shared."""
    OwnCores().keep_off(tuple(ALL))
    assert where() == {ALL}
