"""Images in memory: what a registry has, what stands on the box, and how long it takes to get there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from runner.credential import RegistryLogin
from runner.errors import OutOfSpace, Refused
from runner.image_name import whole_name
from runner.ports import BegunPull, BuildOrder, ImageRow, KnownImages, LocalImage

LINES = 100


@dataclass
class FakeImages:
    """
    An engine's images, by whole name. A pull takes ``pull_s`` and tells of itself a hundred times.

    The ledger: how often each name was pulled, and with which login.
    """

    # What the registry has: whole name to id.
    registry: dict[str, str] = field(default_factory=dict)
    # What stands here: whole name to id; an image without name has its id for one.
    here: dict[str, str] = field(default_factory=dict)
    size: int = 1 << 30
    disk: int = 100 << 30
    pull_s: float = 0.0
    used: set[str] = field(default_factory=set)
    pulls: Counter[str] = field(default_factory=Counter)
    pulling: set[str] = field(default_factory=set)
    logins: list[RegistryLogin | None] = field(default_factory=list)
    built: list[BuildOrder] = field(default_factory=list)
    pushed: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    build_error: Exception | None = None
    on_build: tuple[str, ...] = ()

    def _image(self, image_id: str) -> LocalImage:
        names = tuple(sorted(name for name, id_ in self.here.items() if id_ == image_id and name != id_))
        return LocalImage(image_id, f"digest of {image_id}", names, self.size, self.on_build)

    async def resolve(self, name: str) -> LocalImage | None:
        image_id = self.here.get(whole_name(name)) or (name if name in self.here.values() else None)
        return self._image(image_id) if image_id else None

    async def pull(self, name: str, login: RegistryLogin | None, progress: Callable[[str], None]) -> LocalImage:
        whole = whole_name(name)
        self.pulls[whole] += 1
        self.logins.append(login)
        self.pulling.add(whole)
        try:
            for done in range(LINES):
                await asyncio.sleep(self.pull_s / LINES)
                progress(f"image {name}: {done} %")
        finally:
            self.pulling.discard(whole)
        if whole not in self.registry:
            raise Refused(f"image {name} cannot be had: manifest unknown")
        if self.free() < self.size:
            raise OutOfSpace("no space left on device")
        before = self.here.get(whole)
        if before is not None and before != self.registry[whole]:
            self.here[before] = before
        self.here[whole] = self.registry[whole]
        return self._image(self.here[whole])

    def free(self) -> int:
        return self.disk - self.size * len(set(self.here.values()))

    async def list(self) -> tuple[LocalImage, ...]:
        return tuple(self._image(image_id) for image_id in sorted(set(self.here.values())))

    async def in_use(self) -> frozenset[str]:
        return frozenset(self.used)

    async def remove(self, reference: str) -> bool:
        assert self.here.get(reference) not in self.used, f"{reference} is in use"
        return self.here.pop(reference, None) is not None

    async def free_bytes(self) -> int | None:
        return self.free()

    async def build(self, order: BuildOrder, progress: Callable[[str], None]) -> LocalImage:
        self.built.append(order)
        progress("Step 1/1 : FROM base")
        await asyncio.sleep(self.pull_s)
        if self.build_error is not None:
            raise self.build_error
        self.here[whole_name(order.name)] = f"built {len(self.built)}"
        return self._image(f"built {len(self.built)}")

    async def drop_remains(self, label: str) -> None:
        self.dropped.append(label)

    async def push(self, image_id: str, name: str, login: RegistryLogin | None, progress: Callable[[str], None]) -> str:
        self.logins.append(login)
        progress(f"image {name}: 1 of 1 layers")
        self.pushed[name] = image_id
        return f"pushed {image_id}"

    async def close(self) -> None:
        """Nothing is open."""


class FakeImageRecords:
    """The account of images, which outlives the runner."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], ImageRow] = {}
        self.pins: set[str] = set()
        self.begun: dict[str, str] = {}

    async def begin(self, name: str, before: str) -> None:
        self.begun[name] = before

    async def complete(self, name: str, image: LocalImage, at: float) -> None:
        self.begun.pop(name, None)
        row = ImageRow(image.id, name, image.digest, image.size, at, at)
        self.rows[image.id, name] = row

    async def abandon(self, name: str) -> None:
        self.begun.pop(name, None)

    async def use(self, image_id: str, at: float) -> None:
        for key, row in self.rows.items():
            if row.id == image_id:
                self.rows[key] = msgspec.structs.replace(row, used_at=max(row.used_at, at))

    async def forget(self, image_id: str) -> None:
        self.rows = {key: row for key, row in self.rows.items() if row.id != image_id}

    async def pin(self, name: str) -> None:
        self.pins.add(name)

    async def unpin(self, name: str) -> bool:
        found = name in self.pins
        self.pins.discard(name)
        return found

    async def known(self) -> KnownImages:
        rows = sorted(self.rows.values(), key=lambda row: row.used_at)
        begun = tuple(BegunPull(name, before) for name, before in sorted(self.begun.items()))
        return KnownImages(tuple(rows), frozenset(self.pins), begun)
