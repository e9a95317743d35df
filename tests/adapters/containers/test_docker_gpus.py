"""How GPUs are handed over: what the engine is asked for, and how the way is chosen by what it tells of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.containers.docker_box import BoxContainers
from adapters.containers.docker_engine import Engine
from adapters.containers.docker_gpus import device_requests, way_of
from adapters.containers.docker_spec import Arranged, DockerSettings, request
from runner.errors import RuntimeMissing
from runner.job import Key
from runner.ports import ContainerSpec
from runner.records import Grant, GrantedGpu, Place
from tests.adapters.containers.docker_boxes import DockerBox
from tests.adapters.containers.engine_imitation import imitation
from tests.adapters.containers.walled import WalledMachine
from tests.services.service import find_program

GPU, MIG = "GPU-1111", "MIG-2222"
KNOWN: dict[str, Any] = {"CDISpecDirs": ["/etc/cdi", "/var/run/cdi"]}
FOUND: dict[str, Any] = KNOWN | {
    "DiscoveredDevices": [{"Source": "cdi", "ID": f"nvidia.com/gpu={uuid}"} for uuid in (GPU, MIG)]
}
RUNTIMES = {"Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}}}
NEW, OLD = "1.51", "1.41"


def chosen(directory: Path, handover: str, info: Mapping[str, object], api: str) -> str:
    """Ask an imitation of an engine which way it hands both over."""

    async def scenario() -> str:
        answers = {"/version": {"ApiVersion": api, "MinAPIVersion": "1.24"}, "/info": info}
        async with imitation(directory / "s", answers):
            engine = Engine(f"unix://{directory}/s")
            described = await BoxContainers(engine, "b").described()
            await engine.close()
            return way_of(handover, [GPU, MIG], described, engine.newest)

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("info", "api", "way"),
    [
        ({}, OLD, "nvidia"),
        (RUNTIMES, OLD, "nvidia"),
        (KNOWN, "1.44", "cdi"),
        (KNOWN | RUNTIMES, "1.44", "nvidia"),
        (KNOWN, NEW, "nvidia"),
        (FOUND, NEW, "cdi"),
        (FOUND | RUNTIMES, NEW, "cdi"),
        (KNOWN | {"DiscoveredDevices": FOUND["DiscoveredDevices"][:1]}, NEW, "nvidia"),
    ],
    ids=["old", "old with runtime", "25", "25 with runtime", "28, none", "28", "28 with runtime", "28, one unknown"],
)
def test_the_way_is_what_the_engine_can(tmp_path: Path, info: Mapping[str, object], api: str, way: str) -> None:
    """CDI where it names every card, or may, and nothing else is there; else NVIDIA's hook."""
    assert way == chosen(tmp_path, "auto", info, api)


@pytest.mark.parametrize(
    ("info", "api", "words"),
    [
        (RUNTIMES, OLD, r'gpu_handover = "cdi": the engine has no CDI: it takes Docker 25'),
        (KNOWN, NEW, rf"no file in /etc/cdi, /var/run/cdi names {GPU}, {MIG}: write one with `nvidia-ctk cdi"),
    ],
)
def test_cdi_that_an_engine_cannot_do_is_refused(
    tmp_path: Path, info: Mapping[str, object], api: str, words: str
) -> None:
    with pytest.raises(RuntimeMissing, match=words):
        chosen(tmp_path, "cdi", info, api)


def test_a_way_that_is_configured_is_taken(tmp_path: Path) -> None:
    assert "nvidia" == chosen(tmp_path, "nvidia", FOUND, NEW)
    assert "cdi" == chosen(tmp_path, "cdi", KNOWN | RUNTIMES, "1.44")


def test_the_engine_is_asked_by_uuid() -> None:
    assert [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={GPU}", f"nvidia.com/gpu={MIG}"]}] == device_requests(
        [GPU, MIG], "cdi"
    )
    assert [
        {"Driver": "nvidia", "DeviceIDs": [GPU, MIG], "Capabilities": [["gpu", "compute", "utility"]]}
    ] == device_requests([GPU, MIG], "nvidia")
    assert [] == device_requests([], "cdi")


@pytest.mark.docker
@pytest.mark.integration
@pytest.mark.skipif(find_program("nvidia-container-runtime-hook") is not None, reason="this engine has NVIDIA's hook")
def test_an_engine_without_nvidias_hook_is_told_as_such(walled_machine: WalledMachine) -> None:
    """By an engine of today's that was started without it; nothing is left."""

    async def scenario(box: DockerBox) -> None:
        with pytest.raises(
            RuntimeMissing, match=r"could not select device driver .* install NVIDIA's container toolkit"
        ):
            await box.containers.start(box.spec("true", place=Place(gpus=(GrantedGpu(0, GPU),))))
        assert () == await box.containers.list_ours()

    walled_machine.run(scenario)


@pytest.mark.parametrize(("way", "shown"), [("cdi", "void"), ("nvidia", f"{GPU},{MIG}")])
def test_neither_job_nor_image_can_ask_nvidias_hook_for_more(way: str, shown: str) -> None:
    """With CDI, a default runtime of NVIDIA's gives nothing beside it."""
    spec = ContainerSpec(
        name="a.1",
        key=Key("a"),
        attempt=1,
        command=("true",),
        env={"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "all"},
        workspace="/w",
        grant=Grant((Place(gpus=(GrantedGpu(0, GPU), GrantedGpu(1, MIG))),)),
    )
    arranged = Arranged(uid=1, owner=1, deadline_directory="/d", gpu_way=way)
    body = request(spec, DockerSettings(box="b", directory="/d"), arranged)
    assert {f"NVIDIA_VISIBLE_DEVICES={shown}", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} == {
        variable for variable in body["Env"] if variable.startswith("NVIDIA_")
    }
    assert msgspec.json.encode(body)
