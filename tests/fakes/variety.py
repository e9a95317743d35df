"""Jobs of every kind for queues of every kind, and what is done to those queues while a runner reads them."""

from __future__ import annotations

import asyncio
import random

import msgspec

from runner.secret import Secret
from tests.fakes.queue import FakeQueue
from tests.fakes.world import FakeWorld, job_bytes

IO = {"inputs": [{"path": "x", "url": "folder:///data"}], "outputs": [{"path": "o", "url": "folder:///r"}]}
JOBS: tuple[dict[str, object], ...] = (
    {"id": "plain"},
    {"id": "lines", "command": ["run", "40", "0", "200"]},
    {"id": "retried", "command": ["run", "2", "3", "4"], "retries": 2},
    {"id": "two-gpus", "resources": {"gpus": 2}, "command": ["run", "9", "0", "1"]},
    {"id": "one-gpu", "resources": {"gpus": 1}, "command": ["run", "12", "0", "1"]},
    {"id": "gpu-too", "resources": {"gpus": 1, "cpus": 0.5}},
    {"id": "late", "command": ["run", "900", "0", "3"], "timeout": "30s"},
    {"id": "evil", "inputs": [{"path": "evil", "url": "folder:///evil.tar"}]},
    {"id": "missing", "inputs": [{"path": "x", "url": "folder:///missing"}]},
    {"id": "with-io", **IO},
    {
        "id": "io-too",
        "inputs": [{"path": path, "url": f"folder:///{path}"} for path in ("x", "y", "z")],
        "outputs": [{"path": path, "url": "folder:///r"} for path in ("o", "p", "q")],
    },
    {"id": "never-written", "outputs": [{"path": "never", "url": "folder:///r"}]},
    {"id": "too-big", "resources": {"gpus": 3}},
    {"id": "stopped", "command": ["run", "5000", "0", "3"]},
    {"id": "alone", "exclusive": "box", "command": ["run", "30", "0", "9"], **IO},
    {"id": "alone-too", "exclusive": "box", "command": ["run", "4", "3", "2"], "retries": 1},
    {"id": "own-cores", "exclusive": "gpu", "resources": {"gpus": 1, "cpus": 0.5}},
)


async def put_variety(world: FakeWorld, seeded: random.Random) -> None:
    """Put jobs of every kind over both queues, of some users and of nobody, in a random order."""
    for job in seeded.sample(JOBS, len(JOBS)):
        queue, user = world.queues[seeded.choice(["own", "shared"])], seeded.choice(["", "ada", "bob"])
        body = {"command": ["run", "3", "0", "5"], **job, "user": user}
        await queue.put(job_bytes(**body), job_id=str(job["id"]), user=user)
    await world.queues["own"].put(b"not json", job_id="")


def vary(world: FakeWorld, seeded: random.Random) -> None:
    """Let the queues be such as their services may be, and the files say what they may say."""
    for index, name in enumerate(("own", "shared")):
        _vary_queue(world.queues[name], seeded)
        file = world.shown[index]
        assert file.credential is not None
        rights = msgspec.structs.replace(
            file.credential.rights,
            cut_off=seeded.choice(["run on", "stop"]),
            user_max_running=seeded.choice([None, 1]),
            sole_reader=seeded.random() < 0.5,
        )
        credential = msgspec.structs.replace(file.credential, rights=rights)
        world.shown[index] = msgspec.structs.replace(file, credential=credential)


def _vary_queue(queue: FakeQueue, seeded: random.Random) -> None:
    queue.by_user, queue.release_costs = seeded.random() < 0.5, seeded.random() < 0.5
    queue.warning = seeded.choice(["", "a job may run twice"])


async def meddle(world: FakeWorld, seeded: random.Random) -> None:
    """Change the secrets behind the shared queue, let it vanish and return, for ever."""
    for number in range(1_000_000):
        await asyncio.sleep(seeded.uniform(1, 90))
        if seeded.random() < 0.5:
            _change_secret(world, number)
        else:
            world.behind["shared"] = []
            await asyncio.sleep(seeded.uniform(1, 60))
            world.behind["shared"] = ["shared"]


def _change_secret(world: FakeWorld, number: int) -> None:
    file = world.shown[1]
    assert file.credential is not None
    credential = msgspec.structs.replace(file.credential, secrets={"password": Secret(f"secret {number}")})
    world.shown[1] = msgspec.structs.replace(file, content=f"content {number}", credential=credential)
