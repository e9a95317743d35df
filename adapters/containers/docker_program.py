"""
Whether a container that was created could run its command, before it is started.

The engine starts its own init process, which is always there; that the command is not would look like an exit of the
job. So the command is looked up in the container's files as the kernel would. What was found in an image is remembered,
since an image never changes.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterator

import msgspec

from adapters.containers.docker_engine import Engine, EngineRefusal
from adapters.containers.docker_spec import WORK
from adapters.containers.docker_state import Made
from runner.errors import BadInput

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# These are empty until the container runs.
_MADE_AT_START = ("/proc/", "/sys/", "/dev/", "/run/", "/tmp/")  # noqa: S108 - paths of the container's own
_REMEMBERED = 512
_STAT_HEADER = "X-Docker-Container-Path-Stat"
_DIRECTORY, _LINK = 1 << 31, 1 << 27


class _Stat(msgspec.Struct, frozen=True):
    """One file as the engine tells it, with Go's mode bits."""

    mode: int

    @property
    def can_run(self) -> bool:
        # A link is taken at its word; the engine does not tell the mode of what it points to.
        return bool(self.mode & _LINK) or (not self.mode & _DIRECTORY and bool(self.mode & 0o111))


class Programs:
    """What is known of the programs in images."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # (image id, PATH, command) that can run, oldest first.
        self._found: dict[tuple[str, str, str], None] = {}

    async def check(self, created: Made, program: str, because: str = "") -> None:
        """
        Look a command up; ``because`` says what for, where the job does not name it.

        Raises:
            BadInput: the container has no such program, or it may not be run.
        """
        path = _path_of(created)
        key = (created.image, path, program)
        if key in self._found or not await self._is_missing(created.id, program, path):
            if not _is_the_jobs(program):
                self._remember(key)
            return
        where = f"looked in {path}" if "/" not in program else "no such program file"
        if because:
            raise BadInput(f"{because}, and this image has no `{program}`: {where}; put one in, or write one command")
        raise BadInput(f"command {program!r} cannot be run in this image: {where}")

    async def _is_missing(self, container_id: str, program: str, path: str) -> bool:
        for candidate in _candidates(program, path):
            if candidate.startswith(_MADE_AT_START):
                return False
            found = await self._stat(container_id, candidate)
            if found is not None and found.can_run:
                return False
        return True

    async def _stat(self, container_id: str, path: str) -> _Stat | None:
        address = f"containers/{container_id}/archive"
        try:
            async with (
                self._engine.call(f"look for {path} in container {container_id}") as docker,
                self._engine.send(docker, "HEAD", address, path=path) as answer,
            ):
                return msgspec.json.decode(base64.b64decode(answer.headers[_STAT_HEADER]), type=_Stat)
        except EngineRefusal as refusal:
            refusal.unless_absent()
            return None

    def _remember(self, key: tuple[str, str, str]) -> None:
        self._found[key] = None
        if len(self._found) > _REMEMBERED:
            del self._found[next(iter(self._found))]


def _path_of(created: Made) -> str:
    variables = [variable.removeprefix("PATH=") for variable in created.env if variable.startswith("PATH=")]
    return variables[-1] if variables else DEFAULT_PATH


def _candidates(program: str, path: str) -> Iterator[str]:
    if "/" in program:
        yield posixpath.normpath(posixpath.join(WORK, program))
        return
    for directory in path.split(":"):
        yield posixpath.normpath(posixpath.join(WORK, directory, program))


def _is_the_jobs(program: str) -> bool:
    """Tell whether it may stand in the workspace, which is another one each time."""
    return "/" in program and posixpath.normpath(posixpath.join(WORK, program)).startswith(f"{WORK}/")
