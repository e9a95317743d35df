"""Users by number: one a running job, over all runners of a machine, never one with processes left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from adapters.containers.uids import Uids, mapped
from runner.errors import Unavailable

FIRST = 1_900_001_000


@pytest.fixture
def uids(tmp_path: Path) -> Uids:
    return Uids(FIRST, 3, str(tmp_path / "claims"))


def owner(tmp_path: Path, name: str) -> str:
    """Make a control directory."""
    (tmp_path / name).mkdir()
    return str(tmp_path / name)


def test_no_two_owners_have_one_number_and_the_fourth_of_three_is_told(uids: Uids, tmp_path: Path) -> None:
    owners = [owner(tmp_path, name) for name in "abc"]
    assert sorted(uids.claim(one) for one in owners) == [FIRST, FIRST + 1, FIRST + 2]
    with pytest.raises(Unavailable, match="all 3 users from 1900001000 on have a job"):
        uids.claim(owner(tmp_path, "d"))


def test_another_runner_on_the_machine_sees_the_claims(uids: Uids, tmp_path: Path) -> None:
    others = Uids(FIRST, 3, str(tmp_path / "claims"))
    claimed = [uids.claim(owner(tmp_path, "a")), others.claim(owner(tmp_path, "b")), uids.claim(owner(tmp_path, "c"))]
    assert len(set(claimed)) == 3


def test_claiming_again_gives_the_same_number(uids: Uids, tmp_path: Path) -> None:
    """A start that was cut off is made anew."""
    one = owner(tmp_path, "a")
    assert uids.claim(one) == uids.claim(one)


def test_only_the_owner_can_give_a_number_back(uids: Uids, tmp_path: Path) -> None:
    one = owner(tmp_path, "a")
    uid = uids.claim(one)
    uids.release(uid, owner(tmp_path, "b"))
    assert uids.holds(uid, one)
    uids.release(uid, one)
    uids.release(uid, one)
    assert not uids.holds(uid, one)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_a_claim_of_a_deleted_state_directory_is_taken_over_with_nothing_left_of_it(tmp_path: Path) -> None:
    uids = Uids(FIRST + 500, 1, str(tmp_path / "claims"))
    gone = owner(tmp_path, "gone")
    uid = uids.claim(gone)
    Path(gone).rmdir()
    with subprocess.Popen(["sleep", "60"], user=uid, group=uid, extra_groups=[]) as left:
        assert uids.claim(owner(tmp_path, "new")) == uid
        assert left.wait(timeout=10) == -9


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_killing_a_user_ends_what_forks_all_the_time(tmp_path: Path) -> None:
    uids = Uids(FIRST + 600, 1, str(tmp_path / "claims"))
    uid = uids.claim(owner(tmp_path, "a"))
    forks = "f() { (sleep 0.01; f) & }; f; f; f; f; echo ready; sleep 60"
    with subprocess.Popen(["sh", "-c", forks], user=uid, group=uid, extra_groups=[], stdout=subprocess.PIPE) as left:
        assert left.stdout is not None
        assert left.stdout.readline() == b"ready\n"
        uids.kill_all(uid)
        assert left.wait(timeout=10) == -9
        # At its end nobody has the pipe open any more.
        assert left.stdout.read() == b""


def test_numbers_that_this_process_may_not_use_are_seen() -> None:
    assert mapped(os.getuid(), 1)
    assert not mapped((1 << 32) - 2, 10)
