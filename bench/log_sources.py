"""The same writers without a runner, for the limits and the seeds' way: a process into a file, or a container."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from adapters.containers.docker_spec import Arranged, DockerSettings, request
from bench.log_children import BenchError
from bench.log_engine import Runtime, call, opened_socket
from bench.log_writer import Work
from runner.job import make_key
from runner.ports import ContainerSpec
from runner.records import Grant, Place

READ_BYTES = 1 << 20
UID = 64_321
MEMORY_BYTES = 64 << 20
FRAME_HEADER_BYTES = 8
"""An engine sends them before what it read at once; the first of those has the first line."""


class Source(ABC):
    """One writer that was not started yet; ``name`` is its file, or its container."""

    header_bytes = 0

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def start(self) -> None:
        """Let it write."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Tell whether nothing more will be written."""

    @abstractmethod
    def blocks(self) -> Iterator[bytes]:
        """Start it, and yield all that it writes; nothing where there is nothing now."""


class Written(Source):
    """A process that writes to a file."""

    def __init__(self, name: str, work: Work) -> None:
        super().__init__(name)
        self._work = work
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with Path(self.name).open("ab") as out:
            self.process = subprocess.Popen(self._work.command, stdout=out, stderr=subprocess.DEVNULL)

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def blocks(self) -> Iterator[bytes]:
        with Path(self.name).open("rb", buffering=0) as file:
            self.start()
            while True:
                ended = self.has_ended()
                while data := file.read(READ_BYTES):
                    yield data
                if ended:
                    return
                yield b""


class Contained(Source):
    """A container, created just as the runner does."""

    header_bytes = FRAME_HEADER_BYTES

    def __init__(self, name: str, runtime: Runtime) -> None:
        super().__init__(name)
        self._runtime = runtime

    def start(self) -> None:
        call(self._runtime, "POST", f"/containers/{self.name}/start")

    def has_ended(self) -> bool:
        return not json.loads(call(self._runtime, "GET", f"/containers/{self.name}/json"))["State"]["Running"]

    def blocks(self) -> Iterator[bytes]:
        with opened_socket(self._runtime) as stream:
            target = f"/containers/{self.name}/attach?stream=1&stdout=1"
            stream.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += stream.recv(READ_BYTES)
            if not answer.startswith(b"HTTP/1.1 101"):
                raise BenchError(f"cannot attach: {answer!r}")
            self.start()
            while data := stream.recv(READ_BYTES):
                yield data


@contextmanager
def source(runtime: Runtime, directory: Path, work: Work) -> Iterator[Source]:
    """Make one of a runtime; gone at the end."""
    name = f"bench-{secrets.token_hex(4)}"
    made = _contained(runtime, directory, name, work) if runtime.engine else _written(directory, name, work)
    with made as it:
        yield it


@contextmanager
def _written(directory: Path, name: str, work: Work) -> Iterator[Source]:
    it = Written(str(directory / name), work)
    Path(it.name).touch()
    try:
        yield it
    finally:
        if it.process is not None:
            it.process.kill()
            it.process.wait()
        Path(it.name).unlink()


@contextmanager
def _contained(runtime: Runtime, directory: Path, name: str, work: Work) -> Iterator[Source]:
    workspace = directory / name
    workspace.mkdir()
    os.chown(workspace, UID, UID)
    grant = Grant(places=(Place(memory=MEMORY_BYTES, cpus=work.cpus, disk=64 << 20),))
    key = make_key("bench", name, "1")
    spec = ContainerSpec(name, key, 1, tuple(work.command), {}, str(workspace), grant, image=runtime.image)
    settings = DockerSettings(box="bench", directory=str(directory), log_budget_bytes=4 * work.bytes)
    body = request(spec, settings, Arranged(uid=UID, owner=UID, deadline_directory=str(directory)))
    call(runtime, "POST", f"/containers/create?name={name}", json.dumps(body))
    try:
        yield Contained(name, runtime)
    finally:
        call(runtime, "DELETE", f"/containers/{quote(name)}?force=1&v=1")
