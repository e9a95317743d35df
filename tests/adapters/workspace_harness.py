"""Workspaces in a temporary directory, and calls without the loop around them."""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from adapters.collecting import CollectLimits
from adapters.workspaces import FolderWorkspaces
from runner.job import Input, Key, Output
from runner.ports import CollectedFile
from runner.receipt import InputAccount

KEY = Key("digits-1.0123456789abcdef")


@dataclass
class Harness:
    """One workspace of a job; ``place`` and ``collect`` as the actors call them."""

    root: Path
    limits: CollectLimits | None = None
    workspaces: FolderWorkspaces = field(init=False)
    path: Path = field(init=False)

    def __enter__(self) -> Self:
        self.workspaces = FolderWorkspaces(str(self.root / "workspaces"), collect_limits=self.limits)
        self.path = self.create()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run(self.workspaces.close())

    def create(self, attempt: int = 1) -> Path:
        return Path(asyncio.run(self.workspaces.create(KEY, attempt)))

    def place(self, item: Input, source: bytes | None = None) -> InputAccount:
        if source is None:
            return self.place_from(item, None)
        (self.root / "source").write_bytes(source)
        return self.place_from(item, self.root / "source")

    def place_from(self, item: Input, source: Path | None) -> InputAccount:
        return asyncio.run(self.workspaces.place(str(self.path), item, None if source is None else str(source)))

    def collect(self, output: Output) -> tuple[CollectedFile, ...]:
        return asyncio.run(self.workspaces.collect(str(self.path), output, "digits-1"))

    def write(self, name: str, data: bytes = b"data") -> Path:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(data)
        return self.path / name


def problems(files: tuple[CollectedFile, ...]) -> dict[str, str]:
    return {file.path: file.problem for file in files if file.problem}


def contents(files: tuple[CollectedFile, ...]) -> dict[str, bytes]:
    """Return by name what the store would read."""
    return {file.name: Path(file.local).read_bytes() for file in files if not file.problem}


def mode(path: Path) -> int:
    return os.lstat(path).st_mode & 0o7777
