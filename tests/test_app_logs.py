"""Fan-out: every sink gets the whole log at its own pace, and none of them costs the others or the job anything."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from runner.app import build, drain
from runner.errors import ConfigurationError, Refused, RunnerError, Unavailable
from runner.job import Key
from runner.ports import Gap, SinkTraits
from runner.secret import Secret
from tests.fakes.places import FakePlace
from tests.fakes.scenes import alive, ended, now, put, until
from tests.fakes.world import FakeWorld, configuration, key_of, new_life
from tests.virtual_time import run_virtual

pytestmark = pytest.mark.integration

LONG = ["run", "150", "0", "3"]


def failing(error: RunnerError, *calls: str) -> Callable[[str, Key], Awaitable[None]]:
    async def trouble(call: str, _key: Key) -> None:
        if not calls or call in calls:
            raise error

    return trouble


def slow(seconds: float) -> Callable[[str, Key], Awaitable[None]]:
    async def trouble(call: str, _key: Key) -> None:
        if call == "write":
            await asyncio.sleep(seconds)

    return trouble


def of_logs() -> list[str]:
    """What the fan-out does for single jobs just now."""
    names = [task.get_name().removeprefix("logs/") for task in asyncio.all_tasks() if not task.done()]
    return [name for name in names if name.startswith(("feed ", "look ", "shed "))]


def stood(world: FakeWorld, key: Key) -> list[tuple[int, int]]:
    """The positions of all that a sink is to have as lines."""
    lines = [line for line in world.spool.lines[key] if line.stream != "event"]
    return sorted((line.attempt, line.sequence) for line in lines)


async def two(world: FakeWorld) -> tuple[FakePlace, FakePlace, Key]:
    """Begin a long job in a world with two more sinks; call within a life."""
    await put(world, "shared", id="job", command=LONG)
    await until(lambda: world.containers.containers)
    return world.places["first"], world.places["second"], key_of(world, "job")


def with_two(**changed: FakePlace) -> FakeWorld:
    world = FakeWorld()
    world.places = {"first": FakePlace(), "second": FakePlace(), **changed}
    return world


async def say_for(world: FakeWorld, key: Key, seconds: float, every_s: float = 0.1, data: bytes = b"a line\n") -> None:
    for _ in range(int(seconds / every_s)):
        await world.spool.append(key, 1, "runner", data)
        await asyncio.sleep(every_s)


def test_a_dead_sink_holds_no_other_and_catches_up_in_order() -> None:
    async def main() -> None:
        world = with_two()
        world.places["first"].trouble = failing(Unavailable("it is away"))
        async with alive(world):
            dead, live, key = await two(world)
            said_at = []
            for number in range(300):
                said_at.append(now())
                await world.spool.append(key, 1, "runner", b"%d\n" % number)
                await asyncio.sleep(0.07)
            await asyncio.sleep(1)
            came = [at for line, at in zip(live.lines[key], live.came_at[key], strict=True) if line.data[:1].isdigit()]
            assert 300 == len(came)
            assert max(came - said for said, came in zip(said_at, came, strict=True)) <= 0.05
            await until(lambda: ended(world, "job"))
            await asyncio.sleep(1)
            assert (1, 0, []) == (live.ends[key], dead.ends[key], world.spool.shed_keys)
            tries = len(dead.tried_at)
            await asyncio.sleep(600)
            assert 20 <= len(dead.tried_at) - tries <= 40
            assert max(later - sooner for sooner, later in itertools.pairwise(dead.tried_at)) <= 30.1
            dead.trouble = None
            await until(lambda: dead.ends[key], limit_s=31)
            assert dead.positions(key) == live.positions(key) == stood(world, key)
            assert (1, 1) == (live.ends[key], dead.ends[key])
            await until(lambda: world.spool.shed_keys == [key], limit_s=1)
            await asyncio.sleep(100)
            assert [] == of_logs()

    run_virtual(main())


def test_a_sink_that_hangs_holds_no_other() -> None:
    async def main() -> None:
        world = with_two()
        world.places["first"].trouble = slow(10_000_000)
        async with alive(world):
            _, live, key = await two(world)
            await say_for(world, key, 130, every_s=1.0)
            await until(lambda: ended(world, "job"))
            await until(lambda: live.ends[key], limit_s=1)
            assert live.positions(key) == stood(world, key)

    run_virtual(main())


def test_many_jobs_that_wait_for_a_dead_sink_try_it_no_more_often_than_one() -> None:
    async def main() -> None:
        world = with_two()
        world.places["first"].trouble = failing(Unavailable("it is away"))
        async with alive(world):
            for number in range(30):
                await put(world, "shared", id=f"job-{number}", command=["run", "1", "0", "5"])
            await until(lambda: ended(world, *(f"job-{number}" for number in range(30))))
            await asyncio.sleep(100)
            tries = len(world.places["first"].tried_at)
            await asyncio.sleep(600)
            assert len(world.places["first"].tried_at) - tries <= 40
            world.places["first"].trouble = None
            await until(lambda: len(world.spool.shed_keys) == 30, limit_s=60)
        assert {1} == set(world.places["first"].ends.values())

    run_virtual(main())


async def one_life(world: FakeWorld, seed: int, calls: int, over: Callable[[], bool]) -> None:
    """Run until a port call that the seed chose never returns, or until it is over."""
    life = new_life(seed, calls_left=calls)
    running = asyncio.ensure_future(build(configuration(), world.open(life)).run())
    while not (over() or life.killed.is_set()):
        await asyncio.sleep(0.1)
    life.end()
    running.cancel()
    await asyncio.wait({running})


@pytest.mark.parametrize("seed", range(12))
def test_what_a_killed_runner_sent_is_gone_on_from(seed: int) -> None:
    """A stream has each record once; whoever hears a channel hears each at least once and, in one life, in order."""

    async def main() -> None:
        world = FakeWorld()
        stream, channel = FakePlace(tells=True), FakePlace()
        world.places = {"stream": stream, "channel": channel}
        for number in range(3):
            await put(world, "shared", id=f"job-{number}", command=["run", "10", "0", "50"])
        seeded, heard, lives = random.Random(seed), list[dict[Key, int]](), 0

        def over() -> bool:
            keys = [entry.key for entry in world.journal.entries.values()]
            return len(keys) == 3 and all(stream.ends[key] and channel.ends[key] for key in keys) and not unshed()

        def unshed() -> set[Key]:
            return set(world.spool.lines) - set(world.spool.shed_keys)

        while not over() and lives < 50:
            lives += 1
            heard.append({key: len(lines) for key, lines in channel.lines.items()})
            await one_life(world, seed + lives, seeded.randrange(30, 400), over)
        assert over()
        for key in tuple(world.journal.entries):
            assert stream.positions(key) == stood(world, key)
            assert 1 <= stream.ends[key] <= lives
            assert sorted(set(channel.positions(key))) == stood(world, key)
            cuts = [0, *(marks.get(key, 0) for marks in heard), len(channel.lines[key])]
            for begins, ends in itertools.pairwise(cuts):
                of_life = channel.positions(key)[begins:ends]
                assert of_life == sorted(set(of_life))
        told = dict(stream.ends), dict(channel.ends)
        async with alive(world):
            await asyncio.sleep(100)
        assert told == (dict(stream.ends), dict(channel.ends)), "an end that was told is not told again"

    run_virtual(main())


def test_a_sink_too_far_behind_goes_on_near_the_end_and_is_told_what_it_misses() -> None:
    async def main() -> None:
        limit = 10_000
        lagging = FakePlace(traits=SinkTraits(lag_max_bytes=limit))
        world = with_two(first=lagging)
        lagging.trouble = failing(Unavailable("it is away"), "write")
        async with alive(world):
            _, live, key = await two(world)
            await say_for(world, key, 100, data=b"x" * 99 + b"\n")
            lagging.trouble = None
            await until(lambda: ended(world, "job"))
            await until(lambda: lagging.ends[key], limit_s=60)
            assert live.positions(key) == stood(world, key)
            (gap,) = [line for line in lagging.lines[key] if line.stream == "gap"]
            assert lagging.positions(key) == sorted(set(lagging.positions(key)))
            sent = sum(len(line.data) for line in world.spool.lines[key] if (line.attempt, line.sequence) in set(
                lagging.positions(key)) and line.sequence != gap.sequence)  # fmt: skip
            events = sum(len(line.data) for line in world.spool.lines[key] if line.stream == "event")
            missing = sum(len(line.data) for line in world.spool.lines[key]) - sent
            told = msgspec.json.decode(gap.data, type=Gap)
            assert told.bytes is not None
            assert missing - events <= told.bytes <= missing
            assert sent >= limit // 2 - 100
            assert "first was more than 10000 bytes behind" == told.reason

    run_virtual(main())


def test_only_a_slow_sink_gets_the_last_state_of_a_line_alone() -> None:
    async def main() -> None:
        slow_one = FakePlace(traits=SinkTraits(coalesces=True))
        quick_one = FakePlace(traits=SinkTraits(coalesces=True))
        world = with_two(first=slow_one, second=quick_one)
        slow_one.trouble = slow(5.0)
        async with alive(world):
            _, _, key = await two(world)
            for number in range(300):
                await world.spool.append(key, 1, "stdout", b"\r%4d" % number)
                await asyncio.sleep(0.1)
            await world.spool.append(key, 1, "stdout", b"\n")
            await until(lambda: slow_one.text(key).endswith(b"\r 299\n"), limit_s=20)
            assert b"".join(b"\r%4d" % number for number in range(300)) in quick_one.text(key)
            assert slow_one.text(key).count(b"\r") < 50
            assert set(slow_one.positions(key)) <= set(quick_one.positions(key))

    run_virtual(main())


def test_a_retry_gives_its_attempts_in_order_and_one_end() -> None:
    """Also to a sink that was away meanwhile."""

    async def main() -> None:
        world = with_two()
        world.places["first"].trouble = failing(Unavailable("it is away"))
        async with alive(world):
            await put(world, "shared", id="job", command=["run", "3", "1", "5"], retries=2)
            await until(lambda: ended(world, "job"))
            await asyncio.sleep(10)
            world.places["first"].trouble = None
            await until(lambda: world.spool.shed_keys, limit_s=60)
            key = key_of(world, "job")
            for place in world.places.values():
                assert place.positions(key) == stood(world, key)
                assert {1, 2, 3} == {attempt for attempt, _ in place.positions(key)}
                ends = [event.attempt for event in place.events[key] if "tried again after" in event.message]
                assert ([1, 2], 1) == (ends, place.ends[key])
                assert ["ended"] == [event.state for event in place.events[key]][-1:]

    run_virtual(main())


def test_a_log_whose_queue_has_no_sink_is_shed_as_its_job_ends() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.without_results.add("shared")
        async with alive(world):
            await put(world, "shared", id="job")
            await until(lambda: world.spool.seals)
            await asyncio.sleep(5)
            assert [key_of(world, "job")] == world.spool.shed_keys
            assert [] == of_logs()

    run_virtual(main())


@pytest.mark.parametrize(
    ("jobs", "is_away"), [(150, "all along"), pytest.param(1000, "over a restart", marks=pytest.mark.slow)]
)
def test_jobs_that_ended_wait_for_a_sink_on_the_disk(jobs: int, is_away: str) -> None:
    """Few tasks stand for them, whatever their number, and none after it returned."""

    async def main() -> None:
        world = with_two()
        away = world.places["first"]
        away.trouble = failing(Unavailable("it is away"))
        for number in range(jobs):
            await put(world, "shared", id=f"job-{number}", command=["run", "0.1", "0", "1"], resources={"cpus": 0.01})
        async with alive(world):
            await until(lambda: ended(world, f"job-{jobs - 1}"))
            await until(lambda: len(world.places["second"].ends) == jobs)
            await asyncio.sleep(100)
            assert len(of_logs()) <= 64
            assert len(away.tried_at) < 100
            away.trouble = None if is_away == "all along" else away.trouble
            await asyncio.sleep(100)
            assert len(world.spool.shed_keys) == (jobs if is_away == "all along" else 0)
        async with alive(world):
            await asyncio.sleep(50)
            assert len(of_logs()) <= 64
            away.trouble = None
            await until(lambda: len(world.spool.shed_keys) == jobs, limit_s=100)
            await asyncio.sleep(100)
            assert [] == of_logs()
        for place in world.places.values():
            assert {1} == set(place.ends.values())
            assert all(place.positions(key) == stood(world, key) for key in world.journal.entries)

    run_virtual(main())


def test_a_sink_that_refuses_us_is_told_of_once_and_holds_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = with_two()
        world.places["first"].trouble = failing(ConfigurationError("redis://logs: check the password"), "write")
        async with alive(world):
            for number in range(4):
                await put(world, "shared", id=f"job-{number}", command=["run", "10", "0", "5"])
            await until(lambda: len(world.places["second"].ends) == 4, limit_s=300)
            await asyncio.sleep(300)
            assert ["sink first of a queue refuses, and what its jobs leave waits for it"] == told()
            world.places["first"].trouble = None
            await until(lambda: len(world.places["first"].ends) == 4, limit_s=60)
            assert ["sink first of a queue takes what waited"] == told()[1:]

    def told() -> list[str]:
        return [it.message for it in caplog.records if getattr(it, "action", "") == "store"]

    with caplog.at_level(logging.INFO):
        run_virtual(main())


def test_a_job_that_a_sink_does_not_take_costs_the_others_nothing() -> None:
    """Nor is its log given away: a person finds it on the box for as long as spools are kept."""

    async def main() -> None:
        world = with_two()
        place = world.places["first"]

        async def trouble(call: str, key: Key) -> None:
            if call == "write" and key.startswith("bad"):
                raise Refused("too large")

        place.trouble = trouble
        async with alive(world):
            for name in ("bad", "good", "better"):
                await put(world, "shared", id=name, command=["run", "30", "0", "5"])
            await until(lambda: ended(world, "bad", "good", "better"))
            await asyncio.sleep(10)
            keys = {name: key_of(world, name) for name in ("bad", "good", "better")}
            assert sorted([keys["good"], keys["better"]]) == sorted(world.spool.shed_keys)
            assert place.positions(keys["good"]) == stood(world, keys["good"])
            assert len(place.tried_at) < 100
            assert [] == of_logs()

    run_virtual(main())


def test_sinks_are_released_once_when_others_stand_in_their_place() -> None:
    """What runs goes on over the new ones, from where it was; a new place gets it from its beginning."""

    async def main() -> None:
        world = with_two()
        first, second = world.places["first"], world.places["second"]
        async with alive(world):
            await put(world, "shared", id="job", command=["run", "300", "0", "300"])
            await until(lambda: second.lines)
            key, new = key_of(world, "job"), FakePlace()
            world.places = {"second": second, "new": new}
            file = world.shown[1]
            assert file.credential is not None
            rights = msgspec.structs.replace(file.credential.rights, sinks=("file:///new",))
            credential = msgspec.structs.replace(file.credential, rights=rights)
            world.shown[1] = msgspec.structs.replace(file, content="other sinks", credential=credential)
            await until(lambda: new.lines[key], limit_s=100)
            await until(lambda: (first.opened, first.released) == (2, 1), limit_s=100)
            await until(lambda: ended(world, "job"))
            await until(lambda: world.spool.shed_keys, limit_s=5)
            assert new.positions(key) == second.positions(key) == stood(world, key)
            assert (0, 1, 1) == (first.ends[key], second.ends[key], new.ends[key])
        assert [(2, 2), (3, 3), (1, 1)] == [(it.opened, it.released) for it in (first, second, new)]

    run_virtual(main())


def test_sinks_of_older_secrets_are_released_also_where_the_job_says_nothing_more() -> None:
    async def main() -> None:
        world = with_two()
        first, second = world.places["first"], world.places["second"]
        async with alive(world):
            await put(world, "shared", id="job", command=["run", "900", "0", "1"])
            await until(lambda: second.lines)
            await asyncio.sleep(5)
            file = world.shown[1]
            assert file.credential is not None
            credential = msgspec.structs.replace(file.credential, secrets={"password": Secret("another")})
            world.shown[1] = msgspec.structs.replace(file, content="another", credential=credential)
            await until(lambda: (first.opened, second.opened) == (3, 3), limit_s=50)
            await until(lambda: (first.released, second.released) == (1, 1), limit_s=100)
            assert not ended(world, "job")

    run_virtual(main())


def test_an_end_is_told_after_a_restart_though_the_log_was_touched_before_that_was_known() -> None:
    """Something of its log is sent meanwhile, to the queue that has just come."""

    async def main() -> None:
        world = with_two()
        world.places["first"].trouble = failing(Unavailable("it is away"), "close")
        async with alive(world, killed=True):
            await put(world, "shared", id="job")
            await until(lambda: world.places["second"].ends)
        key = key_of(world, "job")
        world.places["first"].trouble = None
        world.troubles["broker.open"] = failing_for(20.0)
        async with alive(world):
            await asyncio.sleep(5)
            world.spool.touch(key)
            await until(lambda: world.places["first"].ends[key], limit_s=100)

    run_virtual(main())


def failing_for(seconds: float) -> Callable[..., Awaitable[None]]:
    async def trouble(*_args: object) -> None:
        if now() < seconds:
            raise Unavailable("it is away")

    return trouble


def test_a_drain_waits_for_sinks_that_take_what_they_are_given_and_for_no_others() -> None:
    """There may be no next life, as where a runner ends after its last job and its disk goes with it."""

    async def main() -> None:
        world = with_two()
        world.places["first"].trouble = failing(Unavailable("it is away"))
        world.places["second"].trouble = slow(1.5)
        async with alive(world) as runner:
            dead, live, key = await two(world)
            began = now()
            await drain(runner, asyncio.Event(), 1000.0)
            assert (0, 1) == (dead.ends[key], live.ends[key])
            assert live.positions(key) == stood(world, key)
            assert now() - began < 170

    run_virtual(main())
