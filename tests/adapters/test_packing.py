"""Packing: what is taken along and what stays behind, and the same bytes for the same files."""

import os
from pathlib import Path

import pytest

from adapters.archives import Limits, Measure, measure, pack_directory, unpack
from adapters.beneath import DIRECTORY, open_regular
from adapters.ignore import Ignore
from adapters.interruptible import Stop
from adapters.packing import open_pack
from runner.errors import Refused
from tests.adapters.unprivileged import owned_directory, somebody

FILES = {
    "train.py": b"print(1)\n",
    "data/a.csv": b"1,2\n" * 1000,
    "data/b.csv": b"",
    "out/model.ckpt": b"m" * 1000,
    ".git/config": b"[core]",
    "pkg/__pycache__/x.pyc": b"c",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "train.py").chmod(0o755)
    (root / "empty").mkdir()
    return root


def packed_names(project: Path) -> set[str]:
    place = project.parent
    pack_directory(str(project), str(place / "packed"))
    target = place / "target"
    target.mkdir()
    source, root = os.open(place / "packed", os.O_RDONLY), os.open(target, DIRECTORY)
    try:
        unpack(source, root, Limits(), Stop())
    finally:
        os.close(source)
        os.close(root)
    return {str(path.relative_to(target)) for path in target.rglob("*")}


def test_a_directory_comes_out_as_it_went_in_without_what_is_always_left_out(project: Path) -> None:
    names = packed_names(project)
    assert {"train.py", "data", "data/a.csv", "data/b.csv", "out", "out/model.ckpt", "pkg", "empty"} == names
    target = project.parent / "target"
    assert [FILES["train.py"], FILES["data/a.csv"]] == [
        (target / name).read_bytes() for name in ("train.py", "data/a.csv")
    ]
    assert (True, False) == (
        os.access(target / "train.py", os.X_OK),
        bool((target / "data/a.csv").stat().st_mode & 0o111),
    )


def test_runnerignore_says_what_stays_behind(project: Path) -> None:
    (project / ".runnerignore").write_text("# outputs\nout/\n*.csv\n!b.csv\n")
    assert {".runnerignore", "train.py", "data", "data/b.csv", "pkg", "empty"} == packed_names(project)


def test_the_size_is_known_before_anything_is_packed(project: Path) -> None:
    (project / "link").symlink_to("/etc/passwd")
    os.mkfifo(project / "fifo")
    assert Measure(files=4, bytes=9 + 4000 + 1000, left_out=("fifo", "link")) == measure(str(project))


def test_links_and_special_files_stay_behind(project: Path) -> None:
    (project / "link").symlink_to("/etc/passwd")
    (project / "all").symlink_to("/etc")
    os.mkfifo(project / "fifo")
    assert not {"link", "fifo", "all"} & packed_names(project)


def test_the_same_files_pack_to_the_same_bytes(project: Path, tmp_path: Path) -> None:
    """An unchanged project is uploaded once: times and the order on the disk do not count."""
    pack_directory(str(project), str(tmp_path / "first"))
    (project / "data" / "a.csv").unlink()
    (project / "data" / "a.csv").write_bytes(FILES["data/a.csv"])
    os.utime(project / "train.py", (1, 1))
    pack_directory(str(project), str(tmp_path / "second"))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_file_that_cannot_be_read_is_named_with_the_way_out() -> None:
    with owned_directory() as place, somebody():
        (place / "project").mkdir()
        (place / "project" / "secret").touch(mode=0o000)
        with pytest.raises(Refused, match=r"secret cannot be packed: Permission denied; or list it in \.runnerignore"):
            pack_directory(str(place / "project"), str(place / "packed"))


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no-such cannot be read"):
        measure(str(tmp_path / "no-such"))


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
def test_every_form_unpacks_to_what_was_packed(form: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "run").write_bytes(b"#!/bin/sh\n" * 300_000)
    (tmp_path / "in" / "run").chmod(0o700)
    root = os.open(tmp_path / "in", DIRECTORY)
    with (tmp_path / "packed").open("xb") as file, open_pack(file, form, Stop()) as pack:
        fd, state = open_regular("run", root)
        pack.add_directory("d")
        pack.add_file("d/run", fd, state)
        os.close(fd)
    os.close(root)
    (tmp_path / "out").mkdir()
    source, target = os.open(tmp_path / "packed", os.O_RDONLY), os.open(tmp_path / "out", DIRECTORY)
    unpack(source, target, Limits(), Stop())
    os.close(source)
    os.close(target)
    assert (tmp_path / "in" / "run").read_bytes() == (tmp_path / "out" / "d" / "run").read_bytes()
    assert os.access(tmp_path / "out" / "d" / "run", os.X_OK)


@pytest.mark.parametrize(
    ("line", "path", "stays"),
    [
        ("*.ckpt", "a/b/model.ckpt", True),
        ("*.ckpt", "model.ckpt.txt", False),
        ("model", "model", True),
        ("model", "a/model", True),
        ("/model", "a/model", False),
        ("a/*.txt", "a/x.txt", True),
        ("a/*.txt", "a/b/x.txt", False),
        ("a/**/x.txt", "a/b/c/x.txt", True),
        ("a/**/x.txt", "a/x.txt", True),
        ("**/x.txt", "x.txt", True),
        ("out/", "out", False),
        ("# model", "# model", False),
        ("", "", False),
        ("[ab].py", "a.py", True),
        ("?.py", "ab.py", False),
    ],
)
def test_a_line_of_runnerignore_means_what_its_table_says(line: str, path: str, *, stays: bool) -> None:
    assert stays == Ignore([line]).leaves_out(path.split("/"), is_directory=False)


def test_the_last_line_that_fits_counts() -> None:
    ignore = Ignore(["*", "!keep*", "keep.not"])
    left_out = [ignore.leaves_out([name], is_directory=False) for name in ("a", "keep.me", "keep.not")]
    assert [True, False, True] == left_out


def test_what_is_always_left_out_can_be_taken_back() -> None:
    assert Ignore().leaves_out([".git"], is_directory=True)
    assert not Ignore(["!.git/"]).leaves_out([".git"], is_directory=True)
