"""Containers on a real engine: started once, sealed, adopted, waited for, stopped and removed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from adapters.containers.docker_spec import DEADLINE_FILE, WORK
from runner.errors import Unavailable
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine, collect, collect_until
from tests.at_work import until

pytestmark = [pytest.mark.docker, pytest.mark.integration]
SH = ("sh", "-c")
UNTIL_KILLED = "echo ready; while :; do sleep 1; done"


def names_in(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def test_a_job_runs_and_tells_its_code_and_both_streams(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        before = time.time()
        spec = box.spec(*SH, r"printf 'out\n\377\000'; printf err >&2; exit 7")
        ended, output = await box.run(spec)
        assert (7, False, False) == (ended.code, ended.oom, ended.not_started)
        assert {"stdout": b"out\n\xff\x00", "stderr": b"err"} == output
        assert before - 1 < ended.ended_at < time.time() + 1

    machine.run(scenario)


def test_a_job_is_sealed(machine: DockerMachine) -> None:
    """What the restricted profile promises is seen from inside."""
    look = (
        "id -u; id -g; pwd; echo $HOME $TMPDIR; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status;"
        "ls /sys/class/net; touch /etc/x 2>&1; touch $HOME/a $TMPDIR/b /dev/shm/c && echo writable;"
        "cat /proc/1/comm; ulimit -c"
    )

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, look)
        ended, output = await box.run(spec)
        uid = str(box.settings.uids[0])
        expected = [
            uid, uid, WORK, f"{WORK} /tmp", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1",
            "lo", "touch: /etc/x: Read-only file system", "writable", "docker-init", "0",
        ]  # fmt: skip
        assert sorted(expected) == sorted(output["stdout"].decode().splitlines())
        assert ended.code == 0
        assert int(uid) == (Path(spec.workspace) / "a").stat().st_uid

    machine.run(scenario)


def test_how_a_job_is_kept_apart_is_told(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        running = await box.containers.start(box.spec("true"))
        apart = running.isolation
        assert ("docker", "65532", "none", "enforced", ()) == (
            apart.runtime, apart.user, apart.network, apart.gpu, apart.missing,
        )  # fmt: skip

    machine.run(scenario)


def test_the_environment_and_the_deadline_reach_the_job(machine: DockerMachine) -> None:
    script = """
        echo $EPOCHS $RUNNER_JOB_ID $HOME
        cat $RUNNER_DEADLINE_FILE
        touch $RUNNER_DEADLINE_FILE 2>/dev/null || echo read-only
    """

    async def scenario(box: DockerBox) -> None:
        env = {"EPOCHS": "3", "RUNNER_JOB_ID": "j", "HOME": "/tmp"}
        _, output = await box.run(box.spec(*SH, script, env=env, deadline_at=1234.5))
        assert output["stdout"] == b"3 j /tmp\n1234.500\nread-only\n"

    machine.run(scenario)


def test_a_command_is_taken_word_by_word(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        ended, output = await box.run(box.spec("echo", "a b", "$HOME"))
        assert (0, b"a b $HOME\n") == (ended.code, output["stdout"])

    machine.run(scenario)


def test_the_same_name_starts_once(machine: DockerMachine) -> None:
    """A second start, at once, later, or by the next life of the runner, finds what runs or ran."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo started >> /work/starts")
        first, second = await asyncio.gather(box.containers.start(spec), box.containers.start(spec))
        await collect(box.containers, spec.name)
        await box.containers.wait(spec.name)
        third = await box.containers.start(spec)
        life = box.another_life()
        fourth = await life.start(spec)
        await life.close()
        assert len({start.started_at for start in (first, second, third, fourth)}) == 1
        assert (Path(spec.workspace) / "starts").read_text() == "started\n"

    machine.run(scenario)


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16])
def test_a_start_that_is_cancelled_happened_or_did_not(machine: DockerMachine, after_s: float) -> None:
    """Asked again, the job has run once and all of its output is read."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo started >> /work/starts; echo out; echo err >&2")
        with suppress(TimeoutError):
            await asyncio.wait_for(box.containers.start(spec), after_s)
        ended, output = await box.run(spec)
        assert (0, {"stdout": b"out\n", "stderr": b"err\n"}) == (ended.code, output)
        assert (Path(spec.workspace) / "starts").read_text() == "started\n"

    machine.run(scenario)


def test_a_start_that_is_cancelled_leaves_no_thread_behind(machine: DockerMachine) -> None:
    """A thread that goes on would write beside the next start's, or after a removal."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "true", deadline_at=4e9)
        own = Path(box.settings.directory) / spec.name
        own.mkdir(parents=True, mode=0o700)
        gate = own / f".{DEADLINE_FILE}"
        os.mkfifo(gate)
        starting = asyncio.create_task(box.containers.start(spec))
        await asyncio.to_thread(until, lambda: own.stat().st_mode & 0o777 == 0o755, "the deadline being written")
        starting.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not starting.done()
        gate_end = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
        await asyncio.wait({starting})
        os.close(gate_end)
        assert starting.cancelled()
        assert not gate.exists()
        ended, _ = await box.run(spec)
        assert ended.code == 0

    machine.run(scenario)


def test_a_container_that_was_created_but_never_started_is_started(machine: DockerMachine) -> None:
    """A runner that is killed between the two calls leaves one."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo all of it; echo and this >&2; touch /work/mine", deadline_at=5.0)
        await box.create_only(spec)
        assert await box.containers.adopt(spec.name) is None
        ended, output = await box.run(spec)
        assert ended.code == 0
        assert output == {"stdout": b"all of it\n", "stderr": b"and this\n"}

    machine.run(scenario)


def test_a_start_that_is_still_under_way_is_waited_for(machine: DockerMachine) -> None:
    """A killed runner's request goes on in the engine while the next life asks for the same."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo started >> /work/starts; seq 1000")
        await box.create_only(spec)
        _, killed = await asyncio.open_unix_connection(box.url.removeprefix("unix://"))
        killed.write(f"POST /containers/{spec.name}/start HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
        await killed.drain()
        killed.close()
        ended, output = await box.run(spec)
        assert (0, 3893) == (ended.code, len(output["stdout"]))
        assert (Path(spec.workspace) / "starts").read_text() == "started\n"

    machine.run(scenario)


def test_what_an_earlier_life_started_is_adopted(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, "echo one; read x < /work/gate; echo two; exit 9")
        gate = Path(spec.workspace) / "gate"
        os.mkfifo(gate)
        started = await box.containers.start(spec)
        first = await collect_until(box.containers, spec.name, 4, {})
        await box.containers.close()
        life = box.another_life()
        assert started == await life.adopt(spec.name)
        assert (spec.name,) == await life.list_ours()
        async with asyncio.TaskGroup() as group:
            rest = group.create_task(collect(life, spec.name, {"stdout": 4}))
            ended = group.create_task(life.wait(spec.name))
            await asyncio.to_thread(gate.write_text, "go\n")
        assert (b"one\n", b"two\n", 9) == (first["stdout"], rest.result()["stdout"], ended.result().code)
        assert (await life.wait(spec.name)).code == 9
        await life.close()

    machine.run(scenario)


def test_nothing_is_adopted_that_was_never_there(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        assert await box.containers.adopt("nobody.1") is None
        assert await box.containers.adopt("../etc") is None
        assert await collect(box.containers, "nobody.1") == {"stdout": b"", "stderr": b""}
        assert (await box.containers.wait("nobody.1")).code is None
        await box.containers.stop("nobody.1", 1)
        await box.containers.remove("nobody.1")
        assert await box.containers.list_ours() == ()

    machine.run(scenario)


def test_a_container_that_somebody_removes_holds_nobody_up(machine: DockerMachine) -> None:
    """Waiting and reading end: killed, or gone before anybody could tell."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, UNTIL_KILLED)
        await box.containers.start(spec)
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(box.containers.wait(spec.name))
            chunks = box.containers.attach(spec.name, {})
            assert (await anext(chunks)).data == b"ready\n"
            await box.delete_raw(box.called(spec.name))
            assert [chunk async for chunk in chunks] == []
        assert ended.result().code in {None, 137}
        assert "removed by somebody else" in (await box.containers.wait(spec.name)).message

    machine.run(scenario)


def test_stop_reaches_the_whole_process_group_and_leaves_time(machine: DockerMachine) -> None:
    script = """
        trap 'wait; echo parent; exit 3' TERM
        sh -c 'trap "echo child; exit" TERM; echo ready; while :; do sleep 0.05; done' &
        wait
    """

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, script)
        await box.containers.start(spec)
        chunks = box.containers.attach(spec.name, {})
        assert (await anext(chunks)).data == b"ready\n"
        await box.containers.stop(spec.name, 20)
        said = b"".join([chunk.data async for chunk in chunks if chunk.stream == "stdout"])
        assert (b"child\nparent\n", 3) == (said, (await box.containers.wait(spec.name)).code)

    machine.run(scenario)


def test_what_does_not_stop_is_killed_after_the_grace(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, f"trap '' TERM; {UNTIL_KILLED}")
        await box.containers.start(spec)
        chunks = box.containers.attach(spec.name, {})
        await anext(chunks)
        begun = time.monotonic()
        await box.containers.stop(spec.name, 1)
        assert 1 <= time.monotonic() - begun < 10
        assert (await box.containers.wait(spec.name)).code == 137
        await box.containers.stop(spec.name, 1)
        assert [chunk async for chunk in chunks] == []

    machine.run(scenario)


def test_removal_takes_all_and_may_come_twice(machine: DockerMachine) -> None:
    """Also of one that runs and whose output nobody read."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(*SH, UNTIL_KILLED)
        await box.containers.start(spec)
        assert [spec.name] == names_in(box.settings.directory)
        await asyncio.gather(box.containers.remove(spec.name), box.containers.remove(spec.name))
        await box.containers.remove(spec.name)
        assert await box.containers.list_ours() == ()
        assert names_in(box.settings.directory) == []
        assert names_in(spec.workspace) == []

    machine.run(scenario)


def test_containers_of_others_are_never_touched(machine: DockerMachine, tmp_path: Path) -> None:
    """Neither listed, adopted, stopped nor removed, even under a name of ours."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("true")
        await box.create_raw(box.called(spec.name), {"Image": box.image, "Cmd": ["true"]})
        try:
            with pytest.raises(Unavailable, match="another owner"):
                await box.containers.start(spec)
            await box.containers.stop(spec.name, 1)
            await box.containers.remove(spec.name)
            assert await box.containers.adopt(spec.name) is None
            assert await box.containers.list_ours() == ()
            assert (await box.inspect(spec.name))["State"]["Status"] == "created"
        finally:
            await box.delete_raw(box.called(spec.name))

    machine.run(scenario)


def test_a_box_without_docker_never_loads_its_library() -> None:
    script = """
import sys, time
from adapters.containers.docker import DockerContainers
from adapters.containers.docker_images import DockerImages
from adapters.containers.docker_spec import DockerSettings
DockerContainers("unix:///nowhere", DockerSettings(box="b", directory="/nowhere"), time.time)
DockerImages("unix:///nowhere")
sys.exit("aiodocker" in sys.modules or "aiohttp" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
