"""Outputs on their way out: what was checked is what is stored, and what cannot be stored is named, not skipped."""

import asyncio
import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.collecting import CollectLimits
from runner.errors import Unavailable
from runner.job import Output
from tests.adapters.small_disk import small_disk
from tests.adapters.unprivileged import owned_directory, somebody
from tests.adapters.workspace_harness import Harness, contents, problems

NOT_STORED = ", which is not stored"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path) as opened:
        yield opened


def test_a_file_is_named_by_its_last_part_with_size_and_digest(harness: Harness) -> None:
    harness.write("out/model.bin", b"model")
    (file,) = harness.collect(Output("./out//model.bin"))
    assert ("./out//model.bin", "model.bin", 5) == (file.path, file.name, file.bytes)
    assert f"sha256:{hashlib.sha256(b'model').hexdigest()}" == file.digest
    assert b"model" == Path(file.local).read_bytes()


def test_a_directory_gives_its_files_by_their_paths_in_it(harness: Harness) -> None:
    for name in ("model/b", "model/a/c", "model/.hidden", "other"):
        harness.write(name, name.encode())
    files = harness.collect(Output("model"))
    assert {".hidden": b"model/.hidden", "a/c": b"model/a/c", "b": b"model/b"} == contents(files)
    assert ["model/.hidden", "model/b", "model/a/c"] == [file.path for file in files]


def test_the_whole_workspace_can_be_an_output(harness: Harness) -> None:
    harness.write("a/b")
    assert {"a/b": b"data"} == contents(harness.collect(Output(".")))


@pytest.mark.parametrize("path", ["model", "no/such/model"])
def test_what_was_never_written_is_named(harness: Harness, path: str) -> None:
    assert {path: "was not written"} == problems(harness.collect(Output(path)))


def test_an_empty_directory_holds_no_files(harness: Harness) -> None:
    (harness.path / "model" / "inner").mkdir(parents=True)
    assert {"model": "holds no files"} == problems(harness.collect(Output("model")))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("pack", ["", "tar", "zip"])
def test_what_is_no_file_is_named_and_never_followed(harness: Harness, pack: str) -> None:
    """A link may lead to a file of the runner, a FIFO may hold its reader for ever."""
    harness.write("model/good")
    (harness.path / "model" / "link").symlink_to("/etc/passwd")
    (harness.path / "model" / "loop").symlink_to("..")
    os.mkfifo(harness.path / "model" / "fifo")
    os.mknod(harness.path / "model" / "socket", stat.S_IFSOCK | 0o600)
    expected = {
        "model/fifo": f"is a FIFO{NOT_STORED}",
        "model/link": f"is a link{NOT_STORED}",
        "model/loop": f"is a link{NOT_STORED}",
        "model/socket": f"is a socket{NOT_STORED}",
    }
    files = harness.collect(Output("model", pack=pack))  # type: ignore[arg-type]  # a parameter is no literal
    assert expected == problems(files)
    assert 1 == sum(not file.problem for file in files)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_named(harness: Harness) -> None:
    os.mknod(harness.path / "zeros", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert {"zeros": f"is a device{NOT_STORED}"} == problems(harness.collect(Output("zeros")))


@pytest.mark.parametrize("pack", ["", "tar.gz"])
def test_an_output_that_is_itself_a_link_is_named(harness: Harness, pack: str) -> None:
    (harness.path / "model").symlink_to("/etc/passwd")
    found = harness.collect(Output("model", pack=pack))  # type: ignore[arg-type]  # a parameter is no literal
    assert {"model": f"is a link{NOT_STORED}"} == problems(found)


def test_an_output_behind_a_link_is_not_followed(harness: Harness) -> None:
    (harness.path / "etc").symlink_to("/etc")
    found = problems(harness.collect(Output("etc/passwd")))
    assert {"etc/passwd": "stands behind a link or a file, which is not followed"} == found


def test_a_sparse_monster_is_named_by_what_was_written(harness: Harness) -> None:
    os.truncate(harness.write("monster", b""), 8 << 40)
    os.truncate(harness.write("large", b""), 1 << 40)
    assert {
        "large": "is sparse: 1.0 TiB long, 0 B of it written",
        "monster": "is 8.0 TiB long, more than is stored; 0 B of it was written",
    } == problems(harness.collect(Output(".")))


def test_many_small_holes_are_one_large_hole(tmp_path: Path) -> None:
    with Harness(tmp_path, CollectLimits(hole_bytes=10 << 20)) as harness:
        for name in "abc":
            os.truncate(harness.write(name, b""), 4 << 20)
        files = harness.collect(Output("."))
    assert {"c": "is sparse: 4.0 MiB long, 0 B of it written"} == problems(files)


def test_an_ordinary_hole_is_stored(harness: Harness) -> None:
    path = harness.write("image", b"x" * 1_000_000)
    os.truncate(path, 4_000_000)
    assert {"image": path.read_bytes()} == contents(harness.collect(Output("image")))


def test_files_without_number_are_to_be_packed(tmp_path: Path) -> None:
    with Harness(tmp_path, CollectLimits(files=3)) as harness:
        for name in "abcde":
            harness.write(f"model/{name}")
        assert {"model": "holds more than 3 files: pack it"} == problems(harness.collect(Output("model")))
        (packed,) = harness.collect(Output("model", pack="tar"))
    assert "model.tar" == packed.name


def test_a_name_that_is_not_utf8_is_named_readably(harness: Harness) -> None:
    (harness.path / "model").mkdir()
    (harness.path / "model" / os.fsdecode(b"\xff")).touch()
    assert {"model/\\udcff": "has a name that is not UTF-8"} == problems(harness.collect(Output("model")))


def test_a_file_that_may_not_be_read_is_named() -> None:
    with owned_directory() as place, somebody(), Harness(place) as harness:
        harness.write("shut").chmod(0o000)
        assert {"shut": "cannot be read: Permission denied"} == problems(harness.collect(Output("shut")))


def test_second_names_are_refused_where_anybody_may_make_them(tmp_path: Path) -> None:
    """Without the kernel's protection a job could give the runner's own secrets a name in its workspace."""
    with Harness(tmp_path, CollectLimits(trust_second_names=False)) as harness:
        os.link(harness.write("a"), harness.path / "b")
        assert {"a", "b"} == set(problems(harness.collect(Output("."))))


def test_what_is_exchanged_after_the_collection_is_not_stored(harness: Harness) -> None:
    """A process that outlived its job may put a link where the file was; the store reads what was checked."""
    path = harness.write("model", b"checked")
    (file,) = harness.collect(Output("model"))
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert (b"checked", False) == (Path(file.local).read_bytes(), Path(file.local).is_symlink())


def test_a_file_on_another_disk_is_copied(harness: Harness) -> None:
    """A second name can only be given on the same disk."""
    with small_disk(harness.path / "model", "size=64k"):
        path = harness.write("model/a")
        (file,) = harness.collect(Output("model"))
        path.write_bytes(b"changed")
        assert b"data" == Path(file.local).read_bytes()


def test_collecting_again_gives_the_same(harness: Harness) -> None:
    """A runner that was killed between collecting and storing collects again."""
    harness.write("model/a")
    first = harness.collect(Output("model"))
    harness.write("other")
    assert contents(harness.collect(Output("other"))) == {"other": b"data"}
    assert first == harness.collect(Output("model"))


def test_outputs_that_share_files_are_all_collected(harness: Harness) -> None:
    harness.write("model/a")
    whole, part = harness.collect(Output("model")), harness.collect(Output("model/a"))
    assert ({"a": b"data"}, {"a": b"data"}) == (contents(whole), contents(part))


def test_a_packed_directory_is_one_archive_of_what_it_holds(harness: Harness) -> None:
    harness.write("model/a/b", b"1")
    harness.write("model/c", b"2").chmod(0o700)
    (file,) = harness.collect(Output("model", pack="tar.gz"))
    assert ("model", "model.tar.gz", Path(file.local).stat().st_size) == (file.path, file.name, file.bytes)
    with tarfile.open(file.local, "r:gz") as archive:
        assert {"a": 0o755, "a/b": 0o644, "c": 0o755} == {entry.name: entry.mode for entry in archive}


def test_a_packed_file_is_an_archive_of_one(harness: Harness) -> None:
    harness.write("out/model", b"model")
    (file,) = harness.collect(Output("out/model", pack="zip"))
    with zipfile.ZipFile(file.local) as archive:
        assert ("model.zip", {"model": b"model"}) == (
            file.name,
            {name: archive.read(name) for name in archive.namelist()},
        )


def test_the_packed_workspace_is_named_after_the_job(harness: Harness) -> None:
    harness.write("a")
    (file,) = harness.collect(Output(".", pack="tar"))
    assert ("digits-1.tar", ".") == (file.name, file.path)


def test_the_same_outputs_pack_to_the_same_digest(harness: Harness) -> None:
    harness.write("model/a")
    (first,) = harness.collect(Output("model", pack="zip"))
    os.utime(harness.path / "model" / "a", (1, 1))
    (second,) = harness.collect(Output("model", pack="zip"))
    assert first.digest == second.digest


def test_a_workspace_that_is_gone_is_the_boxs_fault(harness: Harness) -> None:
    harness.path.rmdir()
    with pytest.raises(Unavailable, match="collecting an output"):
        asyncio.run(harness.workspaces.collect(str(harness.path), Output("a"), "digits-1"))
