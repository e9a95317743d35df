"""
A broker that is killed, frozen or cut off at any moment of a job: what runs goes on, starts once and is settled once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.at_work import AtWork, end_orphans, until
from tests.fault_proxy import FaultProxy, proxied_aside
from tests.private_brokers import PrivateBroker, private_broker
from tests.shared_queue import WAITS, SharedQueue, service

pytestmark = [pytest.mark.broker, pytest.mark.integration, pytest.mark.timeout(240)]

LEASE_S = 30.0
PATIENT = ("--mailbox", 8)


@dataclass(frozen=True)
class Scene:
    """One queue on a broker of its own, by way of a proxy; the test's own questions go the straight way."""

    broker: PrivateBroker
    proxy: FaultProxy
    shared: SharedQueue

    def once(self, job_id: str) -> None:
        """One start, one end, nothing left over."""
        (receipt,) = [receipt for receipt in self.shared.ended() if receipt.id == job_id]
        assert ("succeeded", "ack", 1) == (receipt.end_reason, receipt.verdict, receipt.attempt)
        assert (1, 0, []) == (self.shared.starts(job_id), self.shared.depth(), self.shared.dead())


@pytest.fixture(params=["redis", "rabbitmq"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with private_broker(request.param, tmp_path) as broker, proxied_aside("127.0.0.1", broker.port) as proxy:
        straight = service(request.param, url=broker.url(broker.port))
        crooked = service(request.param, url=broker.url(proxy.port))
        shared = SharedQueue(tmp_path, crooked, lease_s=LEASE_S)
        shared.text = shared.text.replace(broker.url(proxy.port), broker.url(broker.port))
        assert straight.partition("?")[0] in shared.text
        yield Scene(broker, proxy, shared)
        end_orphans(tmp_path)


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
        scene.broker.kill()
        pause(3.0)
        scene.broker.start()
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
        scene.broker.kill()
        scene.shared.go("first")
        pause(3.0)
        scene.broker.start()
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


def test_a_broker_that_is_killed_while_a_fetch_waits(scene: Scene) -> None:
    with scene.shared.box("first") as box:
        pause(1.0)
        scene.broker.kill()
        pause(1.0)
        scene.broker.start()
        scene.shared.submit({"job": scene.shared.command("true")})
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


def test_a_broker_that_is_frozen_for_a_while(scene: Scene) -> None:
    scene.shared.submit({"job": scene.shared.command(WAITS)})
    with scene.shared.box("first") as box:
        runs(scene)
        scene.broker.freeze()
        pause(12.0)
        scene.broker.thaw()
        scene.shared.go("first")
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


@pytest.mark.parametrize("fault", ["cut", "swallow", "refuse"])
@pytest.mark.parametrize("moment", ["while it waits for a job", "while a job runs", "as a job ends"])
def test_a_connection_that_fails(scene: Scene, fault: str, moment: str) -> None:
    with scene.shared.box("first") as box:
        if moment != "while it waits for a job":
            scene.shared.submit({"job": scene.shared.command(WAITS)})
            runs(scene)
        if fault != "cut":
            scene.proxy.fault = "swallow" if fault == "swallow" else "refuse"
        if fault != "swallow":
            scene.proxy.cut()
        if moment == "while it waits for a job":
            scene.shared.submit({"job": scene.shared.command(WAITS)})
        if moment == "as a job ends":
            scene.shared.go("first")
        pause(4.0)
        scene.proxy.fault = ""
        if fault == "swallow":
            scene.proxy.cut()
        scene.shared.go("first")
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")


@pytest.mark.parametrize("moment", ["before it takes a job", "while a job runs", "as a job ends"])
def test_replies_that_are_lost_after_delivery(scene: Scene, moment: str) -> None:
    """The broker did what it was asked, and nobody knows: asking again must end in the same state."""
    with scene.shared.box("first") as box:
        if moment == "before it takes a job":
            pause(1.0)
            scene.proxy.fault = "lose replies"
            scene.shared.submit({"job": scene.shared.command(WAITS)})
        else:
            scene.shared.submit({"job": scene.shared.command(WAITS)})
            runs(scene)
            scene.proxy.fault = "lose replies"
        if moment == "as a job ends":
            scene.shared.go("first")
        pause(4.0)
        scene.proxy.cut()
        pause(0.5)
        scene.proxy.fault = ""
        scene.shared.go("first")
        settled(scene, box)
        assert box.stop() == 0
    scene.once("job")
