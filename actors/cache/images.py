"""The images of jobs: pulled where they are not here; errors say that it was the image."""

from __future__ import annotations

from actors.cache.fetching import Fetcher
from runner.errors import Refused, Unavailable
from runner.ports import World
from runner.records import ClaimedJob
from runner.trail import Trail


class ImageRefused(Refused):
    """There is no such image, or this box may not have it."""


class ImageUnavailable(Unavailable):
    """The registry or the runtime did not answer."""


class ImageStore:
    """Resolves what jobs name, and pulls it."""

    def __init__(self, world: World, fetcher: Fetcher, trail: Trail) -> None:
        """Keep what to ask."""
        self._world, self._fetcher, self._trail = world, fetcher, trail

    async def obtain(self, claim: ClaimedJob) -> str:
        """
        Return the digest of the job's image, pulling it where it is not here.

        Raises:
            ImageRefused, ImageUnavailable: it cannot be had.
        """
        try:
            return await self._resolve_or_pull(claim, claim.job.image)
        except Refused as error:
            raise ImageRefused(str(error)) from error
        except Unavailable as error:
            raise ImageUnavailable(str(error)) from error

    async def _resolve_or_pull(self, claim: ClaimedJob, name: str) -> str:
        images = self._world.images
        if images is None:
            raise Unavailable("this box has no container runtime; `runner doctor` says why")
        digest = await self._fetcher.fetch(lambda: images.resolve(name), f"image {name}")
        if digest is not None:
            return digest
        await self._trail.say(claim, f"pulling {name}")
        return await self._fetcher.fetch(lambda: images.pull(name, _ignore), f"image {name}", transfer=True)


def _ignore(_line: str) -> None:
    """Progress of a pull goes nowhere yet."""
