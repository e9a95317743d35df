"""
The ``Images`` port on a Docker engine: what is there, and what a registry gives or takes.

An image's digest is the registry's where the name came from one, else the image's own id; both name content.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from adapters.containers.docker_build import Networks, build
from adapters.containers.docker_engine import Engine, EngineRefusal, decoded, to_its_end
from adapters.containers.docker_progress import Progress
from adapters.containers.docker_stream import LongCall, events, login_header
from adapters.files import explained
from runner.credential import RegistryLogin
from runner.errors import Refused, Unavailable
from runner.image_name import repository_of, whole_name
from runner.ports import BuildOrder, LocalImage

SILENT_S = 300.0
"""A registry that moves nothing for so long does not answer."""
REMOVE_S = 300.0
HTTP_CONFLICT = 409
_MALFORMED = 400
_NO = (_MALFORMED, 401, 403, 404)
_NAME = re.compile(r"[\w./:@+-]+", re.ASCII)
"""What may stand in the path of a request; the engine knows the rest of the grammar."""
# A pull tells most failures as text within a stream that began well, or as status 500.
_WORDS_OF_NO = (
    "manifest unknown",
    "not found",
    "denied",
    "unauthorized",
    "forbidden",
    "no basic auth credentials",
    "incorrect username or password",
    "invalid reference",
    "no matching manifest",
)
_WORDS_OF_SILENCE = ("timeout", "dial tcp", "connection re", "no such host", "eof")
_WORDS_OF_TROUBLE = ("toomanyrequests", "x509", "tls:", *_WORDS_OF_SILENCE)
_NAMELESS = "<none>"


class _Config(msgspec.Struct, frozen=True):
    on_build: list[str] | None = msgspec.field(name="OnBuild", default=None)


class _Image(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="Id")
    names: list[str] | None = msgspec.field(name="RepoTags", default=None)
    digests: list[str] | None = msgspec.field(name="RepoDigests", default=None)
    size: int = msgspec.field(name="Size", default=0)
    config: _Config | None = msgspec.field(name="Config", default=None)


class _Container(msgspec.Struct, frozen=True):
    image_id: str = msgspec.field(name="ImageID")


class _Root(msgspec.Struct, frozen=True):
    path: str = msgspec.field(name="DockerRootDir", default="")


class DockerImages:
    """
    Images of one engine; any number of calls at once.

    Args:
        url: where the engine listens.
        answer_s: how long it may take to answer an ordinary call.
        silent_s: how long a pull may show no progress.
        networks: what image builds may be given; None: nothing.
    """

    def __init__(
        self, url: str, *, answer_s: float = 30.0, silent_s: float = SILENT_S, networks: Networks | None = None
    ) -> None:
        self._engine = Engine(url, answer_s)
        self._silent_s = silent_s
        self._networks = networks
        # Where the engine keeps its images; None until it was asked.
        self._root: str | None = None

    async def resolve(self, name: str) -> LocalImage | None:
        if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise Refused(f"{name!r} cannot name an image: write it as [HOST/]PATH[:TAG][@DIGEST]")
        try:
            async with self._engine.call(f"describe image {name}") as docker:
                described = await docker.images.inspect(name)
        except EngineRefusal as refusal:
            if refusal.status == _MALFORMED:
                raise Refused(f"image {name} cannot be had: {refusal.words}") from refusal
            refusal.unless_absent()
            return None
        return _local(decoded(described, _Image, self._engine.url), name)

    async def pull(self, name: str, login: RegistryLogin | None, progress: Callable[[str], None]) -> LocalImage:
        await self._follow(self._pull_of(name, login), name, progress)
        image = await self.resolve(name)
        if image is None:
            raise Unavailable(f"Docker at {self._engine.url} broke off the pull of {name}")
        return image

    async def list(self) -> tuple[LocalImage, ...]:
        answer = await self._get("list images", "images/json")
        return tuple(_local(it, (it.names or [it.id])[0]) for it in decoded(answer, list[_Image], self._engine.url))

    async def in_use(self) -> frozenset[str]:
        answer = await self._get("list containers", "containers/json", all=1)
        return frozenset(it.image_id for it in decoded(answer, list[_Container], self._engine.url))

    async def remove(self, reference: str) -> bool:
        try:
            async with self._engine.call(f"remove image {reference}", REMOVE_S) as docker:
                await docker.images.delete(reference)
        except EngineRefusal as refusal:
            if refusal.status != HTTP_CONFLICT:
                refusal.unless_absent()
            return False
        return True

    async def free_bytes(self) -> int | None:
        if self._root is None:
            told = decoded(await self._get("describe itself", "info"), _Root, self._engine.url)
            self._root = told.path if self._engine.url.startswith("unix://") else ""
        return await asyncio.to_thread(_free_bytes, self._root) if self._root else None

    async def build(self, order: BuildOrder, progress: Callable[[str], None]) -> LocalImage:
        await build(self._engine, order, self._networks, progress)
        image = await self.resolve(order.name)
        if image is None:
            raise Unavailable(f"Docker at {self._engine.url} broke off the build of {order.name}")
        return image

    async def drop_remains(self, label: str) -> None:
        filters = json.dumps({"dangling": ["true"], "label": [label]})
        async with (
            self._engine.call("remove what builds left", REMOVE_S) as docker,
            self._engine.send(docker, "POST", "images/prune", filters=filters),
        ):
            pass

    async def push(self, image_id: str, name: str, login: RegistryLogin | None, progress: Callable[[str], None]) -> str:
        call = LongCall(
            what=f"push image {name}",
            path=f"images/{repository_of(name)}/push",
            silent_s=self._silent_s,
            begin_s=self._silent_s,
            query={"tag": whole_name(name).rpartition(":")[2]},
            headers=dict(login_header(login)),
        )
        async with self._named(image_id, whole_name(name)):
            return await self._follow(call, name, progress)

    async def close(self) -> None:
        await self._engine.close()

    @asynccontextmanager
    async def _named(self, image_id: str, name: str) -> AsyncIterator[None]:
        """Let an image have a name for as long as it takes; what had it before has it again."""
        before = await self.resolve(name)
        await self._name(image_id, name)
        try:
            yield
        finally:
            if before is None:
                await to_its_end(self.remove(name))
            else:
                await to_its_end(self._name(before.id, name))

    async def _name(self, image_id: str, name: str) -> None:
        async with self._engine.call(f"name image {name}") as docker:
            await docker.images.tag(image_id, repository_of(name), tag=name.rpartition(":")[2])

    def _pull_of(self, name: str, login: RegistryLogin | None) -> LongCall:
        last = name.rpartition("/")[2]
        query: dict[str, str | int] = {"fromImage": name}
        if ":" not in last and "@" not in last:
            query["tag"] = "latest"
        return LongCall(
            what=f"pull image {name}",
            path="images/create",
            silent_s=self._silent_s,
            begin_s=self._silent_s,
            query=query,
            headers=dict(login_header(login)),
        )

    async def _follow(self, call: LongCall, name: str, progress: Callable[[str], None]) -> str:
        """Tell of a pull or push to its end; return the digest that it told, "" for none."""
        seen, digest = Progress(name), ""
        try:
            async with aclosing(events(self._engine, call)) as told:
                async for event in told:
                    digest = str((event.aux or {}).get("Digest", digest))
                    if line := seen.line(event):
                        progress(line)
        except EngineRefusal as refusal:
            if is_no(refusal, name):
                raise Refused(f"image {name} cannot be had: {refusal.words}") from refusal
            if is_silence(refusal, name):
                text = f"Docker could not {call.what}: its registry cannot be reached: {refusal.words}"
                raise Unavailable(text) from refusal
            raise
        return digest

    async def _get(self, what: str, path: str, **query: str | int) -> Any:
        async with self._engine.call(what) as docker, self._engine.send(docker, "GET", path, **query) as answer:
            return await answer.json(content_type=None)


def is_no(refusal: EngineRefusal, name: str) -> bool:
    """Tell a registry's no from one that did not answer: the engine says both in words of its own, beside the name."""
    if _says(refusal, name, _WORDS_OF_TROUBLE):
        return False
    return refusal.status in _NO or _says(refusal, name, _WORDS_OF_NO)


def is_silence(refusal: EngineRefusal, name: str) -> bool:
    """Tell a registry that nobody reached from one that said something, be it of use or not."""
    return _says(refusal, name, _WORDS_OF_SILENCE)


def _says(refusal: EngineRefusal, name: str, any_of: tuple[str, ...]) -> bool:
    words = refusal.words.lower().replace(repository_of(name).partition("/")[2].lower(), "")
    return any(word in words for word in any_of)


def _local(image: _Image, asked: str) -> LocalImage:
    names = tuple(sorted(name for name in image.names or () if _NAMELESS not in name))
    known = dict(digest.split("@", 1) for digest in image.digests or () if _NAMELESS not in digest)
    by_repository = {repository_of(name): digest for name, digest in known.items()}
    digest = by_repository.get(repository_of(asked), image.id)
    on_build = (image.config.on_build if image.config else None) or ()
    return LocalImage(image.id, digest, names, image.size, tuple(on_build))


def _free_bytes(path: str) -> int | None:
    if not os.path.isdir(path):
        return None
    with explained("measuring the disk of images", path):
        disk = os.statvfs(path)
        return disk.f_bavail * disk.f_frsize
