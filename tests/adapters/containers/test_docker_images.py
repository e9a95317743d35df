"""Images of a real engine, pulled from a registry of a few lines that can also say no, or nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from adapters.containers.docker_engine import Engine, EngineRefusal
from adapters.containers.docker_images import DockerImages, is_no, is_silence
from adapters.containers.docker_progress import Progress
from adapters.containers.docker_stream import Amounts, EngineEvent
from runner.errors import Refused, Unavailable
from runner.ports import Images

docker = pytest.mark.docker
SILENT = 503
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def unheard(line: str) -> None:
    """Take no notice of a pull's progress."""


async def digest_of(images: Images, name: str) -> str | None:
    found = await images.resolve(name)
    return found.digest if found else None


def layer() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = 5
        tar.addfile(member, io.BytesIO(uuid.uuid4().bytes[:5]))
    return content.getvalue()


@dataclass
class Registry:
    """One image of one layer, under any name; a ``status`` other than 200 answers every request for a manifest."""

    status: int = 200
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifest: bytes = b""
    address: str = ""
    # Set when a silent registry may end.
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        tar = layer()
        rootfs = {"type": "layers", "diff_ids": [digest(tar)]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
        packed = gzip.compress(tar)
        self.blobs = {digest(blob): blob for blob in (config, packed)}
        described = {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(config),
            "digest": digest(config),
        }
        layers = [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(packed),
                "digest": digest(packed),
            }
        ]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        self.manifest = json.dumps(manifest).encode()

    async def answer(self, request: web.Request) -> web.Response:
        """Serve the part of the distribution protocol that a pull uses."""
        version = {"Docker-Distribution-API-Version": "registry/2.0"}
        wanted = request.path.rpartition("/")[2]
        if "/manifests/" not in request.path:
            return web.Response(body=self.blobs.get(wanted, b"{}"), headers=version)
        if self.status == SILENT:
            await self.released.wait()
        if self.status != 200:
            code = {403: "DENIED", 404: "MANIFEST_UNKNOWN"}.get(self.status, "UNKNOWN")
            told = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
            return web.json_response(told, status=self.status, headers=version)
        headers = {**version, "Docker-Content-Digest": digest(self.manifest)}
        return web.Response(body=self.manifest, content_type=MANIFEST, headers=headers)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Registry]:
        """Listen on loopback within the block."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.released.set()
            await runner.cleanup()


@asynccontextmanager
async def images_of(url: str, silent_s: float = 30.0) -> AsyncIterator[Images]:
    images = DockerImages(url, silent_s=silent_s)
    try:
        yield images
    finally:
        await images.close()


async def forget(url: str, name: str) -> None:
    engine = Engine(url)
    async with engine.call("delete the image") as client:
        await client.images.delete(name, force=True)
    await engine.close()


@docker
def test_a_pull_returns_the_registrys_digest_and_tells_of_itself(docker_url: str) -> None:
    async def scenario() -> None:
        async with Registry().serving() as registry, images_of(docker_url) as images:
            name = f"{registry.address}/team/job:1"
            assert await images.resolve(name) is None
            told: list[str] = []
            try:
                assert digest(registry.manifest) == (await images.pull(name, None, told.append)).digest
                assert digest(registry.manifest) == await digest_of(images, name)
                assert digest(registry.manifest) == await digest_of(images, f"{name[:-2]}@{digest(registry.manifest)}")
                assert any("Downloaded newer image" in line for line in told)
                assert all(line.startswith(f"image {name}: ") for line in told)
            finally:
                await forget(docker_url, name)

    asyncio.run(scenario())


@docker
def test_an_image_that_no_registry_gave_is_named_by_its_id(docker_url: str, busybox_image: str) -> None:
    async def scenario() -> None:
        async with images_of(docker_url) as images:
            found = await images.resolve(busybox_image)
            assert found is not None
            assert found.id.startswith("sha256:")
            assert found.id == found.digest == await digest_of(images, found.id)

    asyncio.run(scenario())


@docker
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(404, Refused, "manifest"), (403, Refused, "denied"), (500, Unavailable, "500|unknown")],
)
def test_a_registry_that_says_no_is_told_from_one_that_is_ill(
    docker_url: str, status: int, error: type[Exception], words: str
) -> None:
    async def scenario() -> None:
        async with Registry(status=status).serving() as registry, images_of(docker_url) as images:
            with pytest.raises(error, match=words):
                await images.pull(f"{registry.address}/team/job:1", None, unheard)

    asyncio.run(scenario())


@docker
def test_a_registry_that_is_not_there_is_unavailable(docker_url: str) -> None:
    async def scenario() -> None:
        async with Registry().serving() as registry:
            gone = registry.address
        async with images_of(docker_url) as images:
            with pytest.raises(Unavailable, match=rf"pull image {gone}/team/job:1: .* cannot be reached: .*refused$"):
                await images.pull(f"{gone}/team/job:1", None, unheard)

    asyncio.run(scenario())


@docker
def test_a_registry_that_moves_nothing_is_unavailable(docker_url: str) -> None:
    async def scenario() -> None:
        async with Registry(status=SILENT).serving() as registry, images_of(docker_url, silent_s=0.3) as images:
            with pytest.raises(Unavailable, match=r"within 0\.3 s"):
                await images.pull(f"{registry.address}/team/job:1", None, unheard)

    asyncio.run(scenario())


@docker
def test_a_name_that_is_none_is_refused(docker_url: str) -> None:
    async def scenario() -> None:
        async with images_of(docker_url) as images:
            with pytest.raises(Refused, match="invalid reference"):
                await images.pull("Not A Name", None, unheard)

    asyncio.run(scenario())


@docker
@pytest.mark.parametrize("name", ["UPPER/Case:::", "a:b:c", "Not A Name", "../version", "x/../../info", "", "a?all=1"])
def test_a_name_that_is_none_is_not_there_either(docker_url: str, name: str) -> None:
    """It is asked about before it is pulled; and names come from jobs, which talk to no other part of the engine."""

    async def scenario() -> None:
        async with images_of(docker_url) as images:
            with pytest.raises(Refused, match=r"name an image|invalid reference"):
                await images.resolve(name)

    asyncio.run(scenario())


def test_progress_says_layers_bytes_and_percent() -> None:
    """A large image brings thousands of events, each line stands for all before it."""
    pull = Progress("a:1")
    events = [EngineEvent("Pulling fs layer", f"layer{half}") for half in (1, 2)]
    events += [
        EngineEvent("Downloading", f"layer{half}", amounts=Amounts(done << 20, 500 << 20))
        for half in (1, 2)
        for done in range(501)
    ]
    events += [EngineEvent("Pull complete", "layer1"), EngineEvent("Digest: sha256:abc"), EngineEvent("nonsense")]
    lines = [line for event in events if (line := pull.line(event))]
    assert len(lines) < 210
    assert lines[:2] == ["image a:1: 0 of 1 layers", "image a:1: 0 of 2 layers"]
    assert lines[-2:] == ["image a:1: 1 of 2 layers, 1000 MiB of 1000 MiB (100 %)", "image a:1: Digest: sha256:abc"]


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (500, "unauthorized: authentication required", "no"),
        (500, 'Head "https://r/v2/lab/eof-timeout/manifests/1": no basic auth credentials', "no"),
        (404, "manifest for r/lab/eof-timeout:1 not found: manifest unknown: manifest unknown", "no"),
        (500, "no matching manifest for linux/amd64 in the manifest list entries", "no"),
        (500, 'Get "https://r/v2/": dial tcp: lookup r: no such host', "silence"),
        (500, 'Get "https://r/v2/": x509: certificate signed by unknown authority', "trouble"),
        (500, 'Get "https://r/v2/": http: server gave HTTP response to HTTPS client', "trouble"),
        (500, 'Get "https://r/v2/": net/http: TLS handshake timeout', "silence"),
        (429, "toomanyrequests: You have reached your pull rate limit; access is denied for now", "trouble"),
        (500, "unexpected EOF", "silence"),
        (500, "received unexpected HTTP status: 502 Bad Gateway", "trouble"),
    ],
)
def test_a_no_is_known_by_the_engines_words_whatever_the_image_is_called(status: int, words: str, kind: str) -> None:
    """Of the kinds of trouble that no test brings about."""
    refusal, name = EngineRefusal(status, words, "pull"), "r.example/lab/eof-timeout:1"
    assert (is_no(refusal, name), is_silence(refusal, name)) == (kind == "no", kind == "silence")
