"""Installing services may not start daemons, and may not change the machine's own rule about that."""

import stat
from pathlib import Path

import pytest

from tests.services.packages import POLICY_TEXT, no_daemon_starts

OWN_RULE = "#!/bin/sh\nexit 0\n"


def test_daemons_are_refused_while_packages_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with no_daemon_starts(policy):
        assert policy.read_text() == POLICY_TEXT
        assert policy.stat().st_mode & stat.S_IXUSR
    assert list(tmp_path.iterdir()) == []


def test_the_machines_own_rule_is_put_back_with_its_mode(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text(OWN_RULE)
    policy.chmod(0o750)
    with no_daemon_starts(policy):
        assert policy.read_text() == POLICY_TEXT
    assert policy.read_text() == OWN_RULE
    assert stat.S_IMODE(policy.stat().st_mode) == 0o750
    assert list(tmp_path.iterdir()) == [policy]


def test_the_rule_is_put_back_after_a_failure(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text(OWN_RULE)
    with pytest.raises(RuntimeError), no_daemon_starts(policy):
        raise RuntimeError
    assert policy.read_text() == OWN_RULE


def test_the_true_rule_survives_a_run_that_was_killed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text(POLICY_TEXT)
    (tmp_path / "policy-rc.d.kept-by-runner-tests").write_text(OWN_RULE)
    with no_daemon_starts(policy):
        pass
    assert policy.read_text() == OWN_RULE


def test_a_refusal_left_by_a_killed_run_is_not_taken_for_the_machines_own(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text(POLICY_TEXT)
    with no_daemon_starts(policy):
        pass
    assert not policy.exists()
