"""What scenes with credential files are told in: the service behind the file ``shared``, and how its pollers are."""

from __future__ import annotations

import msgspec

from runner.app import Runner
from runner.control import RunningControl
from runner.credential import Credential
from runner.receipt import SourceRow
from runner.secret import Secret
from tests.fakes.faults import Trouble
from tests.fakes.queue import FakeQueue
from tests.fakes.scenes import ended, now, put, reason, until
from tests.fakes.world import FakeWorld, key_of

A_THIRD = {"cpus": 0.3}
LONG = ["run", "300", "0", "1"]
SOON_S = 8.0
"""The next scan of the fake directory, a second, and a small job."""


def behind(world: FakeWorld, *names: str) -> None:
    """Let the shared service have these queues."""
    world.behind["shared"] = list(names)
    for name in names:
        world.queues.setdefault(name, FakeQueue(name, world.now))


def say(world: FakeWorld, content: str, **fields: object) -> None:
    """Change what the file of the shared service says."""
    before = world.shown[1]
    assert before.credential is not None
    credential = msgspec.structs.replace(before.credential, **fields)
    world.shown[1] = msgspec.structs.replace(before, content=content, credential=credential)


def say_endpoint(world: FakeWorld) -> None:
    say(world, "endpoint", options={"endpoint": "http://other"})


async def begun(world: FakeWorld, job_id: str = "runs") -> None:
    """Let a long job run."""
    await put(world, "shared", id=job_id, command=LONG, resources=A_THIRD)
    await until(lambda: world.containers.containers)


async def row(runner: Runner, file: str = "shared") -> SourceRow:
    return next(row for row in await RunningControl(runner).sources() if row.file == file)


async def polled(runner: Runner) -> dict[str, str]:
    return {queue.name: queue.state for queue in (await row(runner)).queues}


def pollers(runner: Runner) -> set[str]:
    return {child.name.removeprefix("poller shared ") for child in runner.children() if "poller shared" in child.name}


async def done(world: FakeWorld, queue: str, job_id: str, limit_s: float = 60.0) -> None:
    """Let a small job go through a queue."""
    await put(world, queue, id=job_id, command=["run", "1", "0", "1"], resources=A_THIRD)
    await until(lambda: ended(world, job_id), limit_s)


def check(world: FakeWorld, job_id: str, end: str = "succeeded") -> None:
    """It ran once, under claims that were never lost, and was settled once."""
    assert reason(world, job_id) == end
    assert world.containers.starts[f"{key_of(world, job_id)}.1"] == 1
    assert set(world.queues["shared"].final.values()) == {1}
    assert not world.queues["shared"].lost


def counted(trouble: Trouble, at: list[float]) -> Trouble:
    """Keep when a call was made."""

    async def noting(*args: object, **kwargs: object) -> None:
        at.append(now())
        await trouble(*args, **kwargs)

    return noting


def secret(text: str) -> dict[str, Secret]:
    return {"password": Secret(text)}


def passwords(told: list[Credential]) -> list[str]:
    return [credential.secrets["password"].reveal() for credential in told]
