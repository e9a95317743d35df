"""Control groups: found in every layout, limits written as each version wants them, accounts read back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.containers.cgroup import SUPERVISOR, Cgroups, delegated
from adapters.containers.cgroup_files import Limits, read_own_directories
from adapters.containers.cgroup_group import Group

LIMITS = Limits(memory=1 << 30, cpus=1.5, pids=100)
UNIFIED_FILES = ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.weight", "pids.max")
MOUNTS_UNIFIED = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
MOUNTS_LEGACY = """\
33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
36 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
24 1 254:0 / / rw - ext4 /dev/vda rw
"""


def unified(parent: Path, *files: str) -> Path:
    """Make what the kernel would make of a new version 2 group."""
    group = parent / "runner.job"
    group.mkdir(parents=True)
    for name in files:
        (group / name).touch()
    return group


def test_a_place_in_version_2_is_found() -> None:
    found = read_own_directories(MOUNTS_UNIFIED, "0::/system.slice/runner.service\n")
    assert found == {"": "/sys/fs/cgroup/system.slice/runner.service"}


def test_places_in_version_1_are_found_also_where_a_container_shows_only_its_part() -> None:
    places = "5:cpu,cpuacct:/user.slice\n4:memory:/docker/abc/inner\n1:name=systemd:/user.slice\n0::/user.slice\n"
    assert read_own_directories(MOUNTS_LEGACY, places) == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/user.slice",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/user.slice",
        "memory": "/sys/fs/cgroup/memory/inner",
        "": "/sys/fs/cgroup/unified/user.slice",
    }


def test_limits_are_written_as_version_2_wants_them(tmp_path: Path) -> None:
    group = unified(tmp_path, *UNIFIED_FILES)
    made = Cgroups({"": str(tmp_path)}).make("job", LIMITS)
    assert (made.directories, made.missing) == ({"": str(group)}, ())
    written = {name: (group / name).read_text() for name in UNIFIED_FILES}
    assert written == {
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "cpu.weight": "50",
        "pids.max": "100",
    }


def test_a_controller_that_was_not_handed_on_is_named(tmp_path: Path) -> None:
    unified(tmp_path, "cpu.max", "pids.max")
    assert Cgroups({"": str(tmp_path)}).make("job", LIMITS).missing == ("memory limit",)
    assert Cgroups({}).make("job", LIMITS).missing == ("memory limit", "cpu limit", "process limit")
    assert Cgroups({}).make("job", Limits(memory=1)).missing == ("memory limit",)


def test_version_2_accounts_are_read(tmp_path: Path) -> None:
    directory = unified(tmp_path, "cgroup.kill")
    (directory / "cgroup.procs").write_text("12\n34\n")
    (directory / "memory.peak").write_text("4096\n")
    (directory / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n")
    (directory / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\n")
    group = Group({"": str(directory)})
    assert group.pids() == {12, 34}
    assert (group.memory_peak_bytes(), group.oom_kills(), group.cpu_seconds()) == (4096, 2, 1.5)
    assert group.joining() == (str(directory / "cgroup.procs"),)
    group.kill()
    assert (directory / "cgroup.kill").read_text() == "1"


def test_a_group_that_is_gone_has_nobody_and_used_nothing(tmp_path: Path) -> None:
    group = Group({"": str(tmp_path / "gone"), "memory": str(tmp_path / "too")})
    group.kill()
    group.remove()
    assert (group.pids(), group.oom_kills()) == (set(), 0)
    assert (group.memory_peak_bytes(), group.cpu_seconds()) == (None, None)


def test_a_part_handed_over_by_systemd_hands_its_controllers_on(tmp_path: Path) -> None:
    """The runner stands beside its jobs there: a group with processes of its own cannot have children with limits."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / SUPERVISOR).mkdir()
    assert delegated(str(tmp_path / SUPERVISOR)) == str(tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_a_place_without_controllers_still_groups(tmp_path: Path) -> None:
    """All of a group can be killed at once, limits or not."""
    (tmp_path / "cgroup.controllers").write_text("\n")
    assert delegated(str(tmp_path)) == str(tmp_path)


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="making groups takes root, or a part handed over by systemd")
def test_this_box_takes_the_limits_that_it_claims_to_take() -> None:
    cgroups = Cgroups.detect("runner-test.")
    made = cgroups.make("limits", LIMITS)
    try:
        assert set(made.directories) == set(cgroups.parents)
        if "memory" in made.directories:
            directory = Path(made.directories["memory"])
            assert (directory / "memory.limit_in_bytes").read_text() == "1073741824\n"
        if "cpu" in made.directories:
            assert (Path(made.directories["cpu"]) / "cpu.cfs_quota_us").read_text() == "150000\n"
        if "pids" in made.directories:
            assert (Path(made.directories["pids"]) / "pids.max").read_text() == "100\n"
    finally:
        Group(made.directories).remove()
    assert not any(Path(path).exists() for path in made.directories.values())
