"""
What each queue and user is served of a box: the real inventory between queues that never run dry, in virtual time.

The bound, in seconds of the whole box: what a queue was served differs from its weighted share of all that was served
by no more than the largest jobs of all queues together, one of each. It holds at every moment, from the start, for jobs
of one width and any length. Where widths differ, room has to be cleared for a wide job: what runs beside it then may
have begun just before, and has to end, so that the longest job, on the whole box, comes on top twice, for
weights that are no more than four times apart. Between the users of a queue the same holds.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from actors.inventory.accounts import Accounts
from actors.inventory.share import FairShare
from tests.fakes.neighbours import Bench, Plan, Ran, Work
from tests.virtual_time import run_virtual

FETCHING = 0.5
"""Seconds of the box that pass while jobs are fetched, in all."""
HORIZON_S = 250.0
LENGTHS_S = (4.0, 15.0, 50.0)

kinds = st.tuples(st.sampled_from(["even", "mixed", "rare"]), st.sampled_from(LENGTHS_S))
weights = st.sampled_from([0.5, 1.0, 1.0, 2.0, 5.0])
near_weights = st.sampled_from([0.5, 1.0, 1.0, 2.0])
"""Ten times apart, and with widths that differ, too, a queue was seen 64 s off for a while; the bound says 41 s."""
cores = st.sampled_from([1, 2, 3, 8])
thorough = settings(max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def endless(seed: int, kind: tuple[str, float], sizes: tuple[int, ...] = (1,), user: str = "") -> Iterator[Work]:
    """Bring jobs of one length, of lengths up to it, or of short ones with now and then one so long."""
    seeded, (how, length_s) = random.Random(seed), kind
    while True:
        seconds = {
            "even": length_s,
            "mixed": seeded.uniform(1.0, length_s),
            "rare": length_s if seeded.random() < 0.1 else 1.0 + length_s / 20,
        }[how]
        yield Work(seconds, seeded.choice(sizes), user)


def farthest(of: Mapping[str, Ran], weight_of: Mapping[str, float], clock: float) -> float:
    """Return by how much what one was served differs most from its weighted share."""
    served = {name: ran.served(clock) for name, ran in of.items()}
    whole = sum(served.values()) / sum(weight_of.values())
    return max(abs(served.get(name, 0.0) - weight * whole) for name, weight in weight_of.items())


def one_of_each(of: Mapping[str, Ran]) -> float:
    return sum(ran.largest for ran in of.values()) + FETCHING


@pytest.mark.slow
@thorough
@example([(1.0, ("even", 50.0)), (1.0, ("even", 4.0))], 8, 1, 1)
@example([(5.0, ("even", 50.0)), (1.0, ("rare", 50.0)), (1.0, ("even", 4.0))], 8, 2, 0)
@example([(1.0, ("rare", 50.0)), (1.0, ("even", 4.0)), (5.0, ("mixed", 15.0))], 8, 3, 1)
@given(st.lists(st.tuples(weights, kinds), min_size=2, max_size=4), cores, st.integers(0, 1000), st.integers(0, 1))
def test_queues_are_served_by_their_weights(
    queues: list[tuple[float, tuple[str, float]]], cores: int, seed: int, ahead: int
) -> None:
    """Jobs of one core and any length: never farther off than one largest job for each queue."""
    plans = {
        f"q{number}": Plan(weight, {"": endless(seed + number, kind)}) for number, (weight, kind) in enumerate(queues)
    }
    weight_of = {name: plan.weight for name, plan in plans.items()}

    def look(bench: Bench) -> None:
        assert farthest(bench.queues, weight_of, bench.clock) <= one_of_each(bench.queues)

    run_virtual(Bench(cores, plans, look, ahead=ahead).run(HORIZON_S))


@pytest.mark.slow
@thorough
@example([(1.0, ("mixed", 15.0), "narrow"), (1.0, ("even", 4.0), "wide")], 2, 1)
@example([(1.0, ("mixed", 15.0), "narrow"), (2.0, ("even", 4.0), "wide")], 8, 1)
@given(
    st.lists(st.tuples(near_weights, kinds, st.sampled_from(["narrow", "wide", "both"])), min_size=2, max_size=4),
    cores,
    st.integers(0, 1000),
)
def test_wide_jobs_get_their_share_as_well(
    queues: list[tuple[float, tuple[str, float], str]], cores: int, seed: int
) -> None:
    """Small ones pass while it costs nobody more than the bound; then room is cleared."""
    sizes = {"narrow": (1,), "wide": (cores,), "both": (1, max(1, cores // 2), cores)}
    plans = {
        f"q{number}": Plan(weight, {"": endless(seed + number, kind, sizes[size])})
        for number, (weight, kind, size) in enumerate(queues)
    }
    weight_of = {name: plan.weight for name, plan in plans.items()}

    def look(bench: Bench) -> None:
        longest_s = max(ran.longest for ran in bench.queues.values())
        assert farthest(bench.queues, weight_of, bench.clock) <= one_of_each(bench.queues) + 2 * longest_s

    run_virtual(Bench(cores, plans, look).run(HORIZON_S))


@pytest.mark.slow
@thorough
@given(st.lists(kinds, min_size=2, max_size=5), cores, st.integers(0, 1000))
def test_users_of_a_queue_are_served_alike(users: list[tuple[str, float]], cores: int, seed: int) -> None:
    """Beside another queue, whoever began when: never farther off than one largest job for each user."""
    names = {f"user {number}": kind for number, kind in enumerate(users)}
    jobs = {user: endless(seed + number, kind, user=user) for number, (user, kind) in enumerate(names.items())}
    plans = {"all": Plan(1.0, jobs), "other": Plan(1.0, {"": endless(seed, ("even", 15.0))})}
    weight_of = dict.fromkeys(names, 1.0)

    def look(bench: Bench) -> None:
        of = {user: ran for (queue, user), ran in bench.users.items() if queue == "all"}
        if of:
            assert farthest(of, weight_of, bench.clock) <= one_of_each(of)

    run_virtual(Bench(cores, plans, look).run(HORIZON_S))


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 3])
def test_who_was_idle_saved_nothing_up(cores: int) -> None:
    """A queue that comes after an hour alone of another is served like it from then on, and no more."""
    late = Plan(1.0, {"": iter(())})
    plans = {"early": Plan(1.0, {"": endless(1, ("even", 4.0))}), "late": late}
    came: dict[str, float] = {}

    def look(bench: Bench) -> None:
        if bench.clock > 1800 and not came:
            came.update({name: ran.served(bench.clock) for name, ran in bench.queues.items()}, at=bench.clock)
            late.jobs[""] = endless(2, ("even", 4.0))

    bench = Bench(cores, plans, look)

    async def main() -> dict[str, float]:
        await bench.run(2200)
        return {name: ran.served(bench.clock) - came[name] for name, ran in bench.queues.items()}

    since = run_virtual(main())
    assert abs(since["early"] - since["late"]) < 21 + 2 * 4, "a fetch that waits in vain takes up to 20 s"


def test_a_user_at_their_cap_is_passed_over() -> None:
    """Nobody is claimed to be given back: two at once of one user, and the others go on."""
    plan = Plan(1.0, {user: endless(1, ("even", 4.0), user=user) for user in ("ada", "bob")}, cap=2)
    most: list[int] = []

    def look(bench: Bench) -> None:
        most.append(len(bench.users["all", "ada"].running) if ("all", "ada") in bench.users else 0)

    bench = Bench(8, {"all": plan}, look)
    run_virtual(bench.run(60))
    assert max(most) == 2
    assert sum(user == "ada" for _, _, user in bench.begun) > 20, "they go on as soon as one has ended"


def accounts_in(share: FairShare) -> set[int]:
    """Follow what is referred to, whatever it is kept in."""
    seen: set[int] = set()
    found: set[int] = set()
    ahead: list[object] = [share]
    while ahead:
        it = ahead.pop()
        if id(it) not in seen and isinstance(it, FairShare | Accounts | dict | list | tuple):
            seen.add(id(it))
            found |= {id(it)} if isinstance(it, Accounts) else set()
            ahead += gc.get_referents(it)
    return found


def test_a_queue_that_is_gone_is_forgotten_once_nothing_of_it_runs() -> None:
    """Queues may come under a new name every hour, for months."""
    share = FairShare()
    for number in range(100):
        queue = f"queue {number}"
        share.join(queue, 1.0, number)
        share.arrived(queue, "ada", number)
        share.take(queue, "ada", "job", 0.5, number)
        share.leave(queue, number)
        share.take(queue, "bob", "waited", 0.5, number)
        share.give_back(queue, "ada", "job", number + 0.5)
        assert share.users(queue, number + 0.5), "bob's job still runs"
        share.give_back(queue, "bob", "waited", number + 0.75)
        share.users(queue, number + 0.75)
    assert len(accounts_in(share)) == 1, "that of the queues"
