"""Images of jobs in the ring: one pull for all who wait for it, told in the log of each, and run as resolved."""

from __future__ import annotations

import asyncio

import pytest

from runner.control import RunningControl
from runner.errors import Refused, Unavailable
from runner.job import Verdict
from runner.ports import BuildOrder
from runner.receipt import Receipt
from runner.units import Duration, Size
from tests.fakes.faults import Trouble, hangs, raises
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.test_app_edges import with_rights
from tests.virtual_time import run_virtual

NAME = "127.0.0.1:5000/lab/job:1"
SMALL = {"cpus": 0.2}
PULL_S = 300.0


def with_image(image_id: str = "id-1") -> FakeWorld:
    """Return a world whose registry has an image that takes five minutes to pull."""
    world = FakeWorld()
    world.images.registry[NAME] = image_id
    world.images.pull_s = PULL_S
    return world


def slow(seconds: float) -> Trouble:
    async def trouble(*_args: object) -> None:
        await asyncio.sleep(seconds)

    return trouble


def told(world: FakeWorld, job_id: str) -> list[str]:
    """Return what the runner itself said in a job's log."""
    lines = world.spool.lines[key_of(world, job_id)]
    return [line.data.decode().rstrip() for line in lines if line.stream == "runner"]


def receipt(world: FakeWorld, job_id: str) -> Receipt:
    found = newest(world, job_id)
    assert found is not None
    return found


def images_run(world: FakeWorld) -> set[str]:
    return {one.spec.image for one in world.containers.containers.values()}


def test_an_image_is_pulled_once_for_all_who_wait_for_it() -> None:
    """Whoever comes later hears of the same pull, in few lines; all run what it brought, and their receipts say so."""

    async def main() -> None:
        world = with_image()
        async with alive(world):
            for number in range(2):
                await put(world, "own", id=f"own-{number}", image=NAME, resources=SMALL)
                await put(world, "shared", id=f"shared-{number}", image=f"{NAME}", resources=SMALL)
            jobs = ("own-0", "own-1", "shared-0", "shared-1")
            await until(lambda: ended(world, *jobs))
            assert world.images.pulls == {NAME: 1}
            for job in ("own-0", "shared-0"):
                image = receipt(world, job).image
                assert image is not None
                assert (image.name, image.digest) == (NAME, "digest of id-1")
                assert 10 < len([line for line in told(world, job) if line.endswith(" %")]) <= PULL_S / 5 + 1
            assert any("another job" in line for job in ("own-0", "shared-0") for line in told(world, job))

    run_virtual(main())


@pytest.mark.parametrize("how", ["all", "the first"])
def test_who_is_cancelled_leaves_a_pull_to_the_others(how: str) -> None:
    """The last one to leave ends it."""

    async def main() -> None:
        world = with_image()
        async with alive(world) as runner:
            await put(world, "own", id="first", image=NAME, resources=SMALL)
            await until(lambda: world.images.pulling)
            await put(world, "shared", id="second", image=NAME, resources=SMALL)
            await until(lambda: len(world.journal.entries) == 2)
            await asyncio.sleep(30)
            for job in ("first", "second") if how == "all" else ("first",):
                await RunningControl(runner).cancel(job)
            await until(lambda: ended(world, "first"), limit_s=60)
            assert bool(world.images.pulling) == (how == "the first")
            await until(lambda: ended(world, "second"))
        assert reason(world, "second") == ("cancelled" if how == "all" else "succeeded")
        assert world.images.pulls == {NAME: 1}

    run_virtual(main())


def test_what_runs_is_what_was_staged_though_its_tag_moves() -> None:
    """The image of a job ahead is pulled while another job runs; a restart in between changes nothing either."""

    async def main() -> None:
        world = with_image()
        await put(world, "shared", id="long", command=["run", "2000", "0", "1"], resources={"cpus": 2})
        for number in range(3):
            await put(world, "shared", id=f"job-{number}", image=NAME, resources={"cpus": 2})
        async with alive(world, killed=True):
            staged = lambda: any(it.staged and it.staged.staged.image for it in world.journal.entries.values())  # noqa: E731
            await until(staged, limit_s=1000)
            assert not ended(world, "long")
        world.images.registry[NAME] = world.images.here[NAME] = "id-2"
        world.images.here["id-1"] = "id-1"
        async with alive(world):
            await until(lambda: ended(world, "long", "job-0"))
            assert receipt(world, "job-0").image is not None
            assert {receipt(world, "job-0").image.digest} == {"digest of id-1"}  # type: ignore[union-attr]
        assert "id-1" in {spec.image for spec in world.containers.begun}

    run_virtual(main())


@pytest.mark.parametrize(
    ("policy", "here", "pulls", "end"),
    [
        ("missing", True, 0, "succeeded"),
        ("missing", False, 1, "succeeded"),
        ("always", True, 1, "succeeded"),
        ("never", True, 0, "succeeded"),
        ("never", False, 0, "image_refused"),
    ],
)
def test_a_queues_file_says_when_its_registry_is_asked(policy: str, *, here: bool, pulls: int, end: str) -> None:
    async def main() -> None:
        world = with_image()
        if here:
            world.images.here[NAME] = "id-1"
        world.shown[:] = [with_rights(file, pull=policy) for file in world.shown]
        await put(world, "own", id="job", image=NAME)
        async with alive(world):
            await until(lambda: ended(world, "job"))
        assert (end, pulls) == (reason(world, "job"), world.images.pulls.total())

    run_virtual(main())


@pytest.mark.parametrize(
    ("trouble", "end", "words"),
    [
        (raises(Refused("image cannot be had: denied: not for you")), "image_refused", "denied: not for you (no cred"),
        (raises(Unavailable("connection refused")), "image_unavailable", "connection refused"),
        (hangs, "image_unavailable", "pull_timeout = 2 min 0 s"),
    ],
)
def test_an_image_that_cannot_be_had_ends_the_job_in_the_registrys_own_words(
    trouble: object, end: str, words: str
) -> None:
    """Whoever answered no is told from whoever did not answer; and no pull outlasts its limit."""

    async def main() -> None:
        world = with_image()
        world.troubles["images.pull"] = trouble  # type: ignore[assignment]
        await put(world, "own", id="job", image=NAME)
        async with alive(world, configuration(pull_timeout=Duration(120))):
            await until(lambda: newest(world, "job"), limit_s=400)
            found = receipt(world, "job")
            assert any(words in text for text in (found.message, *(it.reason for it in found.attempts))), found
            await until(lambda: ended(world, "job"))
        assert end == reason(world, "job")

    run_virtual(main())


def stands(world: FakeWorld) -> set[str]:
    return set(world.images.here)


def crowded() -> FakeWorld:
    """Return a world whose disk has room for three images more, of which one gigabyte is to stay free."""
    world = FakeWorld()
    world.images.here |= {"foreign.example/x:1": "foreign"}
    world.images.registry |= {f"127.0.0.1:5000/lab/{letter}:1": letter for letter in "abcdef"}
    world.images.disk = 4 << 30
    return world


async def run_one(world: FakeWorld, letter: str) -> None:
    await put(world, "own", id=letter, image=f"127.0.0.1:5000/lab/{letter}:1", resources=SMALL)
    await until(lambda: ended(world, letter))
    await asyncio.sleep(100)


def test_images_give_way_by_least_use_below_the_floor_of_free_disk() -> None:
    """Those in use, pinned and of others stay; what the runner pulled is known in its next life as well."""

    async def main() -> None:
        world, config = crowded(), configuration(images_free=Size(1 << 30))
        async with alive(world, config):
            await run_one(world, "a")
            await run_one(world, "b")
            assert {"a", "b", "foreign"} == set(world.images.here.values())
        async with alive(world, config):
            await put(world, "own", id="again", image="127.0.0.1:5000/lab/a:1", resources=SMALL)
            await until(lambda: ended(world, "again"))
            await asyncio.sleep(100)
            await run_one(world, "c")
            assert {"a", "c", "foreign"} == set(world.images.here.values()), "b was used least recently"
            world.images.used.add("a")
            await world.image_records.pin("127.0.0.1:5000/lab/c:1")
            await run_one(world, "d")
            assert {"a", "c", "foreign"} == set(world.images.here.values())
            world.images.used.clear()
            await asyncio.sleep(100)
            await run_one(world, "e")
            assert {"c", "e", "foreign"} == set(world.images.here.values())

    run_virtual(main())


def test_a_pull_that_finds_the_disk_full_has_room_made() -> None:
    async def main() -> None:
        world = crowded()
        async with alive(world, configuration(images_free=Size(1))):
            for letter in "abcd":
                await run_one(world, letter)
            assert "foreign" in world.images.here.values()
            assert [reason(world, letter) for letter in "abcd"] == ["succeeded"] * 4

    run_virtual(main())


def test_an_image_that_waits_for_its_job_does_not_give_way() -> None:
    """Neither while inputs are fetched, nor while the job is staged and waits for its turn, nor over a restart."""

    async def main() -> None:
        world = with_image()
        world.images.pull_s, world.images.disk = 1.0, 1
        config = configuration(images_free=Size(1 << 40))
        await put(world, "shared", id="long", command=["run", "2000", "0", "1"], resources={"cpus": 2})
        for number in range(3):
            await put(world, "shared", id=f"job-{number}", image=NAME, resources={"cpus": 2})
        world.images.disk = 100 << 30
        async with alive(world, config, killed=True):
            staged = lambda: any(it.staged and it.staged.staged.image for it in world.journal.entries.values())  # noqa: E731
            await until(staged, limit_s=1000)
            await asyncio.sleep(200)
            assert NAME in stands(world)
        async with alive(world, config):
            await asyncio.sleep(200)
            assert NAME in stands(world)
            await until(lambda: ended(world, "job-0", "job-1", "job-2"))
            await until(lambda: NAME not in stands(world), limit_s=300)

    run_virtual(main())


def test_what_a_killed_runner_had_pulled_is_still_ours() -> None:
    """It was killed between the pull and its account: an image that nobody knows would stay for ever."""

    async def main() -> None:
        world = with_image()
        world.troubles["image_records.complete"] = hangs
        await put(world, "own", id="job", image=NAME)
        async with alive(world, killed=True):
            await until(lambda: NAME in stands(world))
            await asyncio.sleep(1)
        world.troubles.clear()
        assert not world.image_records.rows
        async with alive(world, configuration(images_free=Size(1 << 50))):
            await until(lambda: ended(world, "job"))
            await until(lambda: NAME not in stands(world), limit_s=300)

    run_virtual(main())


DOCKERFILE = "FROM 127.0.0.1:5000/lab/job:1 AS base\nRUN make\n"


def with_dockerfile(text: str = DOCKERFILE, **rights: object) -> FakeWorld:
    world = with_image()
    world.images.pull_s = 20.0
    world.workspaces.texts["src/Dockerfile"] = text
    world.shown[:] = [with_rights(file, **rights) for file in world.shown]
    return world


async def built(world: FakeWorld, *jobs: str, **build: str) -> None:
    async with alive(world):
        for job in jobs:
            await put(world, "own", id=job, build={"path": "src", **build}, resources={"cpus": 0.2, "memory": "1GiB"})
        await until(lambda: ended(world, *jobs))


def test_a_dockerfile_is_built_once_for_each_content() -> None:
    """Upon the image that was resolved, within the job's limits, and told in every log; what runs is what was built."""

    async def main() -> None:
        world = with_dockerfile()
        await built(world, "first", "second")
        (order,) = world.images.built
        assert (order.network, order.memory, order.cpus, order.dockerfile) == ("none", 1 << 30, 0.2, "Dockerfile")
        assert world.images.pulls == {NAME: 1}
        assert [spec.image for spec in world.containers.begun] == ["built 1"] * 2
        image = receipt(world, "second").image
        assert image is not None
        assert (image.name, image.digest) == (order.name, "digest of built 1")
        for job in ("first", "second"):
            assert any("Step 1/1 : FROM base" in line for line in told(world, job))
        await built(world, "again")
        assert len(world.images.built) == 1
        assert any("built before" in line for line in told(world, "again"))
        world.workspaces.content = "changed"
        await built(world, "changed")
        assert len(world.images.built) == 2

    run_virtual(main())


def test_builds_come_one_after_the_other() -> None:
    """No grant counts what they take."""

    async def main() -> None:
        world = with_dockerfile()
        world.workspaces.texts["other/Dockerfile"] = DOCKERFILE
        async with alive(world):
            for job, path in (("a", "src"), ("b", "other")):
                await put(world, "own", id=job, build={"path": path}, resources=SMALL)
            await until(lambda: world.images.built)
            await asyncio.sleep(10)
            assert len(world.images.built) == 1
            await until(lambda: ended(world, "a", "b"))
        assert len(world.images.built) == 2

    run_virtual(main())


def test_a_build_that_waits_goes_on_without_the_job_that_asked_for_it_first() -> None:
    """That one was cancelled, and what it had packed is gone with its workspace; whoever joined has packed the same."""

    async def main() -> None:
        world = with_dockerfile()
        world.images.pull_s = 500.0
        world.workspaces.texts["other/Dockerfile"] = DOCKERFILE

        async def reads(order: BuildOrder, _progress: object) -> None:
            if order.context not in world.workspaces.contexts:
                raise Unavailable(f"{order.context}: No such file or directory")

        world.troubles["images.build"] = reads
        async with alive(world) as runner:
            await put(world, "own", id="turn", build={"path": "other"}, resources=SMALL)
            await until(lambda: world.images.built)
            await put(world, "own", id="first", build={"path": "src"}, resources=SMALL)
            await until(lambda: len(world.workspaces.contexts) == 2)
            await put(world, "own", id="second", build={"path": "src"}, resources=SMALL)
            await until(lambda: len(world.workspaces.contexts) == 3)
            await RunningControl(runner).cancel("first")
            await until(lambda: ended(world, "first"), limit_s=60)
            world.workspaces.contexts.discard(f"context of {key_of(world, 'first')}.1")
            await until(lambda: ended(world, "turn"))
            began = now()
            await until(lambda: ended(world, "second"))
            assert now() - began < 500 + 10
        assert [reason(world, job) for job in ("first", "second")] == ["cancelled", "succeeded"]
        assert len(world.images.built) == 2
        assert any("Step 1/1" in line for line in told(world, "second"))

    run_virtual(main())


def test_what_an_attempt_lets_go_late_is_still_held_for_the_next_one() -> None:
    """Its claim was lost and it is back as the same attempt, while the one before is still packing its last file."""

    async def main() -> None:
        world = with_dockerfile()
        config = configuration(images_free=Size(1 << 50))
        queue, ends = world.queues["shared"], list[float]()

        async def packs_on(*_args: object, **_kwargs: object) -> None:
            if not ends:
                ends.append(now() + 200)
                await uninterrupted(200)

        async def slow_build(*_args: object) -> None:
            await asyncio.sleep(600)

        world.troubles |= {"workspaces.pack_context": packs_on, "images.build": slow_build}
        await put(world, "shared", id="job", build={"path": "src"}, resources=SMALL)
        async with alive(world, config):
            await until(lambda: ends)
            message = queue.messages["shared-0"]
            message.token = ""
            other = queue.claim(message)
            await until(lambda: world.journal.entries[key_of(world, "job")].stored)
            await queue.settle(other.token, Verdict.RELEASE, after_s=0, note=other.note, reason="")
            await until(lambda: world.calls["images.build"])
            assert now() < ends[0]
            await until(lambda: now() > ends[0] + 200)
            assert NAME in stands(world)
            await until(lambda: ended(world, "job"))
        assert (reason(world, "job"), len(world.images.built)) == ("succeeded", 1)

    run_virtual(main())


async def uninterrupted(seconds: float) -> None:
    """Take as long even where it is cancelled, as a thread that hangs in a file server does."""
    ends = now() + seconds
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(ends - now())


def test_a_push_goes_on_without_the_job_that_asked_for_it_first() -> None:
    async def main() -> None:
        world = with_dockerfile(push=("127.0.0.1:5000/lab/",))
        world.troubles["images.push"] = slow(100)
        async with alive(world) as runner:
            for job in ("first", "second"):
                build = {"path": "src", "push": "127.0.0.1:5000/lab/new:2"}
                await put(world, "own", id=job, build=build, resources=SMALL)
            await until(lambda: world.calls["images.push"])
            await asyncio.sleep(50)
            await RunningControl(runner).cancel("first")
            await until(lambda: ended(world, "first"), limit_s=60)
            await until(lambda: ended(world, "second"), limit_s=110)
        assert [reason(world, job) for job in ("first", "second")] == ["cancelled", "succeeded"]
        assert world.calls["images.push"] == 1

    run_virtual(main())


@pytest.mark.parametrize(
    ("text", "rights", "error", "end", "words"),
    [
        ("FROM x\nADD http://169.254.169.254/ /x\n", {}, None, "environment_failed", "line 2: ADD takes plain paths"),
        (DOCKERFILE, {"images": ("lab/*",)}, None, "environment_failed", "not one that own allows: lab/*"),
        ("FROM nowhere:1\n", {}, None, "image_refused", "nowhere:1 cannot be had"),
        (DOCKERFILE, {"pull": "never"}, None, "image_refused", 'pull = "never"'),
        (DOCKERFILE, {}, Refused("cannot be built: code 2"), "environment_failed", "cannot be built: code 2"),
        (DOCKERFILE, {}, Unavailable("the engine is away"), "image_unavailable", "the engine is away"),
    ],
)
def test_a_build_that_fails_says_whose_fault_it_was(
    text: str, rights: dict[str, object], error: Exception | None, end: str, words: str
) -> None:
    async def main() -> None:
        world = with_dockerfile(text, **rights)
        world.images.build_error = error
        await built(world, "job")
        assert end == reason(world, "job")
        assert words in receipt(world, "job").message

    run_virtual(main())


def test_a_build_that_never_ends_is_the_dockerfiles_fault() -> None:
    """It would take every other box as long."""

    async def main() -> None:
        world = with_dockerfile()
        world.troubles["images.build"] = hangs
        await built(world, "job")
        assert reason(world, "job") == "environment_failed"
        assert "not done within pull_timeout = 1 h 0 min" in receipt(world, "job").message

    run_virtual(main())


def test_what_an_images_makers_left_for_builds_upon_it_is_checked_as_well() -> None:
    async def main() -> None:
        world = with_dockerfile()
        world.images.on_build = ("ADD http://169.254.169.254/latest /x",)
        await built(world, "job")
        assert reason(world, "job") == "environment_failed"
        assert "of its ONBUILD instructions" in receipt(world, "job").message
        assert not world.images.built

    run_virtual(main())


@pytest.mark.parametrize(
    ("allowed", "trouble", "end"),
    [
        ((), None, "rejected"),
        (("127.0.0.1:5000/lab/",), None, "succeeded"),
        (("127.0.0.1:5000/lab/",), Refused("denied"), "image_refused"),
        (("127.0.0.1:5000/lab/",), Unavailable("broke off"), "image_unavailable"),
    ],
)
def test_what_was_built_is_pushed_where_the_queue_may(
    allowed: tuple[str, ...], trouble: Exception | None, end: str
) -> None:
    async def main() -> None:
        world = with_dockerfile(push=allowed)
        if trouble is not None:
            world.troubles["images.push"] = raises(trouble)
        await built(world, "job", push="127.0.0.1:5000/lab/new:2")
        assert end == reason(world, "job")
        image = receipt(world, "job").image
        if end == "succeeded":
            assert image is not None
            assert (image.name, image.digest) == ("127.0.0.1:5000/lab/new:2", "pushed built 1")
        assert world.images.pushed == ({"127.0.0.1:5000/lab/new:2": "built 1"} if end == "succeeded" else {})

    run_virtual(main())


def test_the_name_under_which_a_killed_runner_pushed_goes_with_its_image() -> None:
    """The engine has that name while it pushes; taken for somebody else's, it would keep the image here for ever."""

    async def main() -> None:
        world = with_dockerfile(push=("127.0.0.1:5000/lab/",))
        pushed = "127.0.0.1:5000/lab/new:2"

        async def cut_off(image_id: str, name: str, *_: object) -> None:
            world.images.here[name] = image_id
            await hangs()

        world.troubles["images.push"] = cut_off
        await put(world, "own", id="job", build={"path": "src", "push": pushed}, resources=SMALL)
        async with alive(world, killed=True):
            await until(lambda: pushed in stands(world))
        world.troubles.clear()
        async with alive(world, configuration(images_free=Size(1 << 50))):
            await until(lambda: ended(world, "job"))
            await until(lambda: not stands(world), limit_s=300)

    run_virtual(main())


def test_one_image_after_the_other_is_pushed_under_one_name() -> None:
    """The engine pushes what the name means at that moment, so two at once would store one of them twice."""

    async def main() -> None:
        world = with_dockerfile(push=("127.0.0.1:5000/lab/",))
        world.workspaces.texts["other/Dockerfile"] = DOCKERFILE
        pushing, most = list[str](), list[int]()

        async def counted(image_id: str, *_: object) -> None:
            pushing.append(image_id)
            most.append(len(pushing))
            await asyncio.sleep(100)
            pushing.remove(image_id)

        world.troubles["images.push"] = counted
        async with alive(world):
            for job, path in (("a", "src"), ("b", "other")):
                build = {"path": path, "push": "127.0.0.1:5000/lab/new:2"}
                await put(world, "own", id=job, build=build, resources=SMALL)
            await until(lambda: ended(world, "a", "b"))
        assert most == [1, 1]
        assert [reason(world, job) for job in ("a", "b")] == ["succeeded", "succeeded"]

    run_virtual(main())
