"""Images of a real engine and a real registry: with a login, broken, slow, silent, and gone in the middle of a pull."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from adapters.containers.docker_images import DockerImages
from runner.credential import RegistryLogin
from runner.errors import Refused, Unavailable
from runner.secret import Secret
from tests.adapters.containers.test_docker_images import Registry, unheard
from tests.fault_proxy import proxied
from tests.services.engine import Engine
from tests.services.registry import PASSWORD, SERVICE, USER, registry

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(bool(SERVICE.missing_programs()), reason="not installed: docker-registry"),
]
LOGIN = RegistryLogin("127.0.0.1", USER, Secret(PASSWORD))
BIG_BYTES = 24 << 20


@dataclass
class Machine:
    """An engine with an image that nobody else has, under one name."""

    url: str
    name: str

    @asynccontextmanager
    async def images(self, silent_s: float = 30.0) -> AsyncIterator[DockerImages]:
        images = DockerImages(self.url, silent_s=silent_s)
        try:
            yield images
        finally:
            await images.close()


@pytest.fixture
def machine(docker_url: str) -> Machine:
    engine = Engine(Path(docker_url.removeprefix("unix://")))
    name = f"lab-{uuid.uuid4().hex[:8]}:1"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("noise")
        member.size = BIG_BYTES
        tar.addfile(member, io.BytesIO(os.urandom(BIG_BYTES)))
    content.seek(0)
    engine.import_image(content, name, "/bin")
    return Machine(docker_url, name)


async def push_and_forget(images: DockerImages, name: str, pushed: str, login: RegistryLogin | None = None) -> str:
    """Let the registry alone have an image; return its digest there."""
    image = await images.resolve(name)
    assert image is not None
    digest = await images.push(image.id, pushed, login, unheard)
    assert await images.resolve(pushed) is None, "a push keeps no name"
    assert await images.remove(name)
    assert await images.resolve(image.id) is None
    return digest


def test_a_pushed_image_comes_back_by_its_digest(machine: Machine, tmp_path: Path) -> None:
    async def scenario(host: str) -> None:
        async with machine.images() as images:
            pushed = f"{host}/team/job:7"
            digest = await push_and_forget(images, machine.name, pushed)
            lines: list[str] = []
            image = await images.pull(pushed, None, lines.append)
            assert (digest, (pushed,)) == (image.digest, image.names)
            assert image.size > BIG_BYTES / 2
            assert any("1 of 1 layers" in line and "MiB" in line and "100 %" in line for line in lines), lines
            assert image.id in {it.id for it in await images.list()}
            assert image.id not in await images.in_use()
            assert await images.remove(pushed)
            assert not await images.remove(pushed)

    with registry(tmp_path / "registry") as host:
        asyncio.run(scenario(host))


def test_a_registry_with_a_login_gives_and_takes_for_that_login_alone(machine: Machine, tmp_path: Path) -> None:
    async def scenario(host: str) -> None:
        async with machine.images() as images:
            image = await images.resolve(machine.name)
            assert image is not None
            pushed, wrong = f"{host}/team/job:1", RegistryLogin("127.0.0.1", USER, Secret("wrong"))
            for login in (None, wrong):
                with pytest.raises(Refused, match=r"credentials|unauthorized|authentication"):
                    await images.push(image.id, pushed, login, unheard)
            await push_and_forget(images, machine.name, pushed, LOGIN)
            for login in (None, wrong):
                with pytest.raises(Refused, match=r"credentials|unauthorized|authentication") as told:
                    await images.pull(pushed, login, unheard)
                assert PASSWORD not in str(told.value)
            assert (await images.pull(pushed, LOGIN, unheard)).names == (pushed,)
            await images.remove(pushed)

    with registry(tmp_path / "registry", login=True) as host:
        asyncio.run(scenario(host))


def test_a_registry_that_dies_in_the_middle_of_a_pull_is_unavailable(machine: Machine, tmp_path: Path) -> None:
    """And once it is back, the next try has the whole image."""

    async def scenario(host: str) -> None:
        async with machine.images() as images, proxied("127.0.0.1", int(host.rpartition(":")[2])) as proxy:
            await push_and_forget(images, machine.name, f"{host}/team/job:1")
            pulled = f"127.0.0.1:{proxy.port}/team/job:1"

            def dies(line: str) -> None:
                if "layers" in line:
                    proxy.fault = "refuse"
                    proxy.cut()

            with pytest.raises(Unavailable, match=r"EOF|reset|refused|broke off"):
                await images.pull(pulled, None, dies)
            proxy.fault = ""
            assert (await images.pull(pulled, None, unheard)).size > BIG_BYTES / 2
            await images.remove(pulled)

    with registry(tmp_path / "registry") as host:
        asyncio.run(scenario(host))


class BrokenRegistry(Registry):
    """One that answers, and never as a registry does."""

    body: bytes = b"<html>It works!</html>"

    async def answer(self, request: web.Request) -> web.Response:
        """Answer whatever is asked with the same page."""
        return web.Response(status=self.status, body=self.body, content_type="text/html")


@pytest.mark.parametrize("status", [200, 500, 502])
def test_a_registry_that_answers_garbage_is_unavailable(docker_url: str, status: int) -> None:
    async def scenario() -> None:
        async with BrokenRegistry(status=status).serving() as broken, Machine(docker_url, "").images() as images:
            with pytest.raises(Unavailable) as told:
                await images.pull(f"{broken.address}/team/job:1", None, unheard)
            assert not isinstance(told.value, Refused)

    asyncio.run(scenario())


class DrippingRegistry(Registry):
    """One that sends a layer byte by byte."""

    async def answer(self, request: web.Request) -> web.StreamResponse:  # type: ignore[override]
        """Drip where a layer is asked for."""
        blob = self.blobs.get(request.path.rpartition("/")[2], b"")
        if "/manifests/" in request.path or blob[:2] != b"\x1f\x8b":
            return await super().answer(request)
        response = web.StreamResponse(headers={"Content-Length": str(len(blob))})
        await response.prepare(request)
        for byte in blob:
            await response.write(bytes([byte]))
            if await self._is_over():
                break
        return response

    async def _is_over(self) -> bool:
        try:
            async with asyncio.timeout(0.2):
                await self.released.wait()
        except TimeoutError:
            return False
        return True


def test_a_pull_that_only_drips_ends_with_its_callers_patience(docker_url: str) -> None:
    """The engine gives it up as well: the next pull of the same name is not the old one."""

    async def scenario() -> None:
        async with DrippingRegistry().serving() as slow, Machine(docker_url, "").images() as images:
            name = f"{slow.address}/team/job:1"
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await images.pull(name, None, unheard)
                assert await images.resolve(name) is None

    asyncio.run(scenario())
