"""What a policy let through: given as asked and no wider, or refused with the reason, on a real engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.containers.docker_loosening import check_mounts, read_profile
from runner.errors import BadInput, RuntimeMissing
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine

docker = pytest.mark.docker
SH = ("sh", "-c")
NO_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "args": []}],
}


@pytest.fixture
def shown() -> Iterator[Path]:
    """Return a directory of the box that is nobody's own, with a file in it."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        (directory / "file").write_text("shown\n")
        yield directory


@docker
def test_a_directory_of_the_box_is_shown_read_only_under_its_own_path(machine: DockerMachine, shown: Path) -> None:
    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, f"cat {shown}/file; touch {shown}/new", mounts=(str(shown),))
        _, output = await box.run(spec)
        assert b"shown\n" == output["stdout"]
        assert b"Read-only file system" in output["stderr"]

    machine.run(scenario)


@docker
def test_what_is_mounted_below_a_directory_is_not_shown(machine: DockerMachine) -> None:
    """It would be writable: the engine makes only the topmost mount read-only. Here the engine's own mounts."""
    data = Path(machine.url.removeprefix("unix://")).parent / "data"

    async def scenario(box: DockerBox) -> None:
        _, output = await box.run(box.spec("grep", f" {data}", "/proc/mounts", mounts=(str(data),)))
        mounts = [
            line.split()[1] for line in output["stdout"].decode().splitlines() if not line.startswith("overlay / ")
        ]
        assert [str(data)] == mounts

    machine.run(scenario)


@docker
def test_the_engines_socket_is_shown_to_nobody(machine: DockerMachine) -> None:
    """A read-only directory does not keep anybody from connecting to a socket in it."""
    above = str(Path(machine.url.removeprefix("unix://")).parent)

    async def scenario(box: DockerBox) -> None:
        for mount in (above, box.url.removeprefix("unix://")):
            with pytest.raises(BadInput, match=r"cannot be given to a job: it is, holds, or lies in .*docker\.sock"):
                await box.containers.start(box.spec("true", mounts=(mount,)))

    machine.run(scenario)


def test_mounts_that_cannot_be_are_named(tmp_path: Path) -> None:
    state = tmp_path / "state"
    link = tmp_path / "link"
    (state / "queue").mkdir(parents=True)
    link.symlink_to(state)
    for mount in ("/nowhere/at/all", "etc"):
        with pytest.raises(RuntimeMissing, match="is not on this box"):
            check_mounts((mount,), (str(state),), "/work")
    for closed in (state, state / "queue", tmp_path, link):
        with pytest.raises(BadInput, match="holds, or lies in"):
            check_mounts((str(closed),), (str(state),), "/work")
    with pytest.raises(BadInput, match="own files stand"):
        check_mounts((str(tmp_path / "link" / "queue"),), (), str(tmp_path / "link"))
    check_mounts(("/usr",), (str(state),), "/work")


@docker
def test_a_profile_of_the_boxes_own_filters_system_calls(machine: DockerMachine, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(NO_MKDIR))

    async def scenario(box: DockerBox) -> None:
        _, output = await box.run(box.spec(*SH, "mkdir new || echo filtered", seccomp=str(profile)))
        _, without = await box.run(box.spec(*SH, "mkdir new || echo filtered"))
        assert (b"filtered\n", b"") == (output["stdout"], without["stdout"])

    machine.run(scenario)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read: No such file"), ("{", "is not JSON"), ("[]", "no defaultAction"), ("{}", "no defaultAct")],
)
def test_a_profile_that_is_none_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "profile.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RuntimeMissing, match=words):
        read_profile(str(path))


@docker
def test_a_profile_that_the_engine_finds_wrong_is_told_in_its_words(machine: DockerMachine, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_NOSUCH"}))

    async def scenario(box: DockerBox) -> None:
        with pytest.raises(Exception, match="seccomp"):
            await box.containers.start(box.spec("true", seccomp=str(profile)))
        assert () == await box.containers.list_ours()

    machine.run(scenario)


@docker
def test_a_runtime_that_the_engine_lacks_is_refused_naming_those_it_has(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        with pytest.raises(RuntimeMissing, match=r'oci_runtime = "runsc".*only .*runc.*daemon\.json'):
            await box.containers.start(box.spec("true", oci_runtime="runsc"))
        ended, _ = await box.run(box.spec("true", oci_runtime="runc"))
        assert ended.code == 0

    machine.run(scenario)


@docker
def test_root_is_refused_where_it_would_be_root_of_the_box(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        with pytest.raises(RuntimeMissing, match=r"root = true takes an engine .* --userns-remap=default"):
            await box.containers.start(box.spec("true", root=True))
        assert () == await box.containers.list_ours()

    machine.run(scenario)


@docker
def test_a_capability_is_within_a_jobs_bounds_and_no_other(machine: DockerMachine) -> None:
    """The engine gives a user that is not root no more than that."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "grep -E '^Cap(Eff|Bnd)' /proc/self/status", capabilities=("CAP_SYS_NICE",))
        _, output = await box.run(spec)
        assert b"CapEff:\t0000000000000000\nCapBnd:\t0000000000800000\n" == output["stdout"]

    machine.run(scenario)


@docker
def test_a_capability_is_had_with_the_runtime_that_makes_it_so(python_machine: DockerMachine) -> None:
    """Without being root, and no other one."""
    look = """
import os
print([line for line in open("/proc/self/status") if line.startswith("CapEff")], os.getuid() > 0, os.nice(-5))
os.chown("/work", 1, 1)
"""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("python3", "-c", look, capabilities=("CAP_SYS_NICE",), oci_runtime="runc-ambient")
        _, output = await box.run(spec)
        assert b"['CapEff:\\t0000000000800000\\n'] True -5\n" == output["stdout"]
        assert b"PermissionError" in output["stderr"]

    python_machine.run(scenario)


@docker
def test_a_capability_that_the_engine_does_not_know_is_told_in_its_words(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        with pytest.raises(RuntimeMissing, match=r"CAP_NOSUCH.*a newer engine may know it"):
            await box.containers.start(box.spec("true", capabilities=("CAP_NOSUCH",)))

    machine.run(scenario)
