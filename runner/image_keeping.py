"""
Which images may give way: those that the runner brought here, that nothing uses or wants, least recently used first.

Shared by the collection of a running runner and by ``runner images``, which may work beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from runner.image_name import whole_name
from runner.ports import ImageRecords, Images, KnownImages, LocalImage
from runner.records import JournalEntry

FRESH_S = 60.0
"""What was used so short a time ago may be on its way into the journal."""


class Wanted(msgspec.Struct, frozen=True):
    """Images that must stay, by id and by whole name."""

    ids: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def holds(self, image: LocalImage) -> bool:
        """Tell whether an image must stay."""
        return image.id in self.ids or any(whole_name(name) in self.names for name in image.names)


def wanted_by(entries: Iterable[JournalEntry]) -> Wanted:
    """Return what the jobs want that have not ended: the image that was staged, and the one that is to be."""
    ids, names = set[str](), set[str]()
    for entry in entries:
        if entry.exited is not None or entry.stored is not None:
            continue
        if entry.staged is not None:
            ids.add(entry.staged.staged.image_id)
        if entry.claimed.claim.job.image:
            names.add(whole_name(entry.claimed.claim.job.image))
    return Wanted(frozenset(ids), frozenset(names))


def removable(
    images: Iterable[LocalImage], known: KnownImages, wanted: Wanted, *, used: frozenset[str], now: float
) -> tuple[LocalImage, ...]:
    """Return the images that may give way, least recently used first; ``used`` are ids that containers have."""
    used_at: dict[str, float] = {}
    for row in known.rows:
        used_at[row.id] = max(row.used_at, used_at.get(row.id, 0.0))
    pinned = Wanted(names=known.pins, ids=known.pins)
    found = [
        image
        for image in images
        if image.id in used_at
        and image.id not in used
        and not wanted.holds(image)
        and not pinned.holds(image)
        and not now - FRESH_S < used_at[image.id] <= now
    ]
    return tuple(sorted(found, key=lambda image: (used_at[image.id], image.id)))


async def remove_image(image: LocalImage, known: KnownImages, images: Images, records: ImageRecords) -> bool:
    """
    Take away the names that the runner gave an image, and the image with the last of its names.

    Returns False where it stays: others named it too, or it is in use by now.
    """
    ours = {row.name for row in known.rows if row.id == image.id}
    theirs = [name for name in image.names if whole_name(name) not in ours]
    gone = [await images.remove(name) for name in image.names if name not in theirs]
    if all(gone) and not theirs:
        await images.remove(image.id)
    is_gone = await images.resolve(image.id) is None
    if is_gone or theirs:
        await records.forget(image.id)
    return is_gone
