"""
A broker that is killed, frozen or cut off at any moment of a job: what runs goes on, starts once and is settled once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.at_work import AtWork, end_orphans, until
from tests.fault_proxy import FaultProxy, proxied_aside
from tests.private_brokers import PrivateBroker, PrivateRabbit, PrivateRedis, started
from tests.shared_queue import WAITS, SharedQueue, service

pytestmark = [pytest.mark.broker, pytest.mark.integration, pytest.mark.timeout(240)]

LEASE_S = 30.0
FIRM_S = 3.0
"""A quorum queue whose node is killed within a second of its making never serves again, with RabbitMQ 3.10.8."""


@dataclass(frozen=True)
class Scene:
    """One queue by way of a proxy; the test's own questions go the straight way."""

    proxy: FaultProxy
    shared: SharedQueue
    broker: PrivateBroker | None = None

    def once(self, job_id: str) -> None:
        """One start, one end, nothing left over."""
        (receipt,) = [receipt for receipt in self.shared.ended() if receipt.id == job_id]
        assert ("succeeded", "ack", 1) == (receipt.end_reason, receipt.verdict, receipt.attempt)
        assert (1, 0, []) == (self.shared.starts(job_id), self.shared.depth(), self.shared.dead())


@contextmanager
def scene_at(kind: str, directory: Path, port: int, url: Callable[[int], str]) -> Iterator[Scene]:
    """Set a scene at a broker's port; ``url`` names the broker by way of a port."""
    with proxied_aside("127.0.0.1", port) as proxy:
        shared = SharedQueue(directory, service(kind, url=url(proxy.port)), lease_s=LEASE_S)
        assert url(proxy.port) in shared.text
        shared.text = shared.text.replace(url(proxy.port), url(port))
        yield Scene(proxy, shared)
        end_orphans(directory)


BROKERS: dict[str, type[PrivateBroker]] = {"redis": PrivateRedis, "rabbitmq": PrivateRabbit}


@pytest.fixture(params=list(BROKERS))
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """A broker of its own, to be killed and frozen."""
    with (
        started(BROKERS[request.param](tmp_path / "broker")) as broker,
        scene_at(request.param, tmp_path, broker.port, broker.url) as it,
    ):
        yield replace(it, broker=broker)


@pytest.fixture(params=["redis", "rabbitmq", "sqs"])
def cut_off(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """The broker of all tests, by a way of one's own."""
    try:
        at = urlsplit(os.environ[f"RUNNER_TEST_{request.param.upper()}"])
    except KeyError as missing:
        pytest.skip(f"no {request.param}: {missing.args[0]} is not set; run `make test`")
    assert at.port is not None
    with scene_at(request.param, tmp_path, at.port, lambda port: at.geturl().replace(str(at.port), str(port))) as it:
        yield it


def broker_of(scene: Scene) -> PrivateBroker:
    assert scene.broker is not None
    return scene.broker


def runs(scene: Scene, job_id: str = "job") -> None:
    until(lambda: scene.shared.starts(job_id) == 1, "it runs")


def pause(seconds: float) -> None:
    """Let an outage last."""
    threading.Event().wait(seconds)


def settled(scene: Scene, box: AtWork, job_id: str = "job") -> None:
    """Wait until the box has settled a job, and the queue has nothing of it any more."""
    until(lambda: any(receipt.id == job_id for receipt in scene.shared.ended()), "it has ended", 90)
    until(lambda: box.type("ps", "--json").out.strip() == "[]", "it is settled", 90)


def test_a_broker_that_is_killed_while_a_job_runs(scene: Scene) -> None:
    scene.shared.submit({"job": scene.shared.command(WAITS)})
    with scene.shared.box("first") as box:
        runs(scene)
        broker_of(scene).kill()
        pause(3.0)
        broker_of(scene).start()
        pause(2.0)
        scene.shared.go("first")
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


def test_a_broker_that_is_away_as_a_job_ends(scene: Scene) -> None:
    """Its verdict stands in the journal, and is carried out when the broker is back."""
    scene.shared.submit({"job": scene.shared.command(WAITS)})
    with scene.shared.box("first") as box:
        runs(scene)
        broker_of(scene).kill()
        scene.shared.go("first")
        pause(3.0)
        broker_of(scene).start()
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


def test_a_broker_that_is_killed_while_a_fetch_waits(scene: Scene) -> None:
    with scene.shared.box("first") as box:
        pause(FIRM_S)
        broker_of(scene).kill()
        pause(1.0)
        broker_of(scene).start()
        scene.shared.submit({"job": scene.shared.command("true")})
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


def test_a_broker_that_is_frozen_for_a_while(scene: Scene) -> None:
    scene.shared.submit({"job": scene.shared.command(WAITS)})
    with scene.shared.box("first") as box:
        runs(scene)
        broker_of(scene).freeze()
        pause(12.0)
        broker_of(scene).thaw()
        scene.shared.go("first")
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


@pytest.mark.parametrize("fault", ["cut", "swallow", "refuse"])
@pytest.mark.parametrize("moment", ["while it waits for a job", "while a job runs", "as a job ends"])
def test_a_connection_that_fails(cut_off: Scene, fault: str, moment: str) -> None:
    with cut_off.shared.box("first") as box:
        if moment != "while it waits for a job":
            cut_off.shared.submit({"job": cut_off.shared.command(WAITS)})
            runs(cut_off)
        if fault != "cut":
            cut_off.proxy.fault = "swallow" if fault == "swallow" else "refuse"
        if fault != "swallow":
            cut_off.proxy.cut()
        if moment == "while it waits for a job":
            cut_off.shared.submit({"job": cut_off.shared.command(WAITS)})
        if moment == "as a job ends":
            cut_off.shared.go("first")
        pause(4.0)
        cut_off.proxy.fault = ""
        if fault == "swallow":
            cut_off.proxy.cut()
        cut_off.shared.go("first")
        settled(cut_off, box)
        assert box.stop() == 0
    cut_off.once("job")


@pytest.mark.parametrize("moment", ["before it takes a job", "while a job runs", "as a job ends"])
def test_replies_that_are_lost_after_delivery(cut_off: Scene, moment: str) -> None:
    """The broker did what it was asked, and nobody knows: asking again must end in the same state."""
    with cut_off.shared.box("first") as box:
        if moment == "before it takes a job":
            pause(1.0)
            cut_off.proxy.fault = "lose replies"
            cut_off.shared.submit({"job": cut_off.shared.command(WAITS)})
        else:
            cut_off.shared.submit({"job": cut_off.shared.command(WAITS)})
            runs(cut_off)
            cut_off.proxy.fault = "lose replies"
        if moment == "as a job ends":
            cut_off.shared.go("first")
        pause(4.0)
        cut_off.proxy.cut()
        pause(0.5)
        cut_off.proxy.fault = ""
        cut_off.shared.go("first")
        settled(cut_off, box)
        assert box.stop() == 0
    cut_off.once("job")
