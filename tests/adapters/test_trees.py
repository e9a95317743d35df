"""Trees as a hostile job leaves them: deep, shut, linked, changing under the walk. Nothing outside is touched."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.beneath import DIRECTORY
from adapters.trees import Found, remove_tree, walk
from tests.adapters.unprivileged import owned_directory, somebody

DEPTH = 1500


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("precious")
    return tmp_path / "outside"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def path_of(found: Found) -> str:
    return "/".join((*found.above, found.name))


def make_deep(path: Path) -> None:
    at = os.open(path, DIRECTORY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", DIRECTORY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def test_a_walk_in_order_gives_each_directory_before_what_it_holds(tree: Path) -> None:
    for name in ("b/y/1", "b/x", "a", "c/z"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    with opened(tree) as root:
        assert ["a", "b", "c", "b/x", "b/y", "b/y/1", "c/z"] == [path_of(found) for found in walk(root, ordered=True)]


def test_a_walk_leaves_out_what_it_is_told_to(tree: Path) -> None:
    (tree / "out" / "inner").mkdir(parents=True)
    (tree / "in" / "inner").mkdir(parents=True)
    with opened(tree) as root:
        found = [path_of(found) for found in walk(root, ordered=True, enter=lambda _, name: name != "out")]
    assert ["in", "out", "in/inner"] == found


def test_a_walk_never_goes_through_a_link(tree: Path, outside: Path) -> None:
    (tree / "link").symlink_to(outside)
    with opened(tree) as root:
        assert ["link"] == [path_of(found) for found in walk(root)]


def test_a_directory_exchanged_for_a_link_is_not_entered(tree: Path, outside: Path) -> None:
    """The job may act between the look at a name and the opening of it."""
    (tree / "inner").mkdir()
    with opened(tree) as root:
        walking = walk(root)
        assert "inner" == next(walking).name
        (tree / "inner").rmdir()
        (tree / "inner").symlink_to(outside)
        assert [] == list(walking)


def test_a_directory_moved_away_under_the_walk_does_not_lead_it_outside(tree: Path, outside: Path) -> None:
    """From a directory that was moved, ``..`` is somewhere else; names from here must not be looked up there."""
    for name in ("a/inner/deep", "b/precious"):
        (tree / name).mkdir(parents=True)
    (outside / "b").mkdir()
    (outside / "b" / "stolen").touch()
    with opened(tree) as root:
        seen = []
        for found in walk(root, ordered=True):
            seen.append(path_of(found))
            if found.name == "deep":
                (tree / "a" / "inner").rename(outside / "inner")
    assert ["a", "b", "a/inner", "a/inner/deep", "b/precious"] == seen


def test_depth_costs_neither_stack_nor_open_files(tree: Path) -> None:
    """In memory where there is some to be had: a disk takes milliseconds for each of so many directories."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tree) as place:
        make_deep(Path(place))
        with opened(Path(place)) as root:
            assert DEPTH + 1 == sum(1 for _ in walk(root))
        remove_tree(place)
        assert not Path(place).exists()
        Path(place).mkdir()


def test_removing_deletes_links_and_not_what_they_lead_to(tree: Path, outside: Path) -> None:
    (tree / "a").mkdir()
    (tree / "a" / "link").symlink_to(outside)
    (tree / "file").symlink_to(outside / "precious")
    os.mkfifo(tree / "fifo")
    remove_tree(str(tree))
    assert (False, "precious") == (tree.exists(), (outside / "precious").read_text())


def test_removing_a_link_deletes_the_link(tree: Path, outside: Path) -> None:
    (tree / "link").symlink_to(outside)
    remove_tree(str(tree / "link"))
    assert ([], "precious") == (list(tree.iterdir()), (outside / "precious").read_text())


def test_removing_twice_is_no_error(tree: Path) -> None:
    remove_tree(str(tree))
    remove_tree(str(tree))


def test_shut_directories_of_our_own_are_removed() -> None:
    """A job without a user of its own may take every right from its directories; they still must go."""
    with owned_directory() as place, somebody():
        for mode in (0o000, 0o500, 0o444, 0o111):
            inner = place / "tree" / f"{mode:o}" / "inner" / "innermost"
            inner.mkdir(parents=True)
            (inner / "file").touch()
            for shut in (inner, inner.parent, inner.parent.parent):
                shut.chmod(mode)
        (place / "tree").chmod(0o500)
        remove_tree(str(place / "tree"))
        assert [] == list(place.iterdir())
