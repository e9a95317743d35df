"""
The connection to one Docker engine: opened at the first call, bounded in time, its errors in our own words.

Nothing here knows jobs or containers. The SDK is imported when the connection is opened, so that a box without Docker
never loads it. After an engine restart the next call connects again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, ParamSpec, TypeVar

import msgspec

from adapters.containers.podman import Component, why_refused
from runner.errors import OutOfSpace, RuntimeMissing, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
API_OLDEST = (1, 41)
"""What everything here is tested against; an engine that no longer speaks it is spoken to in the oldest it has."""
HTTP_NOT_FOUND = 404
WORDS_MAX_CHARACTERS = 1000
"""Of what an engine says: it repeats what it was told, which may be a job's command or an instruction of a megabyte."""
UNIX = "unix://"
_SDK_NO_CONNECTION = 900


class _Spoken(msgspec.Struct, frozen=True):
    newest: str = msgspec.field(name="ApiVersion")
    oldest: str = msgspec.field(name="MinAPIVersion", default="1.12")
    components: tuple[Component, ...] = msgspec.field(name="Components", default=())


class _Told(msgspec.Struct, frozen=True):
    message: str


class Sent(NamedTuple):
    """What a call has beside its query."""

    headers: Mapping[str, str]
    body: AsyncIterator[bytes] | None = None


class EngineRefusal(Unavailable):
    """The engine answered no. Where no caller knows the status better, it lacks what was asked of it."""

    def __init__(self, status: int, words: str, what: str) -> None:
        words = shortened(words, WORDS_MAX_CHARACTERS)
        super().__init__(f"Docker refused to {what}: {words}")
        self.status = status
        self.words = words

    def unless_absent(self) -> None:
        """Return where the engine knows no such container or image; raise itself otherwise."""
        if self.status != HTTP_NOT_FOUND:
            raise self


class Engine:
    """
    One engine by URL (``unix:///…`` or ``tcp://…``).

    Args:
        url: where it listens.
        answer_s: an ordinary call that takes longer counts as no answer.
    """

    def __init__(self, url: str, answer_s: float = 30.0) -> None:
        self.url = url
        self.answer_s = answer_s
        self._docker: Any = None
        # None until the engine was asked which versions it speaks.
        self._version: str | None = None
        # The newest that it speaks, where we speak an older one.
        self.newest = API_OLDEST

    @asynccontextmanager
    async def call(self, what: str, limit_s: float | None = None) -> AsyncIterator[Any]:
        """
        Give the SDK's client for one call, which ends within ``limit_s`` (absent: ``answer_s``) seconds.

        Raises:
            EngineRefusal: the engine answered with an error.
            OutOfSpace: the engine's disk is full.
            Unavailable: it did not answer, or not in time.
        """
        import aiodocker
        import aiohttp

        limit_s = self.answer_s if limit_s is None else limit_s
        try:
            async with asyncio.timeout(limit_s):
                yield await self._client()
        except aiodocker.DockerError as error:
            raise self.translated(error.status, str(error.message), what) from error
        except TimeoutError as error:
            raise Unavailable(f"Docker at {self.url} did not {what} within {limit_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"Docker at {self.url} did not {what}: {str(error) or type(error).__name__}") from error

    def translated(self, status: int, words: str, what: str) -> Unavailable | OutOfSpace:
        """Return what an error of the engine means, by its status and words."""
        words = words.strip()
        if status == _SDK_NO_CONNECTION:
            return Unavailable(f"Docker at {self.url} did not {what}: {words}")
        if "no space left on device" in words:
            return OutOfSpace(f"Docker could not {what}: {words}")
        return EngineRefusal(status, words, what)

    async def _client(self) -> Any:
        if self._docker is None:
            self._docker = _open(self.url)
        if self._version is None:
            self._version = await self._negotiate()
        return self._docker

    async def _negotiate(self) -> str:
        """Choose the version we know where the engine speaks it, since a newer one may mean other things."""
        docker = self._docker
        async with docker.session.get(f"{docker.docker_host}/version") as answer:
            spoken = _spoken(await answer.read(), self.url)
        if refused := why_refused(spoken.components, self.url):
            raise RuntimeMissing(refused)
        newest, oldest = _numbers(spoken.newest), _numbers(spoken.oldest)
        if newest < API_OLDEST:
            raise RuntimeMissing(
                f"Docker at {self.url} speaks API {spoken.newest}; install Engine 20.10 or newer (API 1.41)"
            )
        self.newest = newest
        chosen = max(API_OLDEST, oldest)
        docker.api_version = f"v{chosen[0]}.{chosen[1]}"
        return str(docker.api_version)

    @asynccontextmanager
    async def send(
        self,
        docker: Any,
        method: str,
        path: str,
        sent: Sent | None = None,
        /,
        **query: str | int,
    ) -> AsyncIterator[Any]:
        """
        Call the API where the SDK hides what it answers; without a time limit of its own.

        Raises:
            EngineRefusal: the engine answered with an error.
        """
        async with self._sent(docker, method, f"{docker.api_version}/{path}", query, sent) as answer:
            yield answer

    @asynccontextmanager
    async def ask(self, docker: Any, path: str) -> AsyncIterator[Any]:
        """
        Get something in the newest version that the engine speaks.

        Raises:
            EngineRefusal: the engine answered with an error.
        """
        async with self._sent(docker, "GET", path, {}) as answer:
            yield answer

    @asynccontextmanager
    async def _sent(
        self, docker: Any, method: str, path: str, query: Mapping[str, str | int], sent: Sent | None = None
    ) -> AsyncIterator[Any]:
        import aiohttp

        url, limits = f"{docker.docker_host}/{path}", aiohttp.ClientTimeout()
        headers, data = (sent.headers, sent.body) if sent else (None, None)
        request = docker.session.request(method, url, params=query, headers=headers, data=data, timeout=limits)
        async with request as answer:
            if not answer.ok:
                raise EngineRefusal(answer.status, _words(await answer.read(), answer.reason), f"{method} {path}")
            yield answer

    async def close(self) -> None:
        """Close all connections."""
        docker, self._docker, self._version = self._docker, None, None
        if docker is not None:
            await docker.close()
            await docker.connector.close()


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await what must not be left half done: a cancellation waits for its end, which the work itself bounds."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A thread cannot be called back: a cancellation waits for its end, or it would go on beside the next call's."""
    return await to_its_end(asyncio.to_thread(function, *args, **kwargs))


def shortened(text: str, characters: int) -> str:
    """Return the beginning and the end of a text that is longer than so many characters."""
    half = characters // 2
    return text if len(text) <= characters else f"{text[:half]} … {text[-half:]}"


def decoded(answer: object, kind: type[T], url: str) -> T:
    """
    Check what an engine told against what we read of it.

    Raises:
        Unavailable: it is something else.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise Unavailable(f"what listens at {url} does not answer as a Docker engine does: {error}") from error


def _words(body: bytes, reason: str) -> str:
    try:
        return msgspec.json.decode(body, type=_Told).message
    except msgspec.MsgspecError:
        return reason


def _open(url: str) -> Any:
    import aiodocker
    import aiohttp

    # A running container keeps two connections busy, and the SDK's own pool ends at a hundred.
    if url.startswith(UNIX):
        connector: aiohttp.BaseConnector = aiohttp.UnixConnector(url.removeprefix(UNIX), limit=0)
        return aiodocker.Docker("unix://localhost", connector=connector)
    address = url.replace("tcp://", "http://", 1)
    return aiodocker.Docker(address, connector=aiohttp.TCPConnector(limit=0))


def _spoken(answer: bytes, url: str) -> _Spoken:
    try:
        return msgspec.json.decode(answer, type=_Spoken)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"what listens at {url} does not answer as a Docker engine does: {error}") from error


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)
