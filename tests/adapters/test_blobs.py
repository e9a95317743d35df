"""The cache of inputs: found by URL, version and scope, verified, bounded, and shared between processes."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from adapters.blobs import FolderBlobs
from runner.errors import Unavailable
from runner.ports import Blob

T = TypeVar("T")
DAY_S = 86400.0


class Clock:
    """Gives a later second at every look."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        self.at += 1
        return self.at


class Cache:
    """A cache in a directory; each run opens it anew, as another process would."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, Clock()

    def run(self, use: Callable[[FolderBlobs], Awaitable[T]]) -> T:
        async def main() -> T:
            blobs = FolderBlobs(str(self.root), self.clock)
            try:
                return await use(blobs)
            finally:
                await blobs.close()

        return asyncio.run(main())

    def add(self, content: bytes, url: str = "folder:///d", version: str = "1", scope: str = "own") -> Blob:
        async def use(blobs: FolderBlobs) -> Blob:
            path = blobs.new_file()
            Path(path).write_bytes(content)
            return await blobs.add(path, url=url, version=version, scope=scope)

        return self.run(use)

    def find(self, url: str = "folder:///d", version: str = "1", scope: str = "own") -> Blob | None:
        return self.run(lambda blobs: blobs.find(url, version, scope))

    def evict(self, limit_bytes: int, *pinned: Blob) -> int:
        return self.run(lambda blobs: blobs.evict(limit_bytes, frozenset(blob.digest for blob in pinned)))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_what_was_added_is_found_by_another_process(cache: Cache) -> None:
    added = cache.add(b"data")
    digest = hashlib.sha256(b"data").hexdigest()
    assert (f"sha256:{digest}", 4, cache.root / "sha256" / digest[:2] / digest) == (
        added.digest,
        added.size,
        Path(added.path),
    )
    assert (added, b"data") == (cache.find(), Path(added.path).read_bytes())


@pytest.mark.parametrize("other", [{"url": "folder:///e"}, {"version": "2"}, {"scope": "another.toml"}])
def test_another_url_version_or_scope_is_another_thing(cache: Cache, other: dict[str, str]) -> None:
    """One queue's jobs must not read through the cache what only another one's credential may fetch."""
    cache.add(b"data")
    assert cache.find(**other) is None


def test_one_content_is_stored_once(cache: Cache) -> None:
    first, second = cache.add(b"data"), cache.add(b"data", url="folder:///copy")
    assert (first, 1) == (second, sum(path.is_file() for path in (cache.root / "sha256").rglob("*")))
    assert [] == list((cache.root / "tmp").iterdir())


def test_blobs_are_read_only(cache: Cache) -> None:
    assert 0 == Path(cache.add(b"data").path).stat().st_mode & 0o222


@pytest.mark.parametrize("damage", [b"", b"longer than it was"])
def test_a_blob_of_the_wrong_size_is_not_handed_out_and_is_healed(cache: Cache, damage: bytes) -> None:
    blob = cache.add(b"data")
    Path(blob.path).chmod(0o644)
    Path(blob.path).write_bytes(damage)
    assert cache.find() is None
    assert b"data" == Path(cache.add(b"data").path).read_bytes()
    assert blob == cache.find()


def test_a_damaged_index_counts_as_missing(cache: Cache) -> None:
    cache.add(b"data")
    (line,) = (path for path in (cache.root / "index").rglob("*") if path.is_file())
    line.write_bytes(b'{"dig')
    assert cache.find() is None


def test_a_kill_between_blob_and_index_is_healed_by_the_next_fill(cache: Cache) -> None:
    blob = cache.add(b"data")
    for line in (cache.root / "index").rglob("*"):
        if line.is_file():
            line.unlink()
    assert cache.find() is None
    assert (blob, blob) == (cache.add(b"data"), cache.find())


def test_adding_again_after_the_answer_was_lost_finds_what_was_added(cache: Cache) -> None:
    """A call may time out after it was carried out; the file is gone then, and the content is in."""

    async def use(blobs: FolderBlobs) -> tuple[Blob, Blob]:
        path = blobs.new_file()
        Path(path).write_bytes(b"data")
        first = await blobs.add(path, url="u", version="1", scope="s")
        return first, await blobs.add(path, url="u", version="1", scope="s")

    first, second = cache.run(use)
    assert first == second


def test_a_file_that_never_was_cannot_be_added(cache: Cache) -> None:
    with pytest.raises(Unavailable, match="adding to the cache"):
        cache.run(lambda blobs: blobs.add(blobs.new_file(), url="u", version="1", scope="s"))


def test_the_least_recently_used_goes_first(cache: Cache) -> None:
    size = 100_000
    for url in "abc":
        cache.add(url.encode() * size, url=url)
    cache.find(url="a")
    assert 0 < cache.evict(250_000) <= 110_000
    assert [True, False, True] == [cache.find(url=url) is not None for url in "abc"]


def test_what_is_pinned_stays_even_over_the_limit(cache: Cache) -> None:
    pinned, other = cache.add(b"a" * 100_000, url="a"), cache.add(b"b" * 100_000, url="b")
    cache.evict(0, pinned)
    assert (True, False) == (Path(pinned.path).exists(), Path(other.path).exists())


def test_a_cache_within_its_limit_is_left_alone(cache: Cache) -> None:
    cache.add(b"a" * 100_000)
    assert 0 == cache.evict(200_000)
    assert cache.find() is not None


def test_evicting_forgets_index_and_leftovers_too(cache: Cache) -> None:
    """A box left alone for a year must not fill up with small files either."""
    cache.add(b"a")
    fresh, stale = cache.root / "tmp" / "fresh", cache.root / "tmp" / "stale"
    for path, age_s in ((fresh, 60.0), (stale, 2 * DAY_S)):
        path.touch()
        os.utime(path, (cache.clock.at - age_s, cache.clock.at - age_s))
    cache.evict(0)
    assert [fresh] == [path for path in cache.root.rglob("*") if path.is_file()]


def test_evicting_where_nothing_was_ever_cached_is_no_error(cache: Cache) -> None:
    assert 0 == cache.evict(0)


def test_two_processes_may_add_and_evict_at_once(cache: Cache) -> None:
    async def use(first: FolderBlobs) -> None:
        second = FolderBlobs(str(cache.root), cache.clock)
        try:
            await asyncio.gather(*(add_and_evict(blobs, index) for index in range(20) for blobs in (first, second)))
        finally:
            await second.close()

    async def add_and_evict(blobs: FolderBlobs, index: int) -> None:
        path = blobs.new_file()
        Path(path).write_bytes(b"%d" % (index % 5))
        blob = await blobs.add(path, url=str(index), version="1", scope="s")
        await blobs.evict(0, frozenset({blob.digest}))
        found = await blobs.find(str(index), "1", "s")
        assert found in (blob, None)

    cache.run(use)
