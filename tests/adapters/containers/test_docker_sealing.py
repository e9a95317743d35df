"""What the engine was asked for, and what a job finds, field by field; and what images cannot change of it."""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.containers.docker_engine import Engine
from adapters.containers.docker_spec import WORK, host_name
from adapters.workspaces import FolderWorkspaces
from runner.errors import BadInput
from runner.job import make_key
from runner.records import Place
from tests.adapters.containers.docker_boxes import MIB, DockerBox, DockerMachine

docker = pytest.mark.docker
SH = ("sh", "-c")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may hand a workspace over")
MOUNTED = re.compile(r"\S+ \S+ \S+ \S+ (?P<at>\S+) (?P<how>\S+) .*- (?P<kind>\S+) \S+ (?P<options>\S+)")
# Of the kernel's own making; what may be written there is not a job's.
KERNEL = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"}


@docker
def test_the_engine_is_asked_for_every_seal(machine: DockerMachine) -> None:
    """By the engine's own account of a container that asked for nothing."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("true", place=Place(memory=64 * MIB, disk=10 * MIB, cpus=0.5, cores=(0,)))
        await box.run(spec)
        found = await box.inspect(spec.name)
        host, config = found["HostConfig"], found["Config"]
        asked = {
            "CapDrop": ["ALL"], "CapAdd": None, "SecurityOpt": ["no-new-privileges"], "Privileged": False,
            "ReadonlyRootfs": True, "NetworkMode": "none", "IpcMode": "private", "CgroupnsMode": "private",
            "PidMode": "", "UTSMode": "", "UsernsMode": "", "Init": True, "Binds": None, "VolumesFrom": None,
            "Devices": None, "DeviceRequests": None, "DeviceCgroupRules": None, "GroupAdd": None, "Links": None,
            "PortBindings": {}, "PublishAllPorts": False, "Sysctls": None, "OomKillDisable": False,
            "PidsLimit": 4096, "Memory": 64 * MIB, "MemorySwap": 64 * MIB, "NanoCpus": 500_000_000, "CpusetCpus": "0",
            "ShmSize": 64 * MIB, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "Runtime": "runc",
        }  # fmt: skip
        # Nothing, none and empty are one to the engine.
        assert asked == {name: host.get(name) if host.get(name) or value else value for name, value in asked.items()}
        assert {"core": 0, "fsize": 10 * MIB, "msgqueue": 819_200, "nofile": 16_384} == {
            limit["Name"]: limit["Hard"] for limit in host["Ulimits"] if limit["Hard"] == limit["Soft"]
        }
        assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(host["MaskedPaths"])
        assert {"/proc/sys", "/proc/bus"} <= set(host["ReadonlyPaths"])
        assert ("", {"Test": ["NONE"]}) == (config["Domainname"], config["Healthcheck"])
        assert {WORK, "/run/runner"} == {mount["Destination"] for mount in found["Mounts"]}

    machine.run(scenario)


@docker
def test_all_that_a_job_can_write_to_is_its_workspace_or_memory_of_a_size(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        spec = box.spec("cat", "/proc/self/mountinfo", place=Place(memory=64 * MIB))
        _, output = await box.run(spec)
        found = [MOUNTED.fullmatch(line) for line in output["stdout"].decode().splitlines()]
        writable = {
            it["at"]: f"{it['kind']} {it['options']}"
            for it in found
            if it is not None and it["how"].startswith("rw") and it["kind"] not in KERNEL
        }
        disk = [at for at, how in writable.items() if not how.startswith("tmpfs ")]
        assert None not in found
        assert [WORK] == disk
        # Those without a size belong to root, hide something of the kernel's, and count as the job's memory.
        unsized = {at for at, how in writable.items() if "size=" not in how} - {WORK}
        assert unsized <= {"/sys/fs/cgroup"}
        assert {"/tmp", "/dev", "/dev/shm"} <= set(writable)
        assert "size=65536k" in writable["/tmp"]
        assert "nr_inodes=16384" in writable["/tmp"]

    machine.run(scenario)


@docker
def test_the_limits_of_each_process_are_seen_from_inside(machine: DockerMachine) -> None:
    look = "ulimit -c; ulimit -n; head -c 3000000 /dev/zero > big; echo $?; stat -c %s big"

    async def scenario(box: DockerBox) -> None:
        _, output = await box.run(box.spec(*SH, look, place=Place(disk=2 * MIB)))
        assert [b"0", b"16384", b"153", str(2 * MIB).encode()] == output["stdout"].split()

    machine.run(scenario)


@docker
def test_the_hosts_name_is_the_jobs(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        key = make_key("q", "Train_7.b", "1")
        _, output = await box.run(box.spec(*SH, "hostname; hostname -d; hostname mine", key=key))
        assert b"train-7-b\n" == output["stdout"]
        assert b"not permitted" in output["stderr"]

    machine.run(scenario)


@pytest.mark.parametrize(
    ("job_id", "name"),
    [("digits-1", "digits-1"), ("A.b_C", "a-b-c"), ("x" * 90, "x" * 63), ("Ünï", "n"), ("...", "job"), ("-a-", "a")],
)
def test_any_id_makes_a_name_for_a_host(job_id: str, name: str) -> None:
    assert name == host_name(f"{job_id}.0123456789abcdef")


@asynccontextmanager
async def image_with(box: DockerBox, *changes: str) -> AsyncIterator[str]:
    """Make an image of the box's own with other settings, and take it away."""
    tag = f"runner-test-made:{uuid.uuid4().hex[:12]}"
    engine = Engine(box.url)
    try:
        await box.create_raw(box.id, {"Image": box.image, "Cmd": ["true"]})
        query = [("container", box.id), ("repo", tag.partition(":")[0]), ("tag", tag.partition(":")[2])]
        async with engine.call("make an image") as docker:
            url = f"{docker.docker_host}/v1.41/commit"
            query += [("changes", change) for change in changes]
            async with docker.session.post(url, params=query, json={}) as answer:
                assert answer.status == 201, await answer.text()
        await box.delete_raw(box.id)
        yield tag
    finally:
        async with engine.call("remove it") as docker:
            await docker.images.delete(tag, force=True)
        await engine.close()


@docker
def test_an_image_cannot_loosen_the_seal(machine: DockerMachine) -> None:
    """Its user, labels, health check, directory and volumes count for nothing."""

    async def scenario(box: DockerBox) -> None:
        changes = ("USER 0", "WORKDIR /proc", "HEALTHCHECK CMD true", "VOLUME /data")
        labels = ("LABEL gpu-runner.box=x gpu-runner.network=web gpu-runner.uid=0 signal=15",)
        async with image_with(box, *changes, *labels) as image:
            spec = box.spec(
                *SH, "id -u; pwd; grep ' /data ' /proc/mounts; touch /data/x && echo in memory", image=image
            )
            running = await box.containers.start(spec)
            ended, output = await box.run(spec)
            found = await box.inspect(spec.name)
            await box.containers.remove(spec.name)
        lines = output["stdout"].decode().splitlines()
        assert (0, [str(box.settings.uids[0]), WORK]) == (ended.code, lines[:2])
        assert "" == ended.by_others
        assert lines[2].startswith("tmpfs /data tmpfs rw,nosuid,nodev,relatime,size=1048576k")
        assert "none" == running.isolation.network
        assert {WORK, "/run/runner"} == {mount["Destination"] for mount in found["Mounts"]}

    machine.run(scenario)


@docker
def test_an_image_with_a_volume_among_the_jobs_own_files_is_refused(machine: DockerMachine) -> None:
    """The engine would make that directory for root."""

    async def scenario(box: DockerBox) -> None:
        async with image_with(box, f"VOLUME {WORK}/data") as image:
            with pytest.raises(BadInput, match=f"declares the volume {WORK}/data"):
                await box.containers.start(box.spec("true", image=image))

    machine.run(scenario)


@docker
@AS_ROOT
def test_nothing_of_roots_stays_in_a_workspace_and_all_of_it_can_be_removed(machine: DockerMachine) -> None:
    """Whatever modes the job left behind."""
    script = """
        mkdir -p a/b/c; cp /bin/busybox a/b/; chmod 6755 a/b/busybox; a/b/busybox id -u; touch a/b/c/d
        mkfifo a/pipe; ln -s /etc/passwd a/link; chmod 000 a/b/c a/b; chmod 1777 a
    """

    async def scenario(box: DockerBox) -> None:
        workspaces = FolderWorkspaces(str(box.directory / "workspaces"))
        workspace = box.directory / "workspaces" / "one"
        workspace.mkdir(parents=True)
        spec = box.spec(*SH, script, workspace=str(workspace))
        ended, output = await box.run(spec)
        await box.containers.remove(spec.name)
        uid = box.settings.uids[0]
        assert (0, str(uid).encode()) == (ended.code, output["stdout"].strip())
        found = [workspace, *workspace.rglob("*")]
        assert {uid} == {path.lstat().st_uid for path in found}
        assert stat.S_ISUID & (workspace / "a/b/busybox").stat().st_mode
        await workspaces.remove(str(workspace))
        assert not Path(workspace).exists()
        await workspaces.close()

    machine.run(scenario)
