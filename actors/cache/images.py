"""
The images of jobs: pulled where they are not here, held while a job is staged; errors say that it was the image.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec

from actors.cache.collection import Collection
from actors.cache.fetching import Fetcher
from actors.cache.flights import Flights, Hands, Tell, Work
from runner.calls import Caller
from runner.credential import RegistryLogin, login_for
from runner.errors import Refused, RunnerError, Unavailable
from runner.image_name import registry_of, whole_name
from runner.job import Key
from runner.ports import Images, LocalImage, World
from runner.records import ClaimedJob
from runner.trail import Trail
from runner.units import format_duration, format_size

if TYPE_CHECKING:
    from runner.config import Config

logger = logging.getLogger(__name__)

_WORDS_OF_LOGIN = ("denied", "unauthorized", "authentication", "credentials", "password")


class ImageRefused(Refused):
    """There is no such image, or this box may not have it."""


class ImageUnavailable(Unavailable):
    """The registry or the runtime did not answer."""


class ImageStore:
    """Resolves what jobs name, and pulls it."""

    def __init__(self, config: Config, world: World, caller: Caller, trail: Trail, hands: Hands) -> None:
        """Begin with nothing held."""
        self._config, self._world, self._caller, self._trail = config, world, caller, trail
        # By claim of a job that is being staged, the ids that it needs; collection leaves those alone.
        self._held: dict[tuple[Key, float], set[str]] = {}
        held = lambda: frozenset(image_id for ids in self._held.values() for image_id in ids)  # noqa: E731 - one view
        self.collection = Collection(config, world, trail, held)
        self._fetcher = Fetcher(config, caller, self.collection.make_room)
        self._flights = Flights(hands, trail)
        # By the whole name that images are pushed under.
        self._pushes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def obtain(self, claim: ClaimedJob, name: str) -> LocalImage:
        """
        Return an image of a job as its queue's file says (``pull``), and hold it until ``let_go``.

        Raises:
            ImageRefused, ImageUnavailable: it cannot be had.
        """
        with _blamed_on_the_image():
            return await self._held_for(claim, await self._obtain(claim, name))

    async def fill(self, claim: ClaimedJob, name: str, work: Work, *, begins: str) -> LocalImage:
        """
        Return what is built under a name that says its content, and hold it until ``let_go``.

        Raises:
            RunnerError: it cannot be built.
        """
        image = await self._resolve(self._images(), name)
        if image is None:
            image = await self._flights.join(name, claim, work, begins=begins, every_line=True)
        else:
            await self._trail.say(claim, f"{begins}: the same was built before")
        return await self._held_for(claim, image)

    async def push(self, claim: ClaimedJob, image: LocalImage, name: str) -> LocalImage:
        """
        Store an image at a registry, and return it with its digest there.

        Raises:
            ImageRefused, ImageUnavailable: the registry does not take it.
        """
        work = lambda tell: self._push(self._images(), image, name, tell)  # noqa: E731 - one call, named
        with _blamed_on_the_image():
            return await self._flights.join(f"{image.id} to {name}", claim, work, begins=f"pushing image {name}")

    async def _held_for(self, claim: ClaimedJob, image: LocalImage) -> LocalImage:
        self._held.setdefault((claim.key, claim.claimed_at), set()).add(image.id)
        await self._remembered(lambda: self._world.image_records.use(image.id, self._world.now()))
        return image

    def let_go(self, claim: ClaimedJob) -> None:
        """Hold nothing more for a job by this claim; by a later one, even of the same attempt, it is staged anew."""
        self._held.pop((claim.key, claim.claimed_at), None)

    async def _obtain(self, claim: ClaimedJob, name: str) -> LocalImage:
        images, policy = self._images(), claim.rights.pull
        if policy != "always" and (found := await self._resolve(images, name)) is not None:
            return found
        if policy == "never":
            raise Refused(f'image {name} is not on this box, and {claim.source} says pull = "never": pull it by hand')
        began_at = self._world.up_s()
        work = lambda tell: self.bring(name, lambda images: self._pull_once(images, name, tell))  # noqa: E731 - one call, named
        image = await self._flights.join(whole_name(name), claim, work, begins=f"pulling image {name}")
        seconds = self._world.up_s() - began_at
        told = f"image {name}: {image.digest}, {format_size(image.size)}, after {format_duration(round(seconds, 1))}"
        await self._trail.say(claim, told)
        return image

    def _images(self) -> Images:
        if self._world.images is None:
            raise Unavailable("this box has no container runtime; `runner doctor` says why")
        return self._world.images

    async def _resolve(self, images: Images, name: str) -> LocalImage | None:
        return await self._fetcher.fetch(lambda: images.resolve(name), f"image {name}")

    # Bringing one

    async def bring(
        self,
        name: str,
        call: Callable[[Images], Awaitable[LocalImage]],
        *,
        late: type[RunnerError] = Unavailable,
    ) -> LocalImage:
        """
        Pull or build within the time limit, and remember as ours what came of it; ``late`` says whose fault it is where
        that takes too long.

        Raises:
            RunnerError: it failed.
        """
        images, records, whole = self._images(), self._world.image_records, whole_name(name)
        async with self._begun(images, name) as before:
            image = await self._within_limit(lambda: call(images), name, late)
            if before is None or before.id != image.id:
                await self._remembered(lambda: records.complete(whole, image, self._world.now()))
        return image

    @asynccontextmanager
    async def _begun(self, images: Images, name: str) -> AsyncIterator[LocalImage | None]:
        """
        Remember what a name means, which is yielded, for as long as it may come to mean something else: where the
        runner is killed in between, its next life knows what is ours.
        """
        records, whole = self._world.image_records, whole_name(name)
        before = await self._resolve(images, name)
        await self._remembered(lambda: records.begin(whole, before.id if before else ""))
        try:
            yield before
        except RunnerError:
            await self._remembered(lambda: records.abandon(whole))
            raise
        await self._remembered(lambda: records.abandon(whole))

    async def _within_limit(
        self, call: Callable[[], Awaitable[LocalImage]], name: str, late: type[RunnerError] = Unavailable
    ) -> LocalImage:
        """Try for some minutes, and never longer than ``pull_timeout``."""
        limit_s = float(self._config.pull_timeout)
        try:
            async with asyncio.timeout(limit_s):
                return await self._fetcher.fetch(call, f"image {name}", within_s=limit_s)
        except TimeoutError as error:
            raise late(f"image {name}: not done within pull_timeout = {format_duration(limit_s)}") from error

    async def _pull_once(self, images: Images, name: str, tell: Tell) -> LocalImage:
        file, login = await self._login(name)
        with _logged_in(name, file):
            return await images.pull(name, login, tell)

    async def _push(self, images: Images, image: LocalImage, name: str, tell: Tell) -> LocalImage:
        """
        Push within the time limit. The engine has the name meanwhile: one image at a time, and it keeps it where the
        runner is killed.
        """
        async with self._pushes.setdefault(whole_name(name), asyncio.Lock()), self._begun(images, name):
            return await self._within_limit(lambda: self._push_once(images, image, name, tell), name)

    async def _push_once(self, images: Images, image: LocalImage, name: str, tell: Tell) -> LocalImage:
        file, login = await self._login(name)
        with _logged_in(name, file):
            digest = await images.push(image.id, name, login, tell)
        return msgspec.structs.replace(image, digest=digest or image.digest)

    async def _login(self, name: str) -> tuple[str, RegistryLogin | None]:
        """Return the login that the credential files say now, and which file."""
        files = await self._caller.once(self._world.credentials.scan, "scan of the credentials")
        return login_for(name, files) or ("", None)

    async def _remembered(self, call: Callable[[], Awaitable[None]]) -> None:
        """Write to the account of images: what is missing there stays for ever, but no job fails for it."""
        try:
            await self._caller.once(call, "account of images")
        except RunnerError as error:
            logger.warning("account of images not written", extra={"action": "image", "reason": str(error)})


@contextmanager
def _blamed_on_the_image() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        raise ImageRefused(str(error)) from error
    except Unavailable as error:
        raise ImageUnavailable(str(error)) from error


@contextmanager
def _logged_in(name: str, file: str) -> Iterator[None]:
    """Say with whose login a registry said no."""
    try:
        yield
    except Refused as error:
        raise Refused(f"{error}{_whose_login(str(error), name, file)}") from error


def _whose_login(words: str, name: str, file: str) -> str:
    """Say with whose login a registry said no, where that may be why."""
    if not any(word in words.lower() for word in _WORDS_OF_LOGIN):
        return ""
    if file:
        return f" (with the login of {file})"
    return f" (no credential file of kind registry has a login at {registry_of(name)})"
