"""The folder store: never outside of what the rights name, whatever links and special files stand in the way."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores.folder import FolderStore
from runner.credential import Rights
from runner.errors import OutOfSpace, Refused, Unavailable
from tests.adapters.small_disk import small_disk


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("data", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "data" / "plain").write_text("plain")
    return tmp_path / "data"


def store(*paths: Path) -> FolderStore:
    return FolderStore(Rights(paths=tuple(str(path) for path in paths)))


def got(from_store: FolderStore, path: Path | str, to: Path) -> str:
    asyncio.run(from_store.get(f"folder://{path}", str(to)))
    return to.read_text()


def test_the_refusal_says_which_line_to_add(data: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(store(data).head(f"folder://{tmp_path}/outside/secret"))
    assert (
        f"folder://{tmp_path}/outside/secret: outside of the directories that its queue may use; they are {data}; "
        f'add paths = ["{tmp_path}/outside"] to the credential file'
    ) == str(refused.value)


def test_without_paths_nothing_may_be_read(data: Path) -> None:
    with pytest.raises(Refused, match=r"its queue may use; add paths = "):
        asyncio.run(store().head(f"folder://{data}/plain"))


def test_the_own_queue_reads_what_its_owner_may(data: Path, tmp_path: Path) -> None:
    own = FolderStore(Rights(own=True))
    assert "secret" == got(own, tmp_path / "outside" / "secret", tmp_path / "to")


def test_a_name_that_only_begins_alike_is_outside(data: Path, tmp_path: Path) -> None:
    (tmp_path / "database").mkdir()
    with pytest.raises(Refused, match="outside"):
        asyncio.run(store(data).put_bytes(b"", f"folder://{tmp_path}/database/x"))


@pytest.mark.parametrize(
    "url", ["folder://data/x", "folder:data", "/data/x", "folder:///data/../etc/passwd", "s3://data/x"]
)
def test_what_is_no_absolute_folder_url_is_refused(url: str) -> None:
    with pytest.raises(Refused, match=r"write folder:// and an absolute path"):
        asyncio.run(FolderStore(Rights(own=True)).head(url))


@pytest.mark.parametrize("link", ["../data/plain", "plain", "./inner/../plain"])
def test_links_that_stay_inside_are_followed(data: Path, tmp_path: Path, link: str) -> None:
    (data / "link").symlink_to(link)
    assert "plain" == got(store(data), data / "link", tmp_path / "to")


@pytest.mark.parametrize("link", ["../outside/secret", "/etc/hostname", "inner/../../outside/secret"])
def test_links_that_lead_outside_are_refused(data: Path, tmp_path: Path, link: str) -> None:
    (data / "inner").mkdir()
    (data / "link").symlink_to(link)
    for call in (store(data).head, lambda url: store(data).put_bytes(b"x", url)):
        with pytest.raises(Refused, match="outside of the directories"):
            asyncio.run(call(f"folder://{data}/link"))
    assert "secret" == (tmp_path / "outside" / "secret").read_text()


def test_a_linked_directory_on_the_way_is_held_to_the_same(data: Path, tmp_path: Path) -> None:
    (data / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(Refused, match="outside of the directories"):
        asyncio.run(store(data).head(f"folder://{data}/out/secret"))
    assert "secret" == got(store(data, tmp_path / "outside"), data / "out" / "secret", tmp_path / "to")


def test_an_allowed_directory_may_itself_be_a_link(data: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(data)
    assert "plain" == got(store(tmp_path / "alias"), tmp_path / "alias" / "plain", tmp_path / "to")
    assert "plain" == got(store(tmp_path / "alias"), data / "plain", tmp_path / "to")


def test_links_in_a_circle_are_refused(data: Path) -> None:
    (data / "a").symlink_to("b")
    (data / "b").symlink_to("a")
    with pytest.raises(Refused, match="circle"):
        asyncio.run(store(data).head(f"folder://{data}/a"))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a directory"])
def test_special_files_are_named_and_hold_nobody(data: Path, tmp_path: Path, kind: str) -> None:
    """Opening a FIFO for reading waits for a writer that never comes."""
    special = data / "special"
    match kind:
        case "a FIFO":
            os.mkfifo(special)
        case "a socket":
            os.mknod(special, stat.S_IFSOCK | 0o600)
        case _:
            special.mkdir()
    for call in (store(data).head, lambda url: store(data).put_bytes(b"x", url)):
        with pytest.raises(Refused, match=f"it is {kind}: name a file"):
            asyncio.run(call(f"folder://{special}"))


def test_listing_leaves_out_links_and_special_files(data: Path) -> None:
    (data / "link").symlink_to("plain")
    os.mkfifo(data / "fifo")
    assert (f"folder://{data}/plain",) == asyncio.run(store(data).list(f"folder://{data}"))
    assert (f"folder://{data}/plain",) == asyncio.run(store(data).list(f"folder://{data}/plain"))


def test_a_failed_put_leaves_neither_a_new_file_nor_a_leftover(data: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file"):
        asyncio.run(store(data).put(str(tmp_path / "no-such-local-file"), f"folder://{data}/new"))
    assert [data / "plain"] == list(data.iterdir())


def test_stored_files_are_readable_as_the_umask_says(data: Path) -> None:
    """Outputs are for people; the mode of a private temporary file would lock them out."""
    asyncio.run(store(data).put_bytes(b"x", f"folder://{data}/new/file"))
    umask = os.umask(0)
    os.umask(umask)
    assert 0o666 & ~umask == stat.S_IMODE((data / "new" / "file").stat().st_mode)


def test_a_stricter_process_stores_with_the_umask_it_was_told(data: Path) -> None:
    """The runner's own umask keeps its state private, and must not lock people out of their outputs."""
    outer = os.umask(0o077)
    try:
        stored = FolderStore(Rights(paths=(str(data),)), umask=0o027)
        asyncio.run(stored.put_bytes(b"x", f"folder://{data}/new/file"))
    finally:
        os.umask(outer)
    assert 0o640 == stat.S_IMODE((data / "new" / "file").stat().st_mode)
    assert 0o750 == stat.S_IMODE((data / "new").stat().st_mode)


def test_a_file_that_changes_while_it_is_read_is_not_half_taken(data: Path, tmp_path: Path) -> None:
    """The reader is stopped in the middle by a FIFO as its target, so that the change happens for certain."""
    (data / "plain").write_bytes(b"a" * 3_000_000)
    target = tmp_path / "to"
    os.mkfifo(target)

    async def main() -> None:
        reading = asyncio.ensure_future(store(data).get(f"folder://{data}/plain", str(target)))
        reader = await asyncio.to_thread(os.open, target, os.O_RDONLY)
        await asyncio.to_thread(os.read, reader, 10)
        (data / "plain").write_bytes(b"b" * 3_000_000)
        while await asyncio.to_thread(os.read, reader, 1 << 20):
            if reading.done():
                break
        os.close(reader)
        await reading

    with pytest.raises(Unavailable, match="changed while it was read"):
        asyncio.run(main())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "size=64k,nr_inodes=4") as place:
        yield place


def test_a_full_disk_is_told_as_such_and_leaves_nothing(full_disk: Path, data: Path, tmp_path: Path) -> None:
    (data / "big").write_bytes(b"x" * 1_000_000)
    small = store(full_disk, data)
    with pytest.raises(OutOfSpace, match="no space or no inodes left"):
        asyncio.run(small.put(str(data / "big"), f"folder://{full_disk}/big"))
    with pytest.raises(OutOfSpace):
        asyncio.run(small.get(f"folder://{data}/big", str(full_disk / "big")))
    assert [] == list(full_disk.iterdir())


def test_full_inodes_are_told_as_a_full_disk(full_disk: Path) -> None:
    for index in range(3):
        (full_disk / str(index)).touch()
    with pytest.raises(OutOfSpace, match="df -i"):
        asyncio.run(store(full_disk).put_bytes(b"", f"folder://{full_disk}/more"))
