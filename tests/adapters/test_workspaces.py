"""Workspaces: made fresh whatever stood there, measured by blocks, deleted whole, and never anything outside."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.workspaces import FolderWorkspaces
from runner.errors import Refused, Unavailable
from runner.job import Key, Output
from tests.adapters.unprivileged import owned_directory, somebody
from tests.adapters.workspace_harness import KEY, Harness, mode

FUTURE = time.time() + 3600


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[FolderWorkspaces]:
    workspaces = FolderWorkspaces(str(root))
    try:
        yield workspaces
    finally:
        await workspaces.close()


def test_a_workspace_is_private_and_named_after_key_and_attempt(harness: Harness) -> None:
    assert f"{KEY}.1" == harness.path.name
    assert (0o700, 0o711) == (mode(harness.path), mode(harness.path.parent))


def test_what_an_earlier_life_left_is_gone(harness: Harness) -> None:
    (harness.path / "deep" / "inner").mkdir(parents=True)
    (harness.path / "deep" / "inner" / "file").touch()
    harness.create()
    assert [] == list(harness.path.iterdir())


def test_even_what_is_no_directory_gives_way(harness: Harness, tmp_path: Path) -> None:
    harness.path.rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    harness.path.symlink_to(tmp_path / "elsewhere")
    harness.create()
    assert (False, True) == (harness.path.is_symlink(), (tmp_path / "elsewhere" / "precious").exists())


def test_attempts_stand_beside_each_other(harness: Harness) -> None:
    harness.write("left")
    second = harness.create(attempt=2)
    assert ((harness.path / "left").exists(), list(second.iterdir())) == (True, [])


def test_removing_takes_the_outbox_along_and_is_idempotent(harness: Harness) -> None:
    harness.write("model")
    (file,) = harness.collect(Output("model"))
    for _ in range(2):
        asyncio.run(harness.workspaces.remove(str(harness.path)))
    assert (False, False) == (harness.path.exists(), Path(file.local).exists())
    assert [harness.path.parent / ".outbox"] == list(harness.path.parent.iterdir())


@pytest.mark.parametrize(
    "reference", ["/etc", "{root}", "{root}/workspaces", "{root}/workspaces/.outbox", "{root}/workspaces/.."]
)
def test_what_is_no_workspace_is_never_touched(harness: Harness, tmp_path: Path, reference: str) -> None:
    with pytest.raises(Refused, match="is no workspace below"):
        asyncio.run(harness.workspaces.remove(reference.format(root=tmp_path)))


def test_use_is_counted_in_blocks_and_of_a_file_with_two_names_once(harness: Harness) -> None:
    empty = asyncio.run(harness.workspaces.used_bytes(str(harness.path)))
    harness.write("inner/a", b"x" * 1_000_000)
    os.link(harness.path / "inner" / "a", harness.path / "b")
    os.truncate(harness.write("sparse", b""), 1 << 40)
    (harness.path / "link").symlink_to("/usr")
    used = asyncio.run(harness.workspaces.used_bytes(str(harness.path)))
    assert 1_000_000 <= used - empty < 1_100_000


def test_empty_files_are_counted(harness: Harness) -> None:
    """A disk has room for so many files."""
    empty = asyncio.run(harness.workspaces.used_bytes(str(harness.path)))
    for number in range(100):
        (harness.path / str(number)).touch()
    assert 400_000 < asyncio.run(harness.workspaces.used_bytes(str(harness.path))) - empty < 500_000


def test_a_workspace_that_is_gone_uses_nothing(harness: Harness) -> None:
    harness.path.rmdir()
    assert 0 == asyncio.run(harness.workspaces.used_bytes(str(harness.path)))


def test_old_workspaces_are_pruned_but_for_those_kept_by_reference_or_key(harness: Harness) -> None:
    async def main() -> int:
        await harness.workspaces.create(KEY, 2)
        await harness.workspaces.create(Key("kept.0"), 1)
        assert 0 == await harness.workspaces.prune(time.time() - 3600, frozenset())
        return await harness.workspaces.prune(FUTURE, frozenset({str(harness.path), "kept.0"}))

    assert 1 == asyncio.run(main())
    assert {harness.path.name, "kept.0.1"} == {path.name for path in harness.path.parent.iterdir()}


def test_an_outbox_whose_workspace_is_gone_is_pruned(harness: Harness) -> None:
    harness.write("model")
    (file,) = harness.collect(Output("model"))
    (harness.path / "model").unlink()
    harness.path.rmdir()
    asyncio.run(harness.workspaces.prune(0.0, frozenset()))
    assert not Path(file.local).exists()


def test_pruning_where_nothing_was_ever_made_is_no_error(tmp_path: Path) -> None:
    async def main() -> int:
        async with opened(tmp_path / "none") as workspaces:
            return await workspaces.prune(FUTURE, frozenset())

    assert 0 == asyncio.run(main())


def test_free_bytes_are_those_of_the_disk_below(harness: Harness) -> None:
    disk = os.statvfs(harness.path)
    assert asyncio.run(harness.workspaces.free_bytes()) == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.2)


def test_a_root_that_may_not_be_written_is_told_with_its_path() -> None:

    async def main(place: Path) -> None:
        async with opened(place / "workspaces") as workspaces:
            await workspaces.create(KEY, 1)

    with owned_directory() as place, somebody():
        place.chmod(0o500)
        with pytest.raises(Unavailable, match=str(place)):
            asyncio.run(main(place))
