"""Placement is pure: whatever is asked and whatever is taken, no place overlaps another or exceeds the box."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.job import Job, Resources
from runner.placement import (
    Request,
    Room,
    choose,
    dominant_share,
    remaining,
    request_of,
    shortage,
    without_cores,
    without_idlest,
)
from runner.records import GrantedGpu, Place
from runner.units import Size

GIB = 1 << 30
BOX = Room(tuple(GrantedGpu(index, f"GPU-{index}") for index in range(4)), dict.fromkeys(range(8), 0.0), 8.0, 64, 100)
requests = st.builds(
    Request,
    gpus=st.integers(0, 5),
    cpus=st.sampled_from([0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 8.0, 9.0]),
    memory=st.integers(0, 70),
    disk=st.integers(0, 110),
)
pinned = st.builds(
    Request,
    gpus=st.just(0),
    cpus=st.sampled_from([1.0, 2.0, 3.0]),
    memory=st.just(0),
    disk=st.just(0),
    pinned=st.just(True),  # noqa: FBT003 - its only form
)


@given(st.lists(requests, max_size=30))
def test_grants_never_exceed_the_box(asked: list[Request]) -> None:
    """Placing one after the other: sums stay within the box, and no GPU is in two places."""
    placed: list[Place] = []
    for request in asked:
        place = choose(request, remaining(BOX, placed))
        if place is not None:
            placed.append(place)
    held = [gpu.uuid for place in placed for gpu in place.gpus]
    assert len(held) == len(set(held))
    assert sum(place.cpus for place in placed) <= BOX.cpus + 1e-6
    assert sum(place.memory for place in placed) <= BOX.memory
    assert sum(place.disk for place in placed) <= BOX.disk


@given(st.lists(st.tuples(requests | pinned, st.booleans()), max_size=40))
def test_pinned_cores_are_in_no_other_place(asked: list[tuple[Request, bool]]) -> None:
    """Whatever is granted and given back before and after, in whatever order."""
    held: list[tuple[Request, Place]] = []
    for request, gives_back in asked:
        if gives_back and held:
            held.pop(0)
        place = choose(request, remaining(BOX, [place for _, place in held]))
        if place is not None:
            held.append((request, place))
        for one, its in held:
            others = {core for other, place in held if other is not one for core in place.cores}
            assert not one.pinned or (len(its.cores) == its.cpus and not others & set(its.cores))


def test_cores_are_kept_free_where_they_are_used_least() -> None:
    """So that one that wants some of its own gets them once those have ended that are there."""
    busy = remaining(BOX, [Place(cores=(0,), cpus=0.5), Place(cores=(1, 2), cpus=1.8), Place(cores=(4, 5), cpus=2)])
    assert sorted(without_idlest(busy, 4).cores) == [1, 2, 4, 5]


def test_what_is_alone_gets_all_that_it_can_but_what_it_names() -> None:
    """Two threads of one core stay the runner's. It asks for more than there is only by naming it."""
    most = without_cores(BOX, (0, 4))
    alone = request_of(Job(exclusive="box"), memory=5, disk=7, most=most)
    assert alone == Request(0, 6, 64, 7, alone=True)
    place = choose(alone, most)
    assert place is not None
    assert (place.cores, place.cpus) == ((1, 2, 3, 5, 6, 7), 6)
    assert request_of(Job(exclusive="box", resources=Resources(cpus=8)), memory=5, disk=7, most=most).cpus == 8
    one = Room((), {3: 0.0}, 1.0, 64, 100)
    assert request_of(Job(exclusive="box", resources=Resources(cpus=0.5)), memory=5, disk=7, most=one).cpus == 1


def test_what_is_pinned_gets_whole_cores() -> None:
    asked = Job(exclusive="gpu", resources=Resources(gpus=1, cpus=1.5))
    assert request_of(asked, memory=5, disk=7, most=BOX) == Request(1, 2, 5, 7, pinned=True)


@given(requests, st.lists(requests, max_size=10))
def test_a_place_is_what_was_asked_for(wanted: Request, others: list[Request]) -> None:
    """No false refusals, and no grant that is smaller than the request."""
    placed = [place for other in others[:3] if (place := choose(other, BOX)) is not None][:1]
    room = remaining(BOX, placed)
    place = choose(wanted, room)
    assert (place is None) == bool(shortage(wanted, room, have="free"))
    if place is not None:
        assert (len(place.gpus), place.cpus, place.memory, place.disk) == (
            wanted.gpus,
            wanted.cpus,
            wanted.memory,
            wanted.disk,
        )
        assert len(place.cores) == max(1, -int(-wanted.cpus // 1)) or wanted.cpus > 8
        assert set(place.gpus) <= set(room.gpus)


@given(st.lists(requests, max_size=8))
def test_giving_everything_back_restores_the_box(asked: list[Request]) -> None:
    placed = [place for request in asked if (place := choose(request, BOX)) is not None][:1]
    room = remaining(BOX, placed)
    assert remaining(BOX, ()) == BOX
    assert room.memory == BOX.memory - sum(place.memory for place in placed)


def test_small_jobs_spread_over_the_cores() -> None:
    """The least used core goes first, so that two half cores do not share one while another is idle."""
    first = choose(Request(0, 0.5, 1, 1), BOX)
    assert first is not None
    second = choose(Request(0, 0.5, 1, 1), remaining(BOX, [first]))
    assert second is not None
    assert first.cores != second.cores


def test_a_lost_gpu_counts_for_nothing() -> None:
    """A place may hold a card that the box no longer shows."""
    place = Place(gpus=(GrantedGpu(9, "GPU-gone"),))
    assert len(remaining(BOX, [place]).gpus) == 4


def test_words_say_what_is_missing() -> None:
    one_gpu = Room(BOX.gpus[:1], BOX.cores, 1.0, GIB, GIB)
    assert shortage(Request(2, 1, 0, 0), one_gpu, have="free") == "needs 2 GPUs, 1 is free"
    assert shortage(Request(0, 2, 0, 0), one_gpu, have="here") == "needs 2 cores, 1 is here"
    assert shortage(Request(0, 1, 2 * GIB, 0), one_gpu, have="here") == "needs 2048 MiB of memory, 1024 MiB is here"
    assert shortage(Request(1, 1, GIB, GIB), one_gpu, have="free") == ""
    shared = remaining(BOX, [Place(cores=(core,), cpus=0.25) for core in range(7)])
    own = Request(0, 2, 0, 0, pinned=True)
    assert shortage(own, shared, have="free") == "needs 2 cores of its own, 1 is free"


def test_defaults_fill_what_a_job_does_not_name() -> None:
    assert request_of(Job(), memory=5, disk=7, most=BOX) == Request(0, 1, 5, 7)
    asked = Job(resources=Resources(gpus=2, cpus=3, memory=Size(1), disk=Size(2)))
    assert request_of(asked, memory=5, disk=7, most=BOX) == Request(2, 3, 1, 2)


def test_the_dominant_share_is_of_gpus_where_a_job_holds_any() -> None:
    assert dominant_share(Place(gpus=BOX.gpus[:2], cpus=8), BOX) == 0.5
    assert dominant_share(Place(cpus=2), BOX) == 0.25
