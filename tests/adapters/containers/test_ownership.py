"""Ways for the users of jobs through the runner's directories, and for nobody to what stands beside them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from adapters.containers.ownership import let_pass, shut_ancestor


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Make a closed state directory with an open journal beside a workspace."""
    state_dir = tmp_path / "state"
    (state_dir / "workspaces" / "job").mkdir(parents=True)
    (state_dir / "journal").write_text("secret")
    (state_dir / "journal").chmod(0o644)
    (state_dir / "spool").mkdir(mode=0o755)
    (state_dir / "workspaces").chmod(0o700)
    state_dir.chmod(0o700)
    return state_dir


def test_a_way_is_opened_to_the_workspace_alone(state_dir: Path) -> None:
    let_pass(str(state_dir / "workspaces" / "job"), str(state_dir))
    assert [mode(state_dir), mode(state_dir / "workspaces")] == [0o701, 0o701]
    assert [mode(state_dir / "journal"), mode(state_dir / "spool")] == [0o640, 0o750]
    let_pass(str(state_dir / "workspaces" / "job"), str(state_dir))
    assert mode(state_dir) == 0o701


def test_a_link_beside_the_way_is_not_followed(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("the box's")
    (tmp_path / "outside").chmod(0o644)
    (state_dir / "link").symlink_to(tmp_path / "outside")
    let_pass(str(state_dir / "workspaces" / "job"), str(state_dir))
    assert mode(tmp_path / "outside") == 0o644


def test_the_topmost_directory_that_lets_nobody_pass_is_named(state_dir: Path) -> None:
    shut = shut_ancestor(str(state_dir / "workspaces" / "job"))
    assert shut is not None
    assert state_dir.is_relative_to(shut)
    assert shut_ancestor("/usr/bin") is None
