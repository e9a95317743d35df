"""Which user a job is, also on an engine that remaps users: root inside, nobody outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.containers.docker_state import Engineered
from adapters.containers.docker_users import FIRST_REMAPPED, JobUser, choose
from runner.errors import RuntimeMissing, Unavailable
from tests.adapters.containers.docker_boxes import DockerBox
from tests.adapters.containers.walled import MAPPED_FROM, WalledMachine

SH = ("sh", "-c")
PLAIN = Engineered(root="/var/lib/docker")
REMAPPED = Engineered(root="/var/lib/docker/100000.100000", security=["name=seccomp,profile=default", "name=userns"])


def test_a_runner_that_is_root_gives_each_job_a_free_uid() -> None:
    first = choose((7, 8), (), PLAIN, own_uid=0, as_root=False)
    second = choose((7, 8), ("7",), PLAIN, own_uid=0, as_root=False)
    assert (JobUser(7, 7), JobUser(8, 8)) == (first, second)
    with pytest.raises(Unavailable, match="all 2 uids"):
        choose((7, 8), ("7", "8"), PLAIN, own_uid=0, as_root=False)
    assert JobUser(7, 7) == choose((7,), ("7",), PLAIN, own_uid=0, as_root=False)


def test_an_engine_that_remaps_users_gives_other_ones() -> None:
    """The box's own uids may be beyond what a mapping holds."""
    uids = (214_000, 214_001)
    first = choose(uids, (), REMAPPED, own_uid=0, as_root=False)
    second = choose(uids, (str(first.owner),), REMAPPED, own_uid=0, as_root=False)
    assert JobUser(FIRST_REMAPPED, 100_000 + FIRST_REMAPPED) == first
    assert JobUser(FIRST_REMAPPED + 1, 100_000 + FIRST_REMAPPED + 1) == second
    assert JobUser(0, 100_000) == choose(uids, ("100000",), REMAPPED, own_uid=0, as_root=True)


def test_root_and_remapped_users_that_cannot_be_are_refused() -> None:
    with pytest.raises(RuntimeMissing, match="userns-remap=default"):
        choose((7,), (), PLAIN, own_uid=0, as_root=True)
    with pytest.raises(RuntimeMissing, match="only root can hand workspaces"):
        choose((7,), (), REMAPPED, own_uid=1000, as_root=False)
    with pytest.raises(RuntimeMissing, match="does not say to whom"):
        choose((7,), (), Engineered(root="/data", security=["name=userns"]), own_uid=0, as_root=True)
    assert JobUser(1000, 1000) == choose((7,), (), PLAIN, own_uid=1000, as_root=False)


def test_another_try_is_the_user_that_the_first_one_chose() -> None:
    """What an engine took too long for may come to be yet, as whom it was asked for."""
    assert JobUser(8, 8) == choose((7, 8), (), PLAIN, own_uid=0, as_root=False, before="8")
    assert JobUser(7, 7) == choose((7, 8), (), PLAIN, own_uid=0, as_root=False, before="9")


LOOK = """
    id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch a /tmp/b; touch /etc/x || echo sealed
    touch /dev/x || echo no device; echo no > /run/runner/deadline || echo read-only; cat input
    cp /bin/busybox .; chmod 4755 busybox; mkdir shut; touch shut/c; chmod 000 shut
"""


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.parametrize("root", [True, False])
def test_a_job_is_somebody_else_outside_than_inside(walled_machine: WalledMachine, *, root: bool) -> None:
    """It has its workspace, sealed as ever, and leaves nothing there that is root's."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, LOOK, root=root)
        work = Path(spec.workspace)
        (work / "input").write_text("input\n")
        running = await box.containers.start(spec)
        ended, output = await box.run(spec)
        inside = 0 if root else FIRST_REMAPPED
        told = [line for line in output["stdout"].decode().splitlines() if line != "no device"]
        assert [str(inside), "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "sealed", "read-only", "input"] == told
        assert 0 == ended.code
        assert (str(inside), ()) == (running.isolation.user, running.isolation.missing)
        assert {MAPPED_FROM + inside} == {path.lstat().st_uid for path in (work, *work.rglob("*"))}
        assert (work / "shut/c").exists()
        assert os.geteuid() == 0

    walled_machine.run(scenario)
