"""Limits on a real engine, users of their own, and GPUs handed over as the engine hands them."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path

import pytest

from runner.errors import Unavailable
from runner.records import GrantedGpu, Place
from tests.adapters.containers.docker_boxes import MIB, DockerBox, DockerMachine, collect

pytestmark = [pytest.mark.docker, pytest.mark.integration]
SH = ("sh", "-c")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may hand a workspace over")
SWALLOW = "import sys; held = bytearray({bytes}); print(len(held), flush=True)"


def test_memory_ends_at_its_limit(python_machine: DockerMachine) -> None:
    """The kernel's kill is told as such, and the limit as the peak."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("python3", "-c", SWALLOW.format(bytes=512 * MIB), place=Place(memory=48 * MIB))
        ended, output = await box.run(spec)
        assert (137, True, 48 * MIB) == (ended.code, ended.oom, ended.usage.memory_peak)
        assert output["stdout"] == b""

    python_machine.run(scenario)


def test_the_peak_of_memory_is_told(python_machine: DockerMachine) -> None:
    script = SWALLOW.format(bytes=100 * MIB) + "; del held; open('/work/gate').read()"

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("python3", "-c", script, place=Place(memory=256 * MIB))
        gate = Path(spec.workspace) / "gate"
        os.mkfifo(gate)
        await box.containers.start(spec)
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(box.containers.wait(spec.name))
            chunks = box.containers.attach(spec.name, {})
            await anext(chunks)
            sampled = await box.containers.stats(spec.name)
            await asyncio.to_thread(gate.write_text, "go\n")
            assert [chunk async for chunk in chunks] == []
        for usage in (sampled, ended.result().usage):
            assert usage.memory_peak is not None
            assert 100 * MIB <= usage.memory_peak <= 256 * MIB
        assert (sampled.cpu_seconds or 0) > 0
        assert (await box.containers.stats(spec.name)).memory_peak is None
        assert (await box.containers.stats("nobody.1")).memory_peak is None

    python_machine.run(scenario)


def test_the_engine_enforces_what_the_grant_says(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        place = Place(memory=64 * MIB, cpus=0.5, cores=(1,))
        script = "df -k /dev/shm /tmp | tail -n 2; ulimit -n; grep Cpus_allowed_list /proc/self/status"
        spec = box.spec(*SH, script, place=place, shm=3 * MIB)
        _, output = await box.run(spec)
        sizes = re.findall(r"(?:shm|tmpfs) +(\d+)", output["stdout"].decode())
        assert [str(3 * 1024), str(64 * 1024)] == sizes
        assert output["stdout"].endswith(b"99\nCpus_allowed_list:\t1\n")
        host = (await box.inspect(spec.name))["HostConfig"]
        limits = (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"])
        assert (64 * MIB, 64 * MIB, 500_000_000, 20) == limits

    machine.run(scenario, pids=20, open_files=99)


def test_processes_end_at_their_limit(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        script = "i=0; while [ $i -lt 30 ]; do sleep 9 & i=$((i+1)); done"
        _, output = await box.run(box.spec(*SH, script))
        assert b"can't fork" in output["stderr"]

    machine.run(scenario, pids=20)


@AS_ROOT
def test_each_running_job_has_a_user_of_its_own(machine: DockerMachine) -> None:
    """Until all are taken; a removed container gives its own back."""

    async def scenario(box: DockerBox) -> None:
        specs = [box.spec(*SH, "touch mine; sleep 60") for _ in range(3)]
        started = await asyncio.gather(*(box.containers.start(spec) for spec in specs[:2]))
        assert {"70001", "70002"} == {running.isolation.user for running in started}
        with pytest.raises(Unavailable, match="uids for jobs are taken"):
            await box.containers.start(specs[2])
        await box.containers.remove(specs[0].name)
        third = await box.containers.start(specs[2])
        assert started[0].isolation.user == third.isolation.user

    machine.run(scenario, uids=(70001, 70002))


@AS_ROOT
def test_a_user_is_free_again_though_its_container_was_removed_by_others(machine: DockerMachine) -> None:
    """Such as by `docker container prune`, after the engine had been away for longer than one tries to remove it."""

    async def scenario(box: DockerBox) -> None:
        gone, stays, wants = (box.spec(*SH, "sleep 60") for _ in range(3))
        first, second = [await box.containers.start(spec) for spec in (gone, stays)]
        await box.delete_raw(box.called(gone.name))
        with suppress(Unavailable):
            await box.containers.start(wants)
        third = await box.containers.start(wants)
        assert (first.isolation.user, "70002") == (third.isolation.user, second.isolation.user)

    machine.run(scenario, uids=(70001, 70002))


@AS_ROOT
def test_handing_the_workspace_over_follows_no_link(machine: DockerMachine, tmp_path: Path) -> None:
    """What a job's inputs point to stays whose it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo more >> input/data && cat input/data")
        work = Path(spec.workspace)
        (work / "input").mkdir()
        (work / "input" / "data").write_text("some\n")
        (work / "input" / "directory").symlink_to(outside)
        (work / "input" / "link").symlink_to(outside / "file")
        _, output = await box.run(spec)
        assert output["stdout"] == b"some\nmore\n"
        assert (0, 0) == (outside.stat().st_uid, (outside / "file").stat().st_uid)

    machine.run(scenario)


def test_gpus_are_handed_over_by_uuid(machine: DockerMachine) -> None:
    """The engine passes them, slices of cards too, to NVIDIA's hook, and the job sees them and no others."""
    gpus = (GrantedGpu(1, "GPU-11111111-aaaa"), GrantedGpu(3, "MIG-33333333-bbbb"))

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo $NVIDIA_VISIBLE_DEVICES $NVIDIA_DRIVER_CAPABILITIES", place=Place(gpus=gpus))
        running = await box.containers.start(spec)
        output = await collect(box.containers, spec.name)
        assert running.isolation.gpu == "enforced"
        assert output["stdout"] == b"GPU-11111111-aaaa,MIG-33333333-bbbb compute,utility\n"

    machine.run(scenario)
    asked = Path(os.environ["RUNNER_TEST_GPU_HOOK_LOG"]).read_text()
    assert '"NVIDIA_VISIBLE_DEVICES=GPU-11111111-aaaa,MIG-33333333-bbbb"' in asked


def test_a_job_without_gpus_gets_none_whatever_its_image_asks_for(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        _, output = await box.run(box.spec(*SH, "echo $NVIDIA_VISIBLE_DEVICES", env={"NVIDIA_VISIBLE_DEVICES": "all"}))
        assert output["stdout"] == b"void\n"

    machine.run(scenario)


def test_simulated_gpus_are_names_alone(machine: DockerMachine) -> None:
    """No device is asked of the engine, and the receipt says that nothing is enforced, also after adoption."""
    gpus = (GrantedGpu(0, "SIM-box-0", simulated=True), GrantedGpu(1, "SIM-box-1", simulated=True))

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo $CUDA_VISIBLE_DEVICES", place=Place(gpus=gpus))
        running = await box.containers.start(spec)
        assert (await collect(box.containers, spec.name))["stdout"] == b"SIM-box-0,SIM-box-1\n"
        adopted = await box.containers.adopt(spec.name)
        assert adopted is not None
        assert running.isolation.gpu == adopted.isolation.gpu == "advisory"
        assert not (await box.inspect(spec.name))["HostConfig"]["DeviceRequests"]

    machine.run(scenario)
