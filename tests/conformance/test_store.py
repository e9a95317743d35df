"""What every store keeps: whole objects by URL, versions that change with content, and a plain no."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from adapters.stores.folder import FolderStore
from runner.credential import Rights
from runner.errors import Refused
from runner.ports import Store

T = TypeVar("T")


@dataclass(frozen=True)
class Harness:
    """A store, a prefix in it that its rights allow, and one that they do not."""

    store: Store
    prefix: str
    forbidden: str

    def run(self, use: Callable[[Store], Awaitable[T]]) -> T:
        async def main() -> T:
            try:
                return await use(self.store)
            finally:
                await self.store.close()

        return asyncio.run(main())


def folder(tmp_path: Path) -> Harness:
    (tmp_path / "allowed").mkdir()
    rights = Rights(paths=(str(tmp_path / "allowed"),))
    return Harness(FolderStore(rights), f"folder://{tmp_path}/allowed/", f"folder://{tmp_path}/elsewhere/")


@pytest.fixture(params=[folder])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    opened: Harness = request.param(tmp_path)
    return opened


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.write_bytes(b"model " * 100_000)
    return path


@pytest.mark.parametrize("name", ["a", "job-1/model/weights.bin", "job 1/π % ?#&=.bin", "-", "a" * 200])
def test_what_was_put_is_got_back(harness: Harness, local: Path, tmp_path: Path, name: str) -> None:
    """Names are the job's own, whatever they hold."""

    async def use(store: Store) -> int:
        put = await store.put(str(local), harness.prefix + name)
        assert put == await store.head(harness.prefix + name)
        assert put == await store.get(harness.prefix + name, str(tmp_path / "got"))
        return put.size

    assert len(local.read_bytes()) == harness.run(use)
    assert local.read_bytes() == (tmp_path / "got").read_bytes()


def test_small_objects_are_put_from_memory(harness: Harness, tmp_path: Path) -> None:
    async def use(store: Store) -> bytes:
        await store.put_bytes(b"{}", harness.prefix + "receipt.json")
        await store.put_bytes(b"", harness.prefix + "nothing")
        assert 0 == (await store.head(harness.prefix + "nothing")).size
        await store.get(harness.prefix + "receipt.json", str(tmp_path / "got"))
        return (tmp_path / "got").read_bytes()

    assert b"{}" == harness.run(use)


def test_putting_again_replaces_and_changes_the_version(harness: Harness, local: Path, tmp_path: Path) -> None:
    """The cache asks for the version alone; one that stays the same would serve old content for ever."""

    async def use(store: Store) -> bytes:
        first = await store.put_bytes(b"old", harness.prefix + "a")
        second = await store.put_bytes(b"new", harness.prefix + "a")
        assert first.version != second.version
        await store.get(harness.prefix + "a", str(tmp_path / "got"))
        return (tmp_path / "got").read_bytes()

    assert b"new" == harness.run(use)


def test_objects_below_a_prefix_are_listed_sorted(harness: Harness) -> None:
    names = ["job/b", "job/a/z", "job/a/y", "other"]

    async def use(store: Store) -> tuple[str, ...]:
        for name in names:
            await store.put_bytes(b"x", harness.prefix + name)
        assert () == await store.list(harness.prefix + "nothing-here/")
        return await store.list(harness.prefix + "job/")

    assert tuple(harness.prefix + name for name in ["job/a/y", "job/a/z", "job/b"]) == harness.run(use)


def test_what_is_missing_is_refused_and_leaves_no_file(harness: Harness, tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        with pytest.raises(Refused, match="missing"):
            await store.head(harness.prefix + "missing")
        with pytest.raises(Refused, match="missing"):
            await store.get(harness.prefix + "missing", str(tmp_path / "got"))

    harness.run(use)
    assert not (tmp_path / "got").exists()


def test_what_the_rights_do_not_name_is_refused(harness: Harness, local: Path, tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        for call in (
            lambda: store.head(harness.forbidden + "a"),
            lambda: store.get(harness.forbidden + "a", str(tmp_path / "got")),
            lambda: store.put(str(local), harness.forbidden + "a"),
            lambda: store.put_bytes(b"x", harness.forbidden + "a"),
            lambda: store.list(harness.forbidden),
        ):
            with pytest.raises(Refused):
                await call()

    harness.run(use)
    assert not (tmp_path / "got").exists()


def test_many_puts_at_once_leave_one_whole_object(harness: Harness, tmp_path: Path) -> None:
    """A job that two boxes ran may be stored by both; the last one wins, whole."""
    contents = [bytes([65 + index]) * 200_000 for index in range(8)]

    async def use(store: Store) -> bytes:
        await asyncio.gather(*(store.put_bytes(content, harness.prefix + "a") for content in contents))
        await store.get(harness.prefix + "a", str(tmp_path / "got"))
        assert (harness.prefix + "a",) == await store.list(harness.prefix)
        return (tmp_path / "got").read_bytes()

    assert harness.run(use) in contents
