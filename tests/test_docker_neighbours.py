"""Two runners share one engine, and one of them is killed again and again: neither's jobs notice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from runner.receipt import Receipt
from tests.at_work import AtWork, at_work, until
from tests.test_docker_ring import COUNTS, Ring

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.timeout(300)]

KILLS = 20


def counting(ring: Ring, box: AtWork) -> str:
    """Submit a job that counts until it is told to end, and return where it says that it began."""
    words = ("submit", "--queue", ring.url, "--id", "counts", "--image", ring.image, "--", "sh", "-c", COUNTS)
    assert box.type(*words).status == 0
    until(lambda: "5" in lines(ring, box), "it counts")
    return lines(ring, box)[0]


def lines(ring: Ring, box: AtWork) -> list[str]:
    return box.type("logs", "--queue", ring.url, "counts").out.splitlines()


def ended(ring: Ring, box: AtWork, began: str) -> Receipt:
    """Let it end; its log is whole, each line once, of one container."""
    next((ring.state / "workspaces").glob("counts.*")).joinpath("go").touch()
    first, *numbers = box.type("logs", "-f", "--queue", ring.url, "counts").out.splitlines()
    assert (first, numbers) == (began, [str(number) for number in range(len(numbers))])
    return box.receipt("counts", "--queue", ring.url)


def test_neither_runners_jobs_notice_that_one_is_killed_twenty_times(
    tmp_path: Path, docker_url: str, busybox_image: str
) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "killed").mkdir()
    calm = Ring(tmp_path / "calm", docker_url, busybox_image)
    killed = Ring(tmp_path / "killed", docker_url, busybox_image)
    with at_work(calm.state, *calm.options) as neighbour:
        calm_began = counting(calm, neighbour)
        with at_work(killed.state, *killed.options) as first:
            killed_began = counting(killed, first)
            assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        for _ in range(KILLS - 1):
            with at_work(killed.state, *killed.options) as life:
                assert life.wait_for("adopt")["jobs"] == 1
                assert life.stop(signal.SIGKILL) == -signal.SIGKILL
        with at_work(killed.state, *killed.options) as last:
            for ring, box, began in ((killed, last, killed_began), (calm, neighbour, calm_began)):
                receipt = ended(ring, box, began)
                assert ("failed", 7, 1) == (receipt.end_reason, receipt.exit_code, receipt.attempt)
                assert receipt.log.gaps == 0
                assert box.stop() == 0
