"""What a job cannot do, tried from inside one: in a container, and in each way of process jobs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.adapters.unprivileged import NOBODY, SOMEBODY, write_bwrap
from tests.conformance.container_harness import ProcessHarness
from tests.escape.box import INSIDE, Box, opened
from tests.escape.images import privileged_image
from tests.escape.probes import BOMBS, PROBES, PROCESS, WAYS, Probe
from tests.markdown import Page

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="a box to break out of is made by root"),
]
NAMES = [probe.name for probe in PROBES]
LINKED = ("private", "writable", "open_directory")
STRANGER = 1_800_000_000
PLAIN_CONTAINER = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,"
    "audit_write,setfcap"
)
UNDER = {
    "view": (),
    "uid": ("setpriv", "--bounding-set=-all," + ",".join(f"+{name}" for name in PLAIN_CONTAINER.split(","))),
    "bwrap": SOMEBODY,
    "plain": SOMEBODY,
}


def expected(probe: Probe, way: str, said: dict[str, str]) -> str:
    """Return what must have become of a probe."""
    if way in probe.either and said["verdict"] in {"open", "held"}:
        return said["verdict"]
    if said["verdict"] == "untried" and way in probe.open:
        return "untried"
    return "open" if way in probe.open else "held"


def check(box: Box, way: str) -> None:
    said = box.try_out("probes", *NAMES)
    became = {probe.name: said[probe.name] for probe in PROBES}
    assert {} == {
        probe.name: became[probe.name]
        for probe in PROBES
        if expected(probe, way, became[probe.name]) != became[probe.name]["verdict"]
    }


def programs(directory: Path, *, bwrap: bool) -> str:
    """Return a PATH with no more than a runner needs."""
    directory.chmod(0o755)
    for name in ("setsid", "setpriv"):
        (directory / name).symlink_to(str(shutil.which(name)))
    if bwrap:
        (directory / "true").symlink_to("/bin/true")
        write_bwrap(directory)
    return str(directory)


@pytest.mark.parametrize("way", PROCESS)
def test_each_way_of_process_jobs_holds_what_it_is_said_to(way: str, tmp_path: Path) -> None:
    if way == "view" and ProcessHarness(tmp_path).way != "view":
        pytest.skip("a container around this runner forbids mounts and networks of a job's own")
    if way == "bwrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    with tempfile.TemporaryDirectory(dir="/var/lib", prefix="runner-test-") as directory:
        path = programs(Path(directory), bwrap=way == "bwrap")
        with opened(0 if way in {"view", "uid"} else NOBODY, under=UNDER[way], path=path) as box:
            check(box, way)
            if way == "view":
                check_links(box)


def check_links(box: Box) -> None:
    """Have a job leave links, whose ends it names as outputs; nothing of theirs is stored, or given another owner."""
    stored = box.directory / "stored"
    names = ("private", "writable", "above/private", "open_directory")
    more = "".join(f'[[outputs]]\npath = "{name}"\nurl = "folder://{stored}/"\n' for name in names)
    for name in LINKED:
        os.chown(box.world[name], STRANGER, STRANGER)
    assert box.try_out("links", "links_left_behind", more=more)["links_left_behind"]["verdict"] == "held"
    assert [path for path in stored.rglob("*") if path.is_file() and path.name != "receipt.json"] == []
    assert {Path(box.world[name]).stat().st_uid for name in LINKED} == {STRANGER}
    assert len(box.receipt("links").outputs) == len(names)


@pytest.mark.docker
def test_a_container_holds_what_it_is_said_to(docker_url: str, python_image: str) -> None:
    with (
        privileged_image(docker_url, python_image) as image,
        opened(0, "--docker-host", docker_url, image=image) as box,
    ):
        check(box, "docker")
        check_links(box)


def test_every_probe_succeeds_where_nothing_holds_it() -> None:
    """One that could not would be held everywhere, and show nothing."""
    with opened(0) as box:
        loose = [box.control(*NAMES), box.control(*NAMES, loose="somebody")]
        loose.append(box.control("metadata_of_the_cloud", loose="cloud"))
    proved = {name for said in loose for name, one in said.items() if one["verdict"] == "open"}
    assert [probe.name for probe in PROBES if not probe.unproved and not {probe.name} & proved | set(probe.open)] == []
    assert [probe.name for probe in PROBES if probe.unproved and probe.name in proved] == []


def test_security_md_shows_the_same_table() -> None:
    rows = [[f"`{probe.name}`", probe.gives, *(probe.told(way) for way in WAYS)] for probe in PROBES]
    assert Page("SECURITY.md").table("probe") == rows
    bombs = [[f"`{bomb.name}`", bomb.gives, *(bomb.told(way) for way in ("docker", "view"))] for bomb in BOMBS]
    assert Page("SECURITY.md").table("bomb") == bombs


def test_there_is_one_row_for_each_program() -> None:
    """A program without a row would be run by nobody."""
    programs_there = {
        name
        for module in INSIDE.glob("*.py")
        for name in re.findall(r"^@probe\ndef (\w+)", module.read_text(), re.MULTILINE)
    }
    assert programs_there == {*NAMES, *(bomb.name for bomb in BOMBS)}
    assert len(NAMES) == len(set(NAMES))
