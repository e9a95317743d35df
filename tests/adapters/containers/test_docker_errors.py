"""What cannot be started, and engines that are gone, silent or old: errors of ours, in the engine's words."""

from __future__ import annotations

import asyncio
import io
import platform
import tarfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.containers.docker import DockerContainers
from adapters.containers.docker_engine import Engine
from adapters.containers.docker_spec import DockerSettings
from runner.errors import BadInput, ImageGone, RuntimeMissing, Unavailable
from runner.records import Place
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine
from tests.adapters.containers.socket_proxy import SocketProxy, listening

docker = pytest.mark.docker


@docker
@pytest.mark.parametrize("command", ["nosuch", "/bin/nosuch", "./nosuch", "input/data", "/etc", "plain"])
def test_a_command_that_cannot_be_run_is_told_before_the_start(machine: DockerMachine, command: str) -> None:
    """It is absent, or a directory, or a file that may not be executed; nothing of the container stays."""

    async def scenario(box: DockerBox) -> None:
        spec = box.spec(command, "--flag")
        (Path(spec.workspace) / "plain").touch()
        with pytest.raises(BadInput, match=f"command '{command}' cannot be run"):
            await box.containers.start(spec)
        assert await box.containers.list_ours() == ()

    machine.run(scenario)


@docker
def test_a_command_is_found_wherever_the_kernel_finds_it(machine: DockerMachine) -> None:
    """In the job's own PATH, in its workspace, through links, and again from memory."""

    async def scenario(box: DockerBox) -> None:
        for command in ("true", "/bin/true", "tools/mine", "./link", "mine", "true"):
            spec = box.spec(command, env={"PATH": "/work/tools:/bin"})
            tool = Path(spec.workspace) / "tools" / "mine"
            tool.parent.mkdir()
            tool.write_text("#!/bin/sh\n")
            tool.chmod(0o755)
            (Path(spec.workspace) / "link").symlink_to("tools/mine")
            ended, _ = await box.run(spec)
            assert (command, 0) == (command, ended.code)

    machine.run(scenario)


@docker
def test_a_command_that_fails_as_it_starts_is_told_in_the_engines_words(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        spec = box.spec("./script")
        script = Path(spec.workspace) / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        ended, output = await box.run(spec)
        assert (127, True) == (ended.code, ended.not_started)
        assert ended.message == "exec ./script failed: No such file or directory"
        assert b"./script" in output["stderr"]

    machine.run(scenario)


def for_another_machine(image: bytes) -> io.BytesIO:
    """Return a saved image that says it is made for ARM."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(image)) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old.getmembers():
            data = old.extractfile(member)
            body = data.read() if data else b""
            if member.name.endswith(".json") and b'"architecture"' in body:
                body = body.replace(b'"architecture":"amd64"', b'"architecture":"arm64"')
            body = body.replace(b"runner-test-busybox:1", b"runner-test-foreign:1")
            member.size = len(body)
            new.addfile(member, io.BytesIO(body))
    made.seek(0)
    return made


@docker
@pytest.mark.skipif(platform.machine() != "x86_64", reason="takes another kind of machine than the image's")
def test_an_image_for_other_machines_is_named(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        engine = Engine(box.url)
        async with engine.call("load an image") as docker:
            async with docker.images.export_image(box.image) as saved:
                image = await saved.read()
            await docker.images.import_image(for_another_machine(image))
        await engine.close()
        ended, _ = await box.run(box.spec("sh", "-c", "exit 8", image="runner-test-foreign:1"))
        assert "exit code 8: its image is made for arm64, and this box is amd64" == ended.message

    machine.run(scenario)


@docker
def test_a_job_that_ends_with_the_same_code_did_start(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        ended, _ = await box.run(box.spec("sh", "-c", "echo no luck >&2; exit 127"))
        assert (127, False, "") == (ended.code, ended.not_started, ended.message)

    machine.run(scenario)


@docker
def test_an_image_that_is_gone_since_it_was_staged_is_told(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        with pytest.raises(ImageGone, match="No such image: nosuch:1"):
            await box.containers.start(box.spec("true", image="nosuch:1"))
        assert await box.containers.list_ours() == ()

    machine.run(scenario)


@docker
def test_less_memory_than_a_container_needs_is_the_jobs_fault(machine: DockerMachine) -> None:
    async def scenario(box: DockerBox) -> None:
        with pytest.raises(BadInput, match="Minimum memory limit allowed is 6MB"):
            await box.containers.start(box.spec("true", place=Place(memory=1 << 20)))

    machine.run(scenario)


@docker
def test_what_cannot_be_started_is_deleted_again(machine: DockerMachine) -> None:
    """The engine creates it and then refuses its start; nothing is left that carries our label."""

    async def scenario(box: DockerBox) -> None:
        with pytest.raises(Unavailable, match="rlimit"):
            await box.containers.start(box.spec("true"))
        assert await box.containers.list_ours() == ()

    machine.run(scenario, open_files=1 << 40)


def containers(url: str, directory: Path, answer_s: float = 0.2) -> DockerContainers:
    settings = DockerSettings(box="b", directory=str(directory), answer_s=answer_s)
    return DockerContainers(url, settings, time.time)


def test_an_engine_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        absent = containers(f"unix://{tmp_path}/none.sock", tmp_path)
        with pytest.raises(Unavailable, match=r"none\.sock"):
            await absent.adopt("job.1")
        await absent.close()

    asyncio.run(scenario())


@asynccontextmanager
async def serving(path: Path, body: bytes) -> AsyncIterator[None]:
    """Answer every request on a unix socket with the same JSON; no body: never."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body if body else b"")
        await reader.read()
        writer.close()

    async with listening(path, answer):
        yield


# As 4.3.1 says it, the parts that are looked at.
PODMAN = (
    b'{"Components": [{"Name": "Podman Engine", "Version": "4.3.1"}, {"Name": "Conmon", "Version": "2.1.6"}], '
    b'"Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24"}'
)


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b'{"ApiVersion": "1.40", "MinAPIVersion": "1.12"}', RuntimeMissing, r"speaks API 1\.40"),
        (PODMAN, RuntimeMissing, "Podman answers at unix:.*name a Docker engine with --docker-host"),
        (b"<html>hello</html>", Unavailable, "does not answer as a Docker engine"),
        (b'{"hello": 1}', Unavailable, "does not answer as a Docker engine"),
        (b"", Unavailable, r"within 0\.2 s"),
    ],
    ids=["old", "podman", "no json", "other json", "silent"],
)
def test_what_is_no_engine_of_ours_is_unavailable(
    tmp_path: Path, body: bytes, error: type[Unavailable], words: str
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "s", body):
            other = containers(f"unix://{tmp_path}/s", tmp_path)
            with pytest.raises(error, match=words):
                await other.list_ours()
            await other.close()

    asyncio.run(scenario())


@docker
def test_an_engine_that_falls_silent_is_unavailable_until_it_speaks_again(
    machine: DockerMachine, tmp_path: Path
) -> None:
    """Every call ends within its limit, and the next one after the silence works without anything done."""

    async def scenario(box: DockerBox) -> None:
        async with SocketProxy(box.url, tmp_path).serving() as proxy:
            far = containers(proxy.url, tmp_path, answer_s=0.3)
            assert await far.list_ours() == ()
            proxy.fall_silent()
            proxy.cut()
            spec = box.spec("true")
            for call in (far.start(spec), far.wait("a.1"), far.stop("a.1", 0.1), far.remove("a.1"), far.stats("a.1")):
                with pytest.raises(Unavailable):
                    await call
            proxy.speak_again()
            assert await far.adopt("a.1") is None
            await far.close()

    machine.run(scenario)
