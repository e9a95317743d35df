"""What a full garbage collection looks at, in this very process."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from runner.garbage import WHOLE_EVERY_S, tended


@pytest.fixture(autouse=True)
def nothing_stays_aside() -> Iterator[None]:
    yield
    gc.unfreeze()


class Node:
    """One half of a cycle."""

    other: Node


def pair() -> Node:
    first, second = Node(), Node()
    first.other, second.other = second, first
    return first


def test_a_full_collection_looks_at_nothing_that_an_earlier_one_found_alive() -> None:
    with tended():
        gc.collect()
        assert len(gc.get_objects(generation=2)) < 100
        assert gc.get_freeze_count() > 10_000


def test_a_cycle_that_dies_young_goes_at_once_and_an_old_one_within_the_hour() -> None:
    now = 0.0
    with tended(lambda: now):
        old = pair()
        gc.collect()
        young = pair()
        watched_old, watched_young = weakref.ref(old), weakref.ref(young)
        del old, young
        now = WHOLE_EVERY_S - 1
        gc.collect()
        assert watched_young() is None
        assert watched_old() is not None, "the whole was gone through too early"
        now = WHOLE_EVERY_S
        gc.collect()
        assert watched_old() is None
        assert gc.get_freeze_count() > 10_000
