"""What an image is built from: packed without following a link that a job made, the same bytes for the same files."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.workspaces import FolderWorkspaces
from runner.errors import Refused
from runner.job import Key
from runner.ports import BuildContext

DOCKERFILE = ("Dockerfile", "FROM sha256:0\n")
LIMIT_BYTES = 1 << 20


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[tuple[FolderWorkspaces, Path]]:
    workspaces = FolderWorkspaces(str(root / "workspaces"))
    try:
        workspace = Path(await workspaces.create(Key("job"), 1))
        (workspace / "src" / "sub").mkdir(parents=True)
        (workspace / "src" / "Dockerfile").write_text("FROM evil\n")
        (workspace / "src" / "sub" / "run.sh").write_text("exit 0\n")
        (workspace / "src" / "sub" / "run.sh").chmod(0o4755)
        yield workspaces, workspace
    finally:
        await workspaces.close()


async def packed(workspaces: FolderWorkspaces, workspace: Path, path: str = "src") -> BuildContext:
    return await workspaces.pack_context(str(workspace), path, dockerfile=DOCKERFILE, limit_bytes=LIMIT_BYTES)


def test_the_same_files_make_the_same_bytes_and_the_dockerfile_is_the_one_that_was_checked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as (workspaces, workspace):
            (workspace / "src" / "link").symlink_to("/etc")
            os.mkfifo(workspace / "src" / "pipe")
            first = await packed(workspaces, workspace)
            with tarfile.open(first.local) as tar:
                assert tar.getnames() == ["sub", "sub/run.sh", "Dockerfile"]
                assert tar.getmember("sub/run.sh").mode == 0o755
                assert tar.extractfile("Dockerfile").read() == DOCKERFILE[1].encode()  # type: ignore[union-attr]
            assert first.left_out == 2
            os.utime(workspace / "src" / "sub" / "run.sh", (1, 1))
            (workspace / "src" / "Dockerfile").write_text("FROM another\n")
            assert await packed(workspaces, workspace) == first
            (workspace / "src" / "sub" / "run.sh").write_text("exit 1\n")
            assert (await packed(workspaces, workspace)).digest != first.digest
            await workspaces.drop_context(str(workspace))
            await workspaces.drop_context(str(workspace))
            assert not Path(first.local).exists()

    asyncio.run(scenario())


def test_a_context_goes_with_its_workspace(tmp_path: Path) -> None:
    """As after a kill in the middle of a build."""

    async def scenario() -> None:
        async with opened(tmp_path) as (workspaces, workspace):
            context = await packed(workspaces, workspace)
            await workspaces.remove(str(workspace))
            assert not Path(context.local).exists()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "dockerfile", "words"),
    [
        ("nowhere", "nowhere/Dockerfile", "cannot be read"),
        ("out", "out/passwd", "cannot be read"),
        ("src", "src/linked", "cannot be read: a link"),
        ("src", "src/sub", "a directory"),
        ("src", "src/binary", "cannot be read"),
        ("src", "src/large", "over 1 MiB"),
    ],
)
def test_nothing_is_read_through_a_link(tmp_path: Path, path: str, dockerfile: str, words: str) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as (workspaces, workspace):
            (workspace / "out").symlink_to("/etc")
            (workspace / "src" / "linked").symlink_to("/etc/passwd")
            (workspace / "src" / "binary").write_bytes(b"\xff\xfe")
            (workspace / "src" / "large").write_bytes(bytes(LIMIT_BYTES + 1))
            with pytest.raises(Refused, match=words):
                await workspaces.read_text(str(workspace), dockerfile)
            if path != "src":
                with pytest.raises(Refused, match=r"build\.path"):
                    await packed(workspaces, workspace, path)

    asyncio.run(scenario())


def test_a_file_that_only_looks_large_fills_no_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as (workspaces, workspace):
            with (workspace / "src" / "sparse").open("wb") as file:
                file.truncate(1 << 40)
            with pytest.raises(Refused, match=r"more than the 1\.0 MiB of disk"):
                await packed(workspaces, workspace)

    asyncio.run(scenario())
