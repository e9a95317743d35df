"""Containers whose runner leaves, drains or loses their jobs: what each is told, and what of it is stored."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from adapters.queues.folder import FolderBroker
from runner.ports import Delivery
from tests.at_work import at_work, until
from tests.test_docker_ring import Ring

pytestmark = [pytest.mark.docker, pytest.mark.integration]

WRITES = "echo mine > made; while :; do sleep 0.2; done"


def test_a_container_that_outlived_its_claim_is_stopped_and_fenced(
    tmp_path: Path, docker_url: str, busybox_image: str
) -> None:
    """Its runner was killed, and is back after another box took the message up: that one's results are the job's."""
    ring = Ring(tmp_path, docker_url, busybox_image)
    with (tmp_path / "certs" / "q.toml").open("a") as credential:
        credential.write('lease = "2s"\n')
    output = f'outputs = [{{ path = "made", url = "folder://{ring.data}/" }}]'
    job = f'id = "long"\nimage = "{ring.image}"\ncommand = ["sh", "-c", "{WRITES}"]\nstop_grace = "1s"\n{output}\n'
    with at_work(ring.state, *ring.options) as first:
        assert first.type("submit", "--queue", ring.url, "-", stdin=job).status == 0
        until(lambda: list(ring.state.glob("workspaces/long.*/made")), "it runs")
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    container = next(ring.state.glob("docker/long.*"))
    asyncio.run(_take(ring.queue))
    with at_work(ring.state, *ring.options) as second:
        second.wait_for("lost", job_id="long")
        until(lambda: not container.exists(), "its container is gone")
        told = second.receipt("long")
        assert ("lost", "lease_lost") == (told.state, told.end_reason)
        assert second.stop() == 0
    assert list(ring.data.iterdir()) == []
    assert list((ring.queue / "results").rglob("*receipt*")) == []


async def _take(queue: Path) -> None:
    """Take the message as another box does, once its claim has lapsed, and keep it."""
    broker = FolderBroker(str(queue), box_id="another", now=time.time, lease_s=600, single=True)
    opened = await broker.open("q")
    delivery: Delivery | None = None
    async with asyncio.timeout(60):
        while delivery is None:
            delivery = await opened.fetch(2.0)
    await opened.renew(delivery.token)
    await opened.close()
    await broker.close()


TELLS = (
    'trap \\"cat $RUNNER_DEADLINE_FILE > made; date +%s >> made; exit 3\\" TERM; '
    "touch ready; while :; do sleep 0.1; done"
)


def test_a_container_knows_when_a_drain_stops_it_and_what_it_left_is_stored(
    tmp_path: Path, docker_url: str, busybox_image: str
) -> None:
    """It asked for an hour to stop, and is given a quarter of what is left; it needs none of it."""
    ring = Ring(tmp_path, docker_url, busybox_image)
    output = f'outputs = [{{ path = "made", url = "folder://{ring.data}/" }}]'
    job = f'id = "long"\nimage = "{ring.image}"\ncommand = ["sh", "-c", "{TELLS}"]\nstop_grace = "1h"\n{output}\n'
    with at_work(ring.state, *ring.options, "--preempt-grace", "40s") as box:
        assert box.type("submit", "--queue", ring.url, "-", stdin=job).status == 0
        until(lambda: list(ring.state.glob("workspaces/long.*/ready")), "it runs")
        begun = time.time()
        assert box.type("drain", "--grace", "3s").status == 0
        assert box.process.wait(60) == 0
    told_at, stopped_at = map(float, (ring.data / "long" / "made").read_text().split())
    assert begun + 3 <= told_at <= stopped_at + 1 < told_at + 5
    receipt = box.receipt("long", "--queue", ring.url)
    assert ("waiting", "preempted", 3, "retry") == (
        receipt.state, receipt.end_reason, receipt.exit_code, receipt.verdict
    )  # fmt: skip
