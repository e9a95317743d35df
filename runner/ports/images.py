"""The images of a container runtime, and the box's own account of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from runner.credential import RegistryLogin


class LocalImage(msgspec.Struct, frozen=True):
    """
    An image that is here. ``id`` names its content, and is what containers are made of; ``digest`` is the registry's
    where the name that it was asked by came from one, else the id.

    ``names`` are all tags of it, sorted; ``on_build`` are instructions that its makers left for builds upon it.
    """

    id: str
    digest: str
    names: tuple[str, ...] = ()
    size: int = 0
    on_build: tuple[str, ...] = ()


class BuildOrder(msgspec.Struct, frozen=True):
    """
    What to build: a local tar file, the Dockerfile's name in it, the name for the result, and what its steps may use:
    a network of the queue's policy, bytes of memory, processors.
    """

    context: str
    dockerfile: str
    name: str
    network: str = "none"
    memory: int = 0
    cpus: float = 1.0


class Images(Protocol):
    """Images of a container runtime. Any number of calls at once."""

    async def resolve(self, name: str) -> LocalImage | None:
        """
        Describe a local image by name or id, None where it is not there.

        Raises:
            Refused: no image can have that name.
        """
        ...

    async def pull(self, name: str, login: RegistryLogin | None, progress: Callable[[str], None]) -> LocalImage:
        """
        Ask the registry for an image; ``progress`` gets short lines, each of which stands for all before it.

        Raises:
            Refused: the registry says there is none, or forbids it.
            OutOfSpace: the runtime's disk is full.
        """
        ...

    async def list(self) -> tuple[LocalImage, ...]:
        """Describe all images that are here; ``digest`` is that of the first name."""
        ...

    async def in_use(self) -> frozenset[str]:
        """Return the ids of images that any container has, running or not, whoever made it."""
        ...

    async def remove(self, reference: str) -> bool:
        """Take one name away, or an image by its id once it has none; False where it is in use, or gone already."""
        ...

    async def free_bytes(self) -> int | None:
        """Return what the disk under the images has free; None where that disk is not this machine's."""
        ...

    async def build(self, order: BuildOrder, progress: Callable[[str], None]) -> LocalImage:
        """
        Build an image from a Dockerfile; ``progress`` gets every line of it.

        Raises:
            Refused: the Dockerfile cannot be built; with its own last words.
            OutOfSpace: the runtime's disk is full.
        """
        ...

    async def drop_remains(self, label: str) -> None:
        """Remove what builds with this label left behind: steps of those that failed, and those built anew since."""
        ...

    async def push(self, image_id: str, name: str, login: RegistryLogin | None, progress: Callable[[str], None]) -> str:
        """
        Store an image at a registry under a name, which it does not keep here, and return its digest there.

        Raises:
            Refused: the registry forbids it.
        """
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class ImageRow(msgspec.Struct, frozen=True):
    """An image that the runner pulled or built, under one name; times are epoch seconds."""

    id: str
    name: str
    digest: str
    size: int
    pulled_at: float
    used_at: float


class BegunPull(msgspec.Struct, frozen=True):
    """A pull that was begun and not seen to its end; ``before`` is the id that its name had then, "" for none."""

    name: str
    before: str


class KnownImages(msgspec.Struct, frozen=True):
    """All that is remembered of images; ``pins`` are names, which may be none of an image that is here."""

    rows: tuple[ImageRow, ...] = ()
    pins: frozenset[str] = frozenset()
    begun: tuple[BegunPull, ...] = ()


class ImageRecords(Protocol):
    """
    Which images the runner itself brought to this box, when each was used last, and which are to stay.

    Survives a kill at any moment; several processes may write at once. Names are whole ones (``whole_name``).
    """

    async def begin(self, name: str, before: str) -> None:
        """Remember that an image is about to be pulled under a name, which means ``before`` now."""
        ...

    async def complete(self, name: str, image: LocalImage, at: float) -> None:
        """Remember a pull's or build's result as ours, used just now."""
        ...

    async def abandon(self, name: str) -> None:
        """Forget that a pull was begun."""
        ...

    async def use(self, image_id: str, at: float) -> None:
        """Remember that an image was used; nothing where it is not ours."""
        ...

    async def forget(self, image_id: str) -> None:
        """Forget an image that is gone."""
        ...

    async def pin(self, name: str) -> None:
        """Let what has this name stay, whatever it is; idempotent."""
        ...

    async def unpin(self, name: str) -> bool:
        """Let it go with the others; False where it was not pinned."""
        ...

    async def known(self) -> KnownImages:
        """Return all that is remembered."""
        ...
