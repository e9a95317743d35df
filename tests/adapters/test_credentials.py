"""The watched directory: every file read whole or told why not, and a hint soon after anything changes."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest

from adapters.credentials import DirectoryCredentials
from runner.credential import CredentialFile
from tests.adapters.unprivileged import owned_directory, somebody

T = TypeVar("T")
FOLDER = 'kind = "folder"\nurl = "folder:///q"\n'


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    (tmp_path / "certs").mkdir()
    return tmp_path / "certs"


def write(path: Path, text: str = FOLDER, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def scan(certs: Path) -> dict[str, CredentialFile]:
    return {file.file: file for file in asyncio.run(DirectoryCredentials(str(certs)).scan())}


def test_files_come_sorted_with_a_digest_of_their_content(certs: Path) -> None:
    for name in ("b.toml", "a.toml", "c"):
        write(certs / name)
    write(certs / "d", "rubbish")
    files = asyncio.run(DirectoryCredentials(str(certs)).scan())
    assert ["a.toml", "b.toml", "c", "d"] == [file.file for file in files]
    assert (1, 2) == (len({file.content for file in files[:3]}), len({file.content for file in files}))
    assert [True, True, True, False] == [file.credential is not None for file in files]
    assert 'd is no TOML at its end: write lines like kind = "folder"' == files[3].reason


def test_what_editors_and_kubernetes_leave_about_is_skipped(certs: Path) -> None:
    for name in (".hidden", "a.toml~", ".a.toml.swp", "#a.toml#", "4913", "a.toml.bak", "a.toml.dpkg-old", "a.tmp"):
        write(certs / name)
    (certs / "directory").mkdir()
    assert {} == scan(certs)


def test_a_missing_directory_holds_nothing(tmp_path: Path) -> None:
    assert ({}, ()) == (scan(tmp_path / "none"), asyncio.run(DirectoryCredentials("").scan()))


def test_a_kubernetes_secret_is_read_through_its_links_and_its_change_is_seen(certs: Path) -> None:
    """The link to the whole set is exchanged; the links to its files stay the same."""
    for generation, text in (("..2024", FOLDER), ("..2025", FOLDER + "weight = 2\n")):
        (certs / generation).mkdir()
        write(certs / generation / "queue.toml", text, 0o644)
    (certs / "..data").symlink_to("..2024")
    (certs / "queue.toml").symlink_to("..data/queue.toml")
    before = scan(certs)["queue.toml"]
    (certs / "..new").symlink_to("..2025")
    (certs / "..new").rename(certs / "..data")
    after = scan(certs)["queue.toml"]
    assert before.credential is not None
    assert after.credential is not None
    assert (1.0, 2.0) == (before.credential.rights.weight, after.credential.rights.weight)
    assert before.content != after.content
    assert "queue.toml is open to other users (mode 0644): set defaultMode: 0400 on its volume" == after.warning


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602])
def test_loose_modes_are_warned_of_with_the_line_to_type(certs: Path, mode: int) -> None:
    write(certs / "a.toml", mode=mode)
    file = scan(certs)["a.toml"]
    assert file.credential is not None
    assert f"a.toml is open to other users (mode {mode:04o}): chmod 600 {certs}/a.toml" == file.warning


def test_tight_modes_are_not(certs: Path) -> None:
    write(certs / "a.toml", mode=0o400)
    assert "" == scan(certs)["a.toml"].warning


@pytest.mark.timeout(10)
def test_what_is_no_readable_file_is_in_the_list_with_its_reason(certs: Path) -> None:
    os.mkfifo(certs / "fifo")
    (certs / "nowhere").symlink_to("gone")
    with (certs / "large").open("wb") as file:
        file.truncate((1 << 20) + 1)
    reasons = {name: file.reason for name, file in scan(certs).items()}
    assert {
        "fifo": "fifo is no file",
        "large": "large is over 1 MiB, which no credential is",
        "nowhere": "nowhere cannot be read: No such file or directory",
    } == reasons


def test_a_file_that_may_not_be_read_is_in_the_list_with_its_reason() -> None:
    with owned_directory() as place, somebody():
        write(place / "shut.toml", mode=0o000)
        assert "shut.toml cannot be read: Permission denied" == scan(place)["shut.toml"].reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file_gives_no_rights(certs: Path) -> None:
    """Who may drop a file into a loose directory would else say what the box's jobs may read."""
    write(certs / "a.toml")
    os.chown(certs / "a.toml", 12345, 12345)
    expected = "a.toml belongs to user 12345: only files of root and of the runner's own user are used"
    assert expected == scan(certs)["a.toml"].reason


async def within(limit_s: float, what: Awaitable[T]) -> T:
    return await asyncio.wait_for(what, limit_s)


def hinted(certs: Path, change: Callable[[], object]) -> float:
    """Return the seconds from a change to its hint, beginning when the watch stands."""

    async def main() -> float:
        async with aclosing(DirectoryCredentials(str(certs), absent_s=0.02).changes()) as hints:
            await within(5, anext(hints))
            change()
            begun = time.monotonic()
            await within(20, anext(hints))
            return time.monotonic() - begun

    return asyncio.run(main())


def test_a_new_file_is_hinted_at_long_before_the_next_scan(certs: Path) -> None:
    assert hinted(certs, lambda: write(certs / "a.toml")) < 2


def test_a_changed_and_a_deleted_file_are_hinted_at(certs: Path) -> None:
    write(certs / "a.toml")
    assert hinted(certs, lambda: write(certs / "a.toml", FOLDER + "weight = 2")) < 2
    assert hinted(certs, (certs / "a.toml").unlink) < 2


def test_an_exchanged_link_is_hinted_at(certs: Path) -> None:
    (certs / "..data").symlink_to("..2024")
    (certs / "..new").symlink_to("..2025")
    assert hinted(certs, lambda: (certs / "..new").rename(certs / "..data")) < 2


def test_a_watch_that_nobody_awaits_any_more_ends(certs: Path) -> None:
    async def main() -> None:
        async with aclosing(DirectoryCredentials(str(certs)).changes()) as hints:
            await within(5, anext(hints))
            waiting = asyncio.ensure_future(anext(hints))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(5, waiting)

    asyncio.run(main())


def test_a_directory_that_appears_is_hinted_at(tmp_path: Path) -> None:
    assert hinted(tmp_path / "later", (tmp_path / "later").mkdir) < 5
