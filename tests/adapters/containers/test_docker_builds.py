"""Image builds of a real engine: sealed as far as its builder can be, and what goes wrong told in its words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.containers.docker_engine import Engine
from adapters.containers.docker_images import DockerImages
from adapters.workspaces import FolderWorkspaces
from runner.dockerfile import LABEL, read_dockerfile
from runner.errors import Refused, RuntimeMissing
from runner.job import Key
from runner.ports import BuildOrder, LocalImage

pytestmark = pytest.mark.docker
NAME = "runner-build:test"


class Site:
    """A workspace with a context, and an engine to build it on."""

    def __init__(self, url: str, base: str, directory: Path) -> None:
        self.url, self.base, self.root = url, base, directory / "workspaces"
        self.images = DockerImages(url)
        self.workspaces = FolderWorkspaces(str(self.root))
        self.lines: list[str] = []

    async def build(self, text: str, *, network: str = "none", **files: str) -> LocalImage:
        workspace = await self.workspaces.create(Key("job"), 1)
        source = Path(workspace) / "src"
        source.mkdir()
        for name, content in files.items():
            (source / name).write_text(content)
        (source / "Dockerfile").write_text(text)
        (source / "link").symlink_to("/etc/passwd")
        recipe = read_dockerfile(await self.workspaces.read_text(workspace, "src/Dockerfile"))
        base = await self.images.resolve(self.base)
        assert base is not None
        written = recipe.written(dict.fromkeys(recipe.images, base.id), {LABEL: "test"})
        context = await self.workspaces.pack_context(
            workspace, "src", dockerfile=("Dockerfile", written), limit_bytes=1 << 20
        )
        assert context.left_out == 1
        order = BuildOrder(context.local, "Dockerfile", NAME, network=network, memory=64 << 20, cpus=0.5)
        return await self.images.build(order, self.lines.append)

    async def config(self, image: LocalImage) -> dict[str, object]:
        engine = Engine(self.url)
        async with engine.call("describe") as docker:
            described = await docker.images.inspect(image.id)
        await engine.close()
        found: dict[str, object] = described["Config"]
        return found


@pytest.fixture
def site(docker_url: str, busybox_image: str, tmp_path: Path) -> Site:
    return Site(docker_url, busybox_image, tmp_path)


@asynccontextmanager
async def opened(site: Site) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await site.images.remove(NAME)
        await site.images.drop_remains(f"{LABEL}=test")
        await site.images.close()
        await site.workspaces.close()


def test_a_build_is_labelled_limited_and_without_a_network(site: Site) -> None:
    """Its last word is an image that runs what was copied into it; no link of the context leads out."""
    text = (
        "FROM base AS first\n"
        "COPY . /src/\n"
        "RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null >/limit || true\n"
        "RUN ls /sys/class/net >/net; ls /dev >/devices; test ! -e /src/link\n"
        "FROM base\n"
        "COPY --from=first /limit /net /devices /src/hello /\n"
        "RUN echo limit=$(cat /limit) net=$(cat /net) hello=$(cat /hello) nvidia=$(grep -c nvidia /devices)\n"
    )

    async def scenario() -> None:
        async with opened(site):
            image = await site.build(text, hello="world")
            (told,) = [line for line in site.lines if line.startswith("limit=")]
            assert told == f"limit={64 << 20} net=lo hello=world nvidia=0"
            assert image.names == (NAME,)
            assert (await site.config(image))["Labels"] == {LABEL: "test"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "FROM base\nRUN echo before; echo reason >&2; exit 3\n",
            r"code: 3; it said last: .*(before \| reason|reason \| before)",
        ),
        ("FROM base\nCOPY nothing /\n", "nothing"),
        ("FROM base\nCOPY ../../etc/passwd /\n", "passwd"),
        ('FROM base\nUSER "\nRUN x\n', "cannot be built"),
        ("FROM base\nRUN head -c 200000000 /dev/zero | tail\n", "137|code: 1"),
    ],
)
def test_a_dockerfile_that_cannot_be_built_is_told_with_its_last_lines(site: Site, text: str, words: str) -> None:
    async def scenario() -> None:
        async with opened(site):
            before = await site.images.list()
            with pytest.raises(Refused, match=words):
                await site.build(text)
            assert await site.images.resolve(NAME) is None
            await site.images.drop_remains(f"{LABEL}=other")
            await site.images.drop_remains(f"{LABEL}=test")
            assert await site.images.list() == before

    asyncio.run(scenario())


def test_an_instruction_of_any_length_is_told_in_a_sentence(site: Site) -> None:
    """It stands in the journal, in the receipt, and in the job's log."""

    async def scenario() -> None:
        async with opened(site):
            with pytest.raises(Refused, match="non-zero code: 3") as told:
                await site.build(f"FROM base\nRUN printf %060000d 0; : {'x' * 60_000}; exit 3\n")
            assert len(str(told.value)) < 3000

    asyncio.run(scenario())


def test_a_network_that_the_box_does_not_have_is_its_own_fault(site: Site) -> None:
    async def scenario() -> None:
        async with opened(site):
            with pytest.raises(RuntimeMissing, match="internet"):
                await site.build("FROM base\n", network="internet")

    asyncio.run(scenario())


class NetworksSeen:
    """Networks of a box, all of which the engine calls ``none``."""

    def __init__(self) -> None:
        self.users: dict[object, str] = {}
        self.held = asyncio.Event()

    def name_of(self, network: str) -> str:
        return "none"

    async def prepare(self, network: str, user: object) -> None:
        self.users[user] = network

    async def let_go(self, user: object, network: str) -> None:
        assert self.users.pop(user) == network

    async def hold(self, network: str) -> None:
        assert [*self.users.values()] == [network]
        self.held.set()


def test_a_builds_network_is_filtered_before_its_first_step_and_held_while_they_run(site: Site) -> None:
    async def scenario() -> None:
        seen = NetworksSeen()
        await site.images.close()
        site.images = DockerImages(site.url, networks=seen)
        async with opened(site):
            await site.build("FROM base\nRUN sleep 0.2\n", network="internet")
            assert seen.held.is_set()
            assert seen.users == {}

    asyncio.run(scenario())


def test_a_build_that_is_broken_off_leaves_no_step_behind(site: Site) -> None:
    """Neither a container that runs on, nor one that stopped."""

    async def containers() -> list[object]:
        engine = Engine(site.url)
        filters = json.dumps({"label": [f"{LABEL}=test"]})
        async with (
            engine.call("list") as docker,
            engine.send(docker, "GET", "containers/json", all=1, filters=filters) as answer,
        ):
            found: list[object] = await answer.json()
        await engine.close()
        return found

    async def scenario() -> None:
        async with opened(site):
            building = asyncio.ensure_future(site.build("FROM base\nRUN sleep 1000\n"))
            while not await containers():
                await asyncio.sleep(0.02)
            building.cancel()
            await asyncio.wait({building})
            async with asyncio.timeout(20):
                while await containers():
                    await asyncio.sleep(0.02)

    asyncio.run(scenario())
