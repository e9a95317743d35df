"""Unpacking: what honest packers write comes out whole; the hostile corpus is refused by name, and nothing escapes."""

import bz2
import contextlib
import gzip
import lzma
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.archives import Limits, unpack
from adapters.beneath import DIRECTORY
from adapters.interruptible import Interrupted, Stop
from runner.errors import Refused
from tests.adapters.hostile_archives import REFUSED, entry, tar, zipped

ROOMY = Limits()
TIGHT = Limits(bytes=1 << 20, members=100)


def unpack_bytes(archive: bytes, place: Path, limits: Limits = ROOMY, stop: Stop | None = None) -> Path:
    """Unpack into ``inner/target`` below a place, so that an escape of two levels is seen there."""
    target = place / "inner" / "target"
    target.mkdir(parents=True)
    (place / "archive").write_bytes(archive)
    source, root = os.open(place / "archive", os.O_RDONLY), os.open(target, DIRECTORY)
    try:
        unpack(source, root, limits, stop or Stop())
    finally:
        os.close(source)
        os.close(root)
    return target


def contents(root: Path) -> dict[str, bytes | None]:
    """Return what stands below a directory: bytes of files, None for directories."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.timeout(10)
def test_a_hostile_archive_is_refused_and_nothing_escapes(name: str, tmp_path: Path) -> None:
    build, told = REFUSED[name]
    (tmp_path / "precious").write_text("precious")
    with pytest.raises(Refused) as refused:
        unpack_bytes(build(), tmp_path, TIGHT)
    assert told in str(refused.value)
    assert str(refused.value).isprintable()
    assert {"precious", "archive", "inner"} == {path.name for path in tmp_path.iterdir()}
    assert ["target"] == [path.name for path in (tmp_path / "inner").iterdir()]
    assert (1, "precious") == ((tmp_path / "precious").stat().st_nlink, (tmp_path / "precious").read_text())
    assert [] == [
        path for path in (tmp_path / "inner").rglob("*") if not (path.is_dir() or path.is_file()) or path.is_symlink()
    ]
    assert not Path("/tmp/escaped").exists()


TREE = {
    "a": None,
    "a/b": None,
    "a/b/deep.txt": b"deep" * 5000,
    "top.bin": bytes(range(256)),
    "empty": None,
    "none": b"",
}


def tree_tar(form: int = tarfile.PAX_FORMAT) -> bytes:
    entries = [
        entry(f"./{name}", data or b"", tarfile.DIRTYPE if data is None else tarfile.REGTYPE)
        for name, data in TREE.items()
    ]
    return tar(entry("./", b"", tarfile.DIRTYPE), *entries, form=form)


def tree_zip(method: int) -> bytes:
    return zipped(*((name + "/", b"") if data is None else (name, data) for name, data in TREE.items()), method=method)


HONEST: dict[str, Callable[[], bytes]] = {
    "tar (pax)": tree_tar,
    "tar (gnu)": lambda: tree_tar(tarfile.GNU_FORMAT),
    "tar (ustar)": lambda: tree_tar(tarfile.USTAR_FORMAT),
    "tar.gz": lambda: gzip.compress(tree_tar()),
    "tar.gz in two parts": lambda: gzip.compress(tree_tar()[:700]) + gzip.compress(tree_tar()[700:]),
    "tar.bz2": lambda: bz2.compress(tree_tar()),
    "tar.xz": lambda: lzma.compress(tree_tar()),
    "tar.xz in two parts": lambda: lzma.compress(tree_tar()[:700]) + b"\0" * 8 + lzma.compress(tree_tar()[700:]),
    "zip (stored)": lambda: tree_zip(zipfile.ZIP_STORED),
    "zip (deflated)": lambda: tree_zip(zipfile.ZIP_DEFLATED),
    "zip (bzip2)": lambda: tree_zip(zipfile.ZIP_BZIP2),
    "tar without its end": lambda: tree_tar().rstrip(b"\0") + b"\0" * (-len(tree_tar().rstrip(b"\0")) % 512),
}


@pytest.mark.parametrize("form", HONEST)
def test_what_was_packed_comes_out_by_its_bytes_not_its_name(form: str, tmp_path: Path) -> None:
    assert contents(unpack_bytes(HONEST[form](), tmp_path)) == TREE


def test_an_archive_of_nothing_unpacks_to_nothing(tmp_path: Path) -> None:
    assert {} == contents(unpack_bytes(tar(), tmp_path))
    assert {} == contents(unpack_bytes(zipped(), tmp_path / "zip"))


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1755, 0o7777, 0o6700])
def test_of_modes_only_being_a_program_is_kept(mode: int, tmp_path: Path) -> None:
    """Set-user-id and its kin never reach a workspace."""
    target = unpack_bytes(tar(entry("program", mode=mode), entry("data", mode=mode & 0o600)), tmp_path)
    assert 0o755 == stat.S_IMODE((target / "program").stat().st_mode)
    assert 0o644 == stat.S_IMODE((target / "data").stat().st_mode)


def test_the_later_of_two_files_of_one_name_counts(tmp_path: Path) -> None:
    assert b"new" == (unpack_bytes(tar(entry("a", b"old"), entry("a", b"new")), tmp_path) / "a").read_bytes()


def test_a_name_may_hold_any_letters(tmp_path: Path) -> None:
    names = {"π/ü ñ.txt", "-rf", "a b", "~", "..x", "x..", "...", "a\\b"}
    target = unpack_bytes(tar(*(entry(name) for name in names)), tmp_path)
    assert names <= set(contents(target))


def test_unpacking_stops_when_nobody_wants_it_any_more(tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Interrupted):
        unpack_bytes(tree_tar(), tmp_path, stop=stop)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(HONEST)), st.integers(0, 1 << 30), st.integers(1, 8))
def test_any_spoiled_bytes_are_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, form: str, seed: int, spoils: int
) -> None:
    """Whatever a bit flip turns an archive into, the answer is a refusal or plain files, never another exception."""
    seeded, spoiled = random.Random(seed), bytearray(HONEST[form]())
    for _ in range(spoils):
        spoiled[seeded.randrange(len(spoiled))] = seeded.randrange(256)
    place = tmp_path_factory.mktemp("spoiled")
    with contextlib.suppress(Refused):
        unpack_bytes(bytes(spoiled), place, TIGHT)
    assert {"archive", "inner"} == {path.name for path in place.iterdir()}
    assert [] == [path for path in place.rglob("*") if path.is_symlink()]
