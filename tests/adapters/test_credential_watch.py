"""How directories of credential files really change: whole sets exchanged, editors, half a file, no directory."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from adapters.credentials import DirectoryCredentials
from runner.credential import Credential, CredentialFile
from tests.adapters.unprivileged import owned_directory, somebody
from tests.tiny_disk import tiny_disk

FOLDER = 'kind = "folder"\nurl = "folder:///q"\n'
SWAPS = 1000
SOON_S = 10.0


class Secret:
    """A Kubernetes Secret as its node writes it: a directory for each set, one link to the newest, links to that."""

    def __init__(self, mount: Path) -> None:
        self._mount, self._set = mount, 0

    def write(self, **files: str) -> None:
        """Exchange the whole set."""
        before, self._set = self._set, self._set + 1
        fresh = self._mount / f"..2026_11_22_{self._set}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        link = self._mount / "..data_tmp"
        link.symlink_to(fresh.name)
        link.rename(self._mount / "..data")
        for name in files:
            if not (self._mount / name).is_symlink():
                (self._mount / name).symlink_to(f"..data/{name}")
        if before:
            self._remove(self._mount / f"..2026_11_22_{before}")

    def _remove(self, old: Path) -> None:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def weighing(weight: int) -> str:
    return f"{FOLDER}weight = {weight}\n"


def account(number: int) -> dict[str, str]:
    """Return the files of an AWS account; each tells its number."""
    keys = f"[default]\naws_access_key_id = A{number}\naws_secret_access_key = S{number}\n"
    return {"credentials": keys, "config": f"[default]\nregion = eu-west-{number}\n"}


def credential(files: tuple[CredentialFile, ...], name: str) -> Credential:
    found = {file.file: file for file in files}[name]
    assert found.credential is not None, found.reason
    return found.credential


def region(read: Credential) -> int:
    """Return the number that all parts of an account agree on."""
    keys = {read.secrets[name].reveal()[1:] for name in ("access_key", "secret_key")}
    assert {read.url.removeprefix("sqs://eu-west-").rstrip("/")} == keys
    return int(keys.pop())


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    (tmp_path / "certs").mkdir()
    return tmp_path / "certs"


class Watching:
    """One that scans at every hint, and waits until a scan shows something."""

    def __init__(self, certs: Path, hints: AsyncGenerator[None, None], watched: DirectoryCredentials) -> None:
        self._hints, self._watched, self._certs = hints, watched, certs
        self.seen: list[tuple[CredentialFile, ...]] = []

    async def look(self) -> tuple[CredentialFile, ...]:
        self.seen.append(await self._watched.scan())
        return self.seen[-1]

    async def until(self, shown: Callable[[tuple[CredentialFile, ...]], object], limit_s: float = SOON_S) -> None:
        async with asyncio.timeout(limit_s):
            while True:
                if shown(await self.look()):
                    return
                await anext(self._hints)


def watch(certs: Path, steps: Callable[[Watching], object], *, rescan_s: float = 60.0) -> None:
    """Let a scene happen beside one who watches; a scan that no hint asked for would come too late to count."""

    async def main() -> None:
        watched = DirectoryCredentials(str(certs), absent_s=0.02, rescan_s=rescan_s)
        async with aclosing(watched.changes()) as hints:
            await asyncio.wait_for(anext(hints), SOON_S)
            await steps(Watching(certs, hints, watched))  # type: ignore[misc]  # an async function

    asyncio.run(main())


def names(files: tuple[CredentialFile, ...]) -> list[str]:
    return [file.file for file in files]


# Kubernetes


@pytest.mark.slow
def test_a_thousand_swaps_of_a_secret_are_never_seen_torn_and_the_last_is_seen(certs: Path) -> None:
    """Keys of one set and the region of another would be a login that never was."""
    secret = Secret(certs)
    secret.write(**account(1), **{"queue.toml": weighing(1)})

    def swap() -> None:
        for number in range(2, SWAPS + 1):
            secret.write(**account(number), **{"queue.toml": weighing(number)})

    async def scene(watching: Watching) -> None:
        swapping = threading.Thread(target=swap)
        swapping.start()
        while swapping.is_alive():
            await watching.look()
        await watching.until(lambda files: region(credential(files, "credentials")) == SWAPS, 60)
        swapping.join()
        assert len(watching.seen) > 20
        for files in watching.seen:
            assert names(files) == ["credentials", "queue.toml"]
        told = [credential(files, "queue.toml").rights.weight for files in watching.seen]
        assert told == sorted(told)
        assert told == [float(region(credential(files, "credentials"))) for files in watching.seen]

    watch(certs, scene)


def test_an_account_in_a_directory_of_its_own_is_found_changed_and_let_go(certs: Path) -> None:
    """A Secret for each account, mounted below the directory that is watched."""

    async def scene(watching: Watching) -> None:
        (certs / "lab").mkdir()
        secret = Secret(certs / "lab")
        secret.write(**account(1))
        await watching.until(lambda files: names(files) == ["lab/credentials"])
        assert region(credential(watching.seen[-1], "lab/credentials")) == 1
        secret.write(**account(2))
        await watching.until(lambda files: region(credential(files, "lab/credentials")) == 2)
        before = {file.content for files in watching.seen for file in files}
        secret.write(credentials=account(2)["credentials"], config=account(2)["config"] + "output = json\n")
        await watching.until(lambda files: not {file.content for file in files} <= before)
        (certs / "lab").rename(certs.parent / "elsewhere")
        await watching.until(lambda files: not files)

    watch(certs, scene)


def test_directories_inside_one_secret_are_exchanged_with_it(certs: Path) -> None:
    """A projected volume writes paths: the directory itself is a link into the set."""
    for number in (1, 2):
        (certs / f"..{number}" / "lab").mkdir(parents=True)
        for name, text in account(number).items():
            (certs / f"..{number}" / "lab" / name).write_text(text)
            (certs / f"..{number}" / "lab" / name).chmod(0o644)
    (certs / "..data").symlink_to("..1")
    (certs / "lab").symlink_to("..data/lab")

    async def scene(watching: Watching) -> None:
        await watching.until(lambda files: region(credential(files, "lab/credentials")) == 1)
        (certs / "..data_tmp").symlink_to("..2")
        (certs / "..data_tmp").rename(certs / "..data")
        await watching.until(lambda files: region(credential(files, "lab/credentials")) == 2)
        assert watching.seen[-1][0].warning.endswith("(mode 0644): set defaultMode: 0400 on its volume")

    watch(certs, scene)


def test_a_file_system_mounted_below_is_found_and_watched(certs: Path) -> None:
    """No notice tells of a mount, so it is seen at the next look, and its changes at once."""

    async def scene(watching: Watching) -> None:
        with tiny_disk(certs / "lab") as mount:
            (mount / "a.toml").write_text(weighing(1))
            await watching.until(lambda files: names(files) == ["lab/a.toml"])
            (mount / "a.toml").write_text(weighing(2))
            await watching.until(lambda files: credential(files, "lab/a.toml").rights.weight == 2)
        await watching.until(lambda files: not files)

    watch(certs, scene, rescan_s=0.2)


# Directories


def test_links_that_lead_in_circles_are_followed_once(certs: Path) -> None:
    (certs / "lab").mkdir()
    (certs / "lab" / "a.toml").write_text(FOLDER)
    (certs / "here").symlink_to(".")
    (certs / "lab" / "up").symlink_to("..")
    (certs / "same").symlink_to("lab")
    (certs / "lost").symlink_to("lost")
    (certs / "lab" / "deeper").mkdir()
    (certs / "lab" / "deeper" / "b.toml").write_text(FOLDER)
    files = asyncio.run(DirectoryCredentials(str(certs)).scan())
    assert names(files) == ["lab/a.toml", "lost"]
    assert files[1].reason == "lost cannot be read: Too many levels of symbolic links"


def test_a_config_without_keys_is_told_and_certificates_are_not(certs: Path) -> None:
    (certs / "config").write_text(account(1)["config"])
    (certs / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (file,) = asyncio.run(DirectoryCredentials(str(certs)).scan())
    assert file.reason == "config is an AWS config without a credentials file beside it: add one, or take it away"


def test_the_whole_directory_may_go_and_come_back(certs: Path) -> None:
    """As a deployment does that makes it anew; what is written there afterwards is seen at once."""

    async def scene(watching: Watching) -> None:
        for number in range(1, 4):
            (certs / "a.toml").write_text(weighing(number))
            await watching.until(lambda files, number=number: files and _weighs(files, number))  # type: ignore[misc]
            (certs / "a.toml").unlink()
            certs.rmdir()
            await watching.until(lambda files: not files)
            certs.mkdir()
        (certs / "a.toml").write_text(weighing(9))
        await watching.until(lambda files: files and _weighs(files, 9))

    watch(certs, scene)


def _weighs(files: tuple[CredentialFile, ...], weight: int) -> bool:
    return credential(files, "a.toml").rights.weight == weight


def test_where_no_notice_comes_a_look_is_taken_anyway(certs: Path) -> None:
    """On file servers and some overlays nothing tells of a change."""

    async def main() -> None:
        async with aclosing(DirectoryCredentials(str(certs), rescan_s=0.02).changes()) as hints:
            for _ in range(4):
                await asyncio.wait_for(anext(hints), SOON_S)

    asyncio.run(main())


# Editors, and others who write


def by_vim(file: Path, text: str) -> None:
    """Keep the old one aside, write anew under its name, and take the old one away."""
    (file.parent / "4913").write_text("")
    (file.parent / "4913").unlink()
    file.rename(file.with_name(f"{file.name}~"))
    file.write_text(text)
    file.with_name(f"{file.name}~").unlink()


def by_emacs(file: Path, text: str) -> None:
    """Lock by a link that leads nowhere, save aside, and rename over it."""
    lock, saved = file.with_name(f".#{file.name}"), file.with_name(f"#{file.name}#")
    lock.symlink_to("somebody@host:1")
    saved.write_text(text)
    saved.rename(file)
    lock.unlink()


def by_sed(file: Path, text: str) -> None:
    """Write aside under a strange name and rename over it."""
    aside = file.with_name("sedKx2Qb1")
    aside.write_text(text)
    aside.rename(file)


def by_nano(file: Path, text: str) -> None:
    """Cut it to nothing and write it again."""
    with file.open("w") as opened:
        opened.flush()
        opened.write(text)


def by_git(file: Path, text: str) -> None:
    """Take it away and write it again."""
    file.unlink()
    file.write_text(text)


def by_pieces(file: Path, text: str) -> None:
    """Write it a byte at a time."""
    with file.open("w", buffering=1) as opened:
        for letter in text:
            opened.write(letter)
            opened.flush()


@pytest.mark.slow
@pytest.mark.parametrize("save", [by_vim, by_emacs, by_sed, by_nano, by_git, by_pieces])
def test_a_file_that_is_saved_is_never_gone_meanwhile(certs: Path, save: Callable[[Path, str], None]) -> None:
    """Else its queues are let go, and with ``on_removed = "cancel"`` their jobs are ended, since somebody edits it."""
    file = certs / "a.toml"
    file.write_text(weighing(1))

    async def main() -> None:
        watched = DirectoryCredentials(str(certs))
        assert _is(await watched.scan(), 1)
        for number in range(2, 30):
            saving = asyncio.to_thread(save, file, weighing(number))
            files, _ = await asyncio.gather(watched.scan(), saving)
            assert _is(files, number - 1) or _is(files, number)

    asyncio.run(main())


def _is(files: tuple[CredentialFile, ...], weight: int) -> bool:
    found = {file.file: file.credential for file in files}["a.toml"]
    return found is not None and found.rights.weight == weight


def test_half_a_file_is_named_until_the_rest_is_written(certs: Path) -> None:
    file = certs / "a.toml"
    file.write_text(FOLDER)

    async def scene(watching: Watching) -> None:
        await watching.until(lambda files: credential(files, "a.toml"))
        with file.open("w") as opened:
            opened.write(weighing(2)[:20])
            opened.flush()
            await watching.until(lambda files: files[0].credential is None)
            assert watching.seen[-1][0].reason.startswith("a.toml is no TOML at ")
            opened.write(weighing(2)[20:])
        await watching.until(lambda files: _is(files, 2))

    watch(certs, scene)


def test_a_file_that_is_gone_for_good_is_gone_from_the_next_scan(certs: Path) -> None:
    """A second look is taken at once, not at the next hint."""
    (certs / "a.toml").write_text(FOLDER)

    async def main() -> None:
        watched = DirectoryCredentials(str(certs))
        assert names(await watched.scan()) == ["a.toml"]
        (certs / "a.toml").unlink()
        assert await watched.scan() == ()

    asyncio.run(main())


def test_a_directory_below_that_may_not_be_read_is_named_and_hides_no_other() -> None:
    with owned_directory() as place, somebody():
        (place / "open.toml").write_text(FOLDER)
        (place / "shut").mkdir(mode=0o000)

        async def scene(watching: Watching) -> None:
            await watching.until(lambda files: names(files) == ["open.toml", "shut/"])
            assert watching.seen[-1][1].reason == "shut/ cannot be read: Permission denied"
            (place / "new.toml").write_text(FOLDER)
            await watching.until(lambda files: names(files) == ["new.toml", "open.toml", "shut/"])

        watch(place, scene)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what nobody may")
def test_a_directory_below_that_belongs_to_another_gives_no_rights(certs: Path) -> None:
    (certs / "lab").mkdir()
    (certs / "lab" / "a.toml").write_text(FOLDER)
    os.chown(certs / "lab" / "a.toml", 12345, 12345)
    (file,) = asyncio.run(DirectoryCredentials(str(certs)).scan())
    assert file.reason.startswith("lab/a.toml belongs to user 12345")
