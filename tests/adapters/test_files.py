"""Whole files: replaced and created in one step, and what goes wrong is told in words."""

from __future__ import annotations

import contextlib
import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.files import create_whole, explain, explained, make_directory, names_in, remove_file, write_whole
from runner.errors import OutOfSpace, Unavailable
from tests.tiny_disk import free_bytes, tiny_disk


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path, *, durable: bool) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"", b"x" * 3_000_000):
        write_whole(str(path), content, durable=durable)
        assert (content, [path]) == (path.read_bytes(), list(tmp_path.iterdir()))
    assert 0o600 == path.stat().st_mode & 0o777


def test_a_name_in_the_working_directory_will_do(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        write_whole("file", b"x")
        assert create_whole("other", b"y")
        assert ["file", "other"] == sorted(names_in("."))


def test_of_many_that_create_a_file_one_does(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda number: create_whole(path, b"%d" % number), range(32)))
    assert 1 == created.count(True)
    assert created.index(True) == int(Path(path).read_bytes())
    assert ["file"] == [found.name for found in tmp_path.iterdir()]


def test_a_full_disk_leaves_the_old_content(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        write_whole(str(disk / "file"), b"old")
        (disk / "ballast").write_bytes(b"x" * (free_bytes(disk) - 8192))
        for write in (write_whole, create_whole):
            with pytest.raises(OSError, match="No space left"):
                write(str(disk / "file"), b"x" * 20_000)
        assert b"old" == (disk / "file").read_bytes()
        assert {"ballast", "file"} == {found.name for found in disk.iterdir()}


def test_directories_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "standing").mkdir(mode=0o755)
    make_directory(str(tmp_path / "standing" / "a" / "b"))
    make_directory(str(tmp_path / "standing" / "a" / "b"))
    modes = [(tmp_path / "standing" / part).stat().st_mode & 0o777 for part in ("", "a", "a/b")]
    assert [0o755, 0o700, 0o700] == modes


def test_a_directory_where_a_file_stands_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_directory(str(tmp_path / "file" / "below"))


def test_absence_is_no_error(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    (tmp_path / "seen").touch()
    assert ([], ["seen"]) == (names_in(str(tmp_path / "no")), names_in(str(tmp_path)))
    assert [True, False] == [remove_file(str(tmp_path / "seen")), remove_file(str(tmp_path / "seen"))]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_by_the_directory(number: int) -> None:
    error = explain(OSError(number, "full", "/q/tmp/.x"), "put into queue", "/q")
    assert isinstance(error, OutOfSpace)
    assert "put into queue" in str(error)
    assert "/q:" in str(error)


def test_any_other_error_is_named_by_the_file() -> None:
    with pytest.raises(Unavailable, match=r"read x: /q/ready: Stale"), explained("read x", "/q"):
        raise OSError(errno.ESTALE, "Stale file handle", "/q/ready")
