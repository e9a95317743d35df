"""How a folder queue is told from other directories, and what is said where it cannot be one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from adapters.queues.folder import FolderBroker
from runner.errors import ConfigurationError, Unavailable
from tests.adapters.queues.folder_queues import folder_queue
from tests.adapters.unprivileged import NOBODY, owned_directory, somebody
from tests.tiny_disk import tiny_disk


def broker_of(root: Path, *, single: bool = False) -> FolderBroker:
    return FolderBroker(str(root), box_id="box-1", now=time.time, lease_s=60, single=single)


def names_of(root: Path) -> tuple[str, ...]:
    async def main() -> tuple[str, ...]:
        broker = broker_of(root)
        try:
            return await broker.queues()
        finally:
            await broker.close()

    return asyncio.run(main())


def made(root: Path, name: str = "", *, single: bool = False) -> str:
    """Open and close a queue, which makes it; return its identity."""

    async def main() -> str:
        broker = broker_of(root, single=single)
        try:
            queue = await broker.open(name or root.name)
            await queue.close()
            return queue.identity
        finally:
            await broker.close()

    return asyncio.run(main())


def refusal(root: Path, name: str = "", *, single: bool = False) -> str:
    with pytest.raises(ConfigurationError) as caught:
        made(root, name, single=single)
    return str(caught.value)


def test_a_directory_is_one_queue_or_the_parent_of_several(tmp_path: Path) -> None:
    assert ("new",) == names_of(tmp_path / "new"), "what is not there yet will be one queue"
    assert not (tmp_path / "new").exists(), "looking makes nothing"
    (tmp_path / "parent" / "no queue").mkdir(parents=True)
    assert () == names_of(tmp_path / "parent")
    identities = {made(tmp_path / "parent", name) for name in ("b", "a")}
    assert 2 == len(identities)
    assert ("a", "b") == names_of(tmp_path / "parent")
    assert ("a",) == names_of(tmp_path / "parent" / "a")


def test_a_queue_is_its_owners_alone(tmp_path: Path) -> None:
    """Jobs carry secrets, and who may write here may run what they like."""
    made(tmp_path / "deep" / "queue")
    directories = [path for path in (tmp_path / "deep").rglob("*") if path.is_dir()]
    assert {0o700} == {path.stat().st_mode & 0o777 for path in [tmp_path / "deep", *directories]}


def test_the_identity_goes_with_the_directory(tmp_path: Path) -> None:
    """Two boxes may mount one share at different places."""
    identity = made(tmp_path / "queue")
    (tmp_path / "mounted elsewhere").symlink_to(tmp_path / "queue")
    assert identity == made(tmp_path / "mounted elsewhere", single=True)
    (tmp_path / "queue").rename(tmp_path / "moved")
    assert identity == made(tmp_path / "moved")
    assert str(uuid.UUID(identity)) == identity


def test_many_that_make_a_queue_at_once_agree(tmp_path: Path) -> None:
    async def main() -> set[str]:
        brokers = [broker_of(tmp_path / "queue", single=True) for _ in range(10)]
        queues = await asyncio.gather(*(broker.open("queue") for broker in brokers))
        for queue in queues:
            await queue.close()
        for broker in brokers:
            await broker.close()
        return {queue.identity for queue in queues}

    assert 1 == len(asyncio.run(main()))


def test_parts_that_are_missing_are_made_again(tmp_path: Path) -> None:
    """A backup that leaves out empty directories, or a kill while the queue was made."""
    identity = made(tmp_path / "queue")
    for part in ("tmp", "later", "ready"):
        for path in (tmp_path / "queue" / part).iterdir():
            path.unlink()
        (tmp_path / "queue" / part).rmdir()
    assert identity == made(tmp_path / "queue")
    (tmp_path / "half" / "ready").mkdir(parents=True)
    assert made(tmp_path / "half", single=True)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "\0"])
def test_a_queues_name_is_no_path(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        broker = broker_of(tmp_path)
        try:
            with pytest.raises(ConfigurationError, match="queue name"):
                await broker.open(name)
        finally:
            await broker.close()

    asyncio.run(main())


# What cannot be a queue


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert "thesis.tex" in refusal(tmp_path, single=True)
    assert ["thesis.tex"] == [path.name for path in tmp_path.iterdir()]


def test_the_parent_of_queues_is_none_itself(tmp_path: Path) -> None:
    made(tmp_path / "parent", "train")
    made(tmp_path / "parent", "eval")
    assert "eval, train: name one of them with ?queue=" in refusal(tmp_path / "parent", single=True)


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_is_no_queue(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    assert "no directory" in refusal(tmp_path / "file" / below, single=True)


@pytest.mark.parametrize("content", ['{"identity": "x", "format": 2}', "{}", "", "\xff"])
def test_a_marker_of_another_version_is_refused(tmp_path: Path, content: str) -> None:
    made(tmp_path / "queue")
    (tmp_path / "queue" / "queue.json").write_text(content, "latin-1")
    assert "later version, or damaged" in refusal(tmp_path / "queue")


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        made(disk / "queue")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert f"open queue {disk / 'new'}" in refusal(disk / "new", single=True)
        assert "mount it writable" in refusal(disk / "new", single=True)
        assert "mount it writable" in refusal(disk / "queue", single=True)


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_somebody_elses_queue_is_named(mode: int) -> None:
    """The message says who may not write, since `sudo` is where this comes from."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be two users")
    with owned_directory() as directory:
        root = directory / "queue"
        made(root)
        root.chmod(mode)
        with somebody():
            text = refusal(root, single=True)
    assert f"open queue {root}" in text
    assert f"user {NOBODY} may not write to {root}" in text


def test_what_is_unplugged_while_it_is_open_is_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        async with folder_queue(tmp_path / "queue") as queue:
            await queue.put(b"x", job_id="a")
            (tmp_path / "queue").rename(tmp_path / "gone")
            for call in (queue.fetch(0), queue.put(b"x", job_id="b")):
                with pytest.raises(Unavailable, match=str(tmp_path / "queue")):
                    await call
            (tmp_path / "gone").rename(tmp_path / "queue")
            assert await queue.fetch(0) is not None

    asyncio.run(main())
