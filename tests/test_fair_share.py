"""
What each queue and user is served of a box: the real inventory between queues that never run dry, in virtual time.

The bound, in seconds of the whole box: what a queue was served differs from its weighted share of all that was served
by no more than the largest jobs of all queues together, one of each. It holds at every moment, from the start, for jobs
of one size and any length; where sizes differ, a wide job waits until room was cleared for it, so that the longest job,
on the whole box, comes on top.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.neighbours import Bench, Plan, Ran, Work
from tests.virtual_time import run_virtual

LATE = 0.5
"""Seconds of the box that pass while jobs are fetched, in all."""
LENGTHS_S = (5.0, 20.0, 60.0, 300.0)


def endless(seed: int, kind: str, length_s: float, sizes: tuple[int, ...] = (1,), user: str = "") -> Iterator[Work]:
    """Bring jobs of one length, of lengths up to it, or of short ones with now and then one so long."""
    seeded = random.Random(seed)
    while True:
        seconds = {
            "even": length_s,
            "mixed": seeded.uniform(1.0, length_s),
            "rare": length_s if seeded.random() < 0.1 else 1.0 + length_s / 20,
        }[kind]
        yield Work(seconds, seeded.choice(sizes), user)


def farthest(of: Mapping[object, Ran], weights: Mapping[object, float], clock: float) -> float:
    """Return by how much what one was served differs most from its weighted share."""
    served = {name: ran.served(clock) for name, ran in of.items()}
    whole = sum(served.values()) / sum(weights[name] for name in of)
    return max(abs(seconds - weights[name] * whole) for name, seconds in served.items())


kinds = st.sampled_from(["even", "mixed", "rare"])
queues = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 1.0, 2.0, 5.0]), kinds, st.sampled_from(LENGTHS_S)), min_size=2, max_size=4
)


def run(bench: Bench, seconds: float) -> None:
    run_virtual(bench.run(seconds))
    assert len(bench.begun) > 20, "hardly anything ran"


@settings(max_examples=40)
@given(queues, st.sampled_from([1, 2, 3, 8]), st.integers(0, 1000))
def test_queues_are_served_by_their_weights(plans: list[tuple[float, str, float]], cores: int, seed: int) -> None:
    """Jobs of one core and any length: never farther off than one largest job for each queue."""
    made = {
        f"q{number}": Plan(weight, {"": endless(seed + number, kind, length_s)})
        for number, (weight, kind, length_s) in enumerate(plans)
    }
    weights = {name: plan.weight for name, plan in made.items()}

    def look(bench: Bench) -> None:
        bound = sum(ran.largest for ran in bench.queues.values()) + LATE
        assert farthest(bench.queues, weights, bench.clock) <= bound

    run(Bench(cores, made, look), 3000)
