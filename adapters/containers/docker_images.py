"""
The ``Images`` port on a Docker engine: what is there, and what a registry gives.

An image's digest is the registry's where the name came from one, else the image's own id; both name content.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from adapters.containers.docker_engine import Engine, EngineRefusal, decoded
from adapters.containers.docker_progress import PullProgress
from runner.errors import Refused, Unavailable

SILENT_S = 300.0
"""A registry that moves nothing for so long does not answer."""
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
    "invalid reference",
    "no matching manifest",
)


class _Image(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="Id")
    digests: list[str] | None = msgspec.field(name="RepoDigests", default=None)


class DockerImages:
    """
    Images of one engine; any number of calls at once.

    Args:
        url: where the engine listens.
        answer_s: how long it may take to answer an ordinary call.
        silent_s: how long a pull may show no progress.
    """

    def __init__(self, url: str, *, answer_s: float = 30.0, silent_s: float = SILENT_S) -> None:
        self._engine = Engine(url, answer_s)
        self._silent_s = silent_s

    async def resolve(self, name: str) -> str | None:
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
        image = decoded(described, _Image, self._engine.url)
        return _digest_of(name, image)

    async def pull(self, name: str, progress: Callable[[str], None]) -> str:
        seen = PullProgress(name)
        try:
            async with aclosing(self._events(name)) as events:
                async for event in events:
                    if line := seen.line(event):
                        progress(line)
        except EngineRefusal as refusal:
            if _is_no(refusal):
                raise Refused(f"image {name} cannot be had: {refusal.words}") from refusal
            raise
        digest = await self.resolve(name)
        if digest is None:
            raise Unavailable(f"Docker at {self._engine.url} broke off the pull of {name}")
        return digest

    async def close(self) -> None:
        await self._engine.close()

    async def _events(self, name: str) -> AsyncGenerator[Any, None]:
        async with self._engine.call(f"pull image {name}") as docker:
            events = docker.images.pull(name, stream=True)
        try:
            while True:
                async with self._engine.call(f"go on with the pull of image {name}", self._silent_s):
                    event = await anext(events, None)
                if event is None:
                    return
                yield event
        finally:
            await events.aclose()


def _is_no(refusal: EngineRefusal) -> bool:
    return refusal.status in _NO or any(word in refusal.words.lower() for word in _WORDS_OF_NO)


def _digest_of(name: str, image: _Image) -> str:
    repository = name.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    known = dict(digest.split("@", 1) for digest in image.digests or [])
    return known.get(repository, image.id)
