"""
A job's network reaches what lies beyond the box, and neither metadata, nor the box, nor another job.

Everything that must not be reached answers: the first test shows that, through a network that nobody filters.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adapters.containers.docker_engine import Engine
from adapters.containers.docker_images import DockerImages
from adapters.containers.packet_filter import stands
from runner.errors import RuntimeMissing, Unavailable
from runner.ports import BuildOrder
from tests.adapters.containers.docker_boxes import DockerBox, collect
from tests.adapters.containers.walled import BEYOND, BOX, HERE, REWRITTEN, THERE, WalledMachine

pytestmark = [pytest.mark.docker, pytest.mark.integration]
LISTEN = "import socket; s = socket.create_server(('', 8000)); print('listens', flush=True); s.accept()"
ASK = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from urllib.request import build_opener, ProxyHandler

def ask(url):
    try:
        return build_opener(ProxyHandler({})).open(url, timeout=10 if url in within else patience).read().decode()
    except OSError:
        return ""

patience, within, urls = float(sys.argv[1]), sys.argv[2].split(), sys.argv[2].split() + sys.argv[3:]
with ThreadPoolExecutor(len(urls)) as pool:
    print(json.dumps(dict(zip(urls, pool.map(ask, urls)))))
"""
PATIENCE_S = 0.7
"""For what must not answer; what answers all the same does so within milliseconds."""
SPELLINGS = (
    "http://169.254.169.254/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://metadata.test/",
    "http://far.metadata.test/",
    "http://beyond.test/to?http://169.254.169.254/",
    "http://beyond.test/to?http://metadata.test/",
)
METADATA = (*(f"http://{one}/" for one in (*HERE, *THERE, *REWRITTEN) if ":" not in one), *SPELLINGS)
THE_BOX = (f"http://{BOX}/", "http://box.test/", "http://192.0.2.1/", f"http://beyond.test/to?http://{BOX}/")
PLACES = (("INPUT", "-t", "filter"), ("DOCKER-USER", "-t", "filter"), ("PREROUTING", "-t", "raw"))
REACHED = (f"http://{BEYOND}/", "http://beyond.test/")


async def reached(box: DockerBox, *urls: str) -> set[str]:
    """Return which of the URLs, and of those that lie beyond, a job on network `web` got an answer from."""
    command = ("python3", "-c", ASK, f"{PATIENCE_S}", " ".join(REACHED), *urls)
    ended, output = await box.run(box.spec(*command, network="web"))
    assert ended.code == 0, output["stderr"].decode()
    return answered(output["stdout"])


def answered(printed: bytes | str) -> set[str]:
    answers: Mapping[str, str] = json.loads(printed)
    return {url for url, answer in answers.items() if "reached" in answer}


async def address_of(box: DockerBox, name: str) -> str:
    networks: dict[str, Any] = (await box.inspect(name))["NetworkSettings"]["Networks"]
    return str(next(iter(networks.values()))["IPAddress"])


async def networks(box: DockerBox) -> dict[str, Any]:
    """Return the box's networks as the engine describes them, by the name that a policy has for them."""
    engine = Engine(box.url)
    async with engine.call("list") as docker:
        found = await docker.networks.list(filters={"label": [f"gpu-runner.box={box.id}"]})
    await engine.close()
    return {one["Labels"]["gpu-runner.network"]: one for one in found}


def test_all_of_it_can_be_reached_where_nothing_is_filtered(walled_machine: WalledMachine) -> None:
    """Else the tests below would show nothing."""

    async def scenario(box: DockerBox) -> None:
        urls = [*METADATA, *THE_BOX]
        command = ["python3", "-c", ASK, "10", " ".join(REACHED), *urls]
        await box.create_raw(
            "unfiltered",
            {"Image": box.image, "Cmd": command, "HostConfig": {"NetworkMode": "bridge"},
             "Labels": {"gpu-runner.box": box.id}},
        )  # fmt: skip
        engine = Engine(box.url)
        async with engine.call("run it") as docker:
            container = docker.containers.container("unfiltered")
            await container.start()
            await container.wait()
            said = await container.log(stdout=True)
        await engine.close()
        assert {*urls, *REACHED} == answered("".join(said))

    walled_machine.run(scenario)


def test_a_job_reaches_what_lies_beyond_and_neither_metadata_nor_the_box(walled_machine: WalledMachine) -> None:
    """However the address is spelled, and whoever names it."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("cat", "/proc/net/if_inet6", network="web")
        running = await box.containers.start(spec)
        assert "web" == running.isolation.network
        assert b"" == (await collect(box.containers, spec.name))["stdout"].replace(b"lo\n", b"").strip(b"0 18\n")
        gateway = (await networks(box))["web"]["IPAM"]["Config"][0]["Gateway"]
        asked = (*METADATA, *THE_BOX, f"http://{gateway}/", f"http://[{HERE[-1]}]/")
        assert set(REACHED) == await reached(box, *asked)

    walled_machine.run(scenario)


def test_a_step_of_an_image_build_reaches_what_a_job_reaches(walled_machine: WalledMachine) -> None:
    """Its network is the same bridge, with the same rules."""

    async def scenario(box: DockerBox) -> None:
        asked = (*METADATA, *THE_BOX)
        told: list[str] = []
        images = DockerImages(box.url, networks=box.containers.networks)
        image = await images.resolve(box.image)
        assert image is not None
        words = " ".join(shlex.quote(word) for word in (f"{PATIENCE_S}", " ".join(REACHED), *asked))
        texts = {"ask.py": ASK, "Dockerfile": f"FROM {image.id}\nCOPY ask.py /\nRUN python3 /ask.py {words}\n"}
        context = box.directory / "context.tar"
        with tarfile.open(context, "w") as tar:
            for name, text in texts.items():
                (box.directory / name).write_text(text)
                tar.add(box.directory / name, name)
        order = BuildOrder(str(context), "Dockerfile", "runner-build:asks", network="web", memory=256 << 20)
        try:
            await images.build(order, told.append)
            assert [set(REACHED)] == [answered(line) for line in told if line.startswith("{")]
        finally:
            await images.remove(order.name)
            await images.close()

    walled_machine.run(scenario)


def test_a_job_reaches_no_other_job(walled_machine: WalledMachine) -> None:
    """Of the same network, or of another one."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("python3", "-c", LISTEN, network="web")
        await box.containers.start(spec)
        chunks = box.containers.attach(spec.name, {})
        assert b"listens\n" == (await anext(chunks)).data
        try_it = f"import socket; socket.create_connection(({await address_of(box, spec.name)!r}, 8000), {PATIENCE_S})"
        for network in ("web", "lab"):
            ended, output = await box.run(box.spec("python3", "-c", try_it, network=network))
            assert 1 == ended.code
            assert b"timed out" in output["stderr"]
        found = await box.inspect(spec.name)
        assert found["State"]["Running"]

    walled_machine.run(scenario)


def test_rules_that_were_flushed_or_pushed_back_stand_again_before_the_next_start(
    walled_machine: WalledMachine,
) -> None:
    """As by an engine that starts again, or a firewall that is loaded again; and they stand once."""
    run = walled_machine.walled.box.run

    def rules(bridge: str) -> list[str]:
        lines = (*run("iptables", "-S").splitlines(), *run("iptables", "-t", "raw", "-S").splitlines())
        return sorted(line for line in lines if bridge in line)

    async def scenario(box: DockerBox) -> None:
        asked = (*METADATA, *THE_BOX)
        await reached(box)
        bridge = (await networks(box))["web"]["Options"]["com.docker.network.bridge.name"]
        first = rules(bridge)
        for chain in PLACES:
            run("iptables", "-F", *chain)
        assert set(REACHED) == await reached(box, *asked)
        assert first == rules(bridge)
        for chain in PLACES:
            run("iptables", "-I", *chain, "-j", "ACCEPT")
        assert set(REACHED) == await reached(box, *asked)
        for chain in PLACES:
            run("iptables", "-D", *chain, "-j", "ACCEPT")
        assert first == rules(bridge)

    walled_machine.run(scenario)


def test_rules_that_are_flushed_while_a_job_runs_come_back(walled_machine: WalledMachine) -> None:
    """Waiting for the job's end, the runner looks at them every few seconds."""
    run = walled_machine.walled.box.run

    async def scenario(box: DockerBox) -> None:
        spec = box.spec("cat", "gate", network="web")
        os.mkfifo(Path(spec.workspace) / "gate")
        await box.containers.start(spec)
        bridge = (await networks(box))["web"]["Options"]["com.docker.network.bridge.name"]
        assert stands(bridge)
        run("iptables", "-t", "raw", "-F")
        assert not stands(bridge)
        async with asyncio.TaskGroup() as group:
            group.create_task(box.containers.wait(spec.name))
            group.create_task(collect(box.containers, spec.name))
            while not await asyncio.to_thread(stands, bridge):
                await asyncio.sleep(0.01)
            await asyncio.to_thread((Path(spec.workspace) / "gate").write_text, "go\n")

    walled_machine.run(scenario)


def test_a_network_goes_with_its_last_job_and_so_do_its_rules(walled_machine: WalledMachine) -> None:
    run = walled_machine.walled.box.run

    async def scenario(box: DockerBox) -> None:
        first, second = box.spec("sleep", "60", network="web"), box.spec("sleep", "60", network="web")
        await box.containers.start(first)
        await box.containers.start(second)
        bridge = (await networks(box))["web"]["Options"]["com.docker.network.bridge.name"]
        await box.containers.remove(first.name)
        assert ["web"] == [*await networks(box)]
        await box.containers.remove(second.name)
        assert [] == [*await networks(box)]
        assert bridge not in run("iptables-save") + run("ip6tables-save")

    walled_machine.run(scenario)


def test_a_network_is_made_once_and_removed_when_nothing_uses_it(walled_machine: WalledMachine) -> None:
    """By the next life of the runner, with its rules; those of others stay."""
    run = walled_machine.walled.box.run

    async def scenario(box: DockerBox) -> None:
        for _ in range(2):
            await box.run(box.spec("true", network="old"))
        made = (await networks(box))["old"]
        bridge = made["Options"]["com.docker.network.bridge.name"]
        assert ["old"] == [*await networks(box)]
        assert ("false", False) == (made["Options"]["com.docker.network.bridge.enable_icc"], made["EnableIPv6"])
        assert bridge in run("iptables-save") + run("ip6tables-save")
        life = box.another_life()
        await life.start(box.spec("true", network="web"))
        await life.close()
        assert ["web"] == [*await networks(box)]
        assert bridge not in run("iptables-save") + run("ip6tables-save")

    walled_machine.run(scenario)


def test_where_rules_cannot_be_set_no_job_gets_a_network(walled_machine: WalledMachine) -> None:
    """Here the runner is in another network namespace than the engine, as with an engine on another machine."""

    async def scenario(box: DockerBox) -> None:
        with pytest.raises(RuntimeMissing, match=r"network web: no job gets it unfiltered, .* the engine is elsewhere"):
            await box.containers.start(box.spec("true", network="web"))
        assert () == await box.containers.list_ours()
        ended, _ = await box.run(box.spec("true"))
        assert 0 == ended.code

    super(WalledMachine, walled_machine).run(scenario)


def test_a_runner_that_may_not_set_rules_says_so(walled_machine: WalledMachine) -> None:
    program = "from adapters.containers.packet_filter import enforce; enforce('lo', '127.0.0.0/8')"
    command = ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c", program]
    ended = walled_machine.walled.box.within(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False)
    )
    assert "RuntimeMissing: iptables refused: " in ended.stderr


def test_a_network_of_another_owner_is_in_the_way(walled_machine: WalledMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        engine = Engine(box.url)
        async with engine.call("make it") as docker:
            other = await docker.networks.create({"Name": f"runner-{box.id[:8]}-web"})
        try:
            with pytest.raises(Unavailable, match="of another owner is in the way"):
                await box.containers.start(box.spec("true", network="web"))
        finally:
            await other.delete()
            await engine.close()

    walled_machine.run(scenario)
