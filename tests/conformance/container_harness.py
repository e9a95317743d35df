"""What the suite for container runtimes needs of each: where to open it, and a spec for it."""

from __future__ import annotations

import contextlib
import hashlib
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType

from adapters.containers.cgroup import Cgroups
from adapters.containers.process import ProcessContainers
from adapters.containers.secret_shelf import SecretShelf
from adapters.trees import remove_tree
from runner.errors import SecretMissing
from runner.job import Key, make_key
from runner.ports import Containers, ContainerSpec
from runner.records import Grant, Place

BOX = "5a0c7f31-7a57-4b0e-9df5-1c3a2d0c7e11"
OTHER_BOX = "0b5e9d7c-2c4d-47c1-8a11-f0d3a4e6b922"
MEMORY_BYTES = 256 << 20
UIDS = (1_900_000_000, 50)
NOTHING: Mapping[str, str] = MappingProxyType({})
KEY: Key = make_key("folder:///q", "digits", "first")


class Harness(ABC):
    """
    One runtime under test.

    ``open`` may be called again and again: what one opening started is there for the next. Commands in specs use ``sh``
    and ``python3`` alone.
    """

    image = ""

    limits_memory: bool
    """Whether a job over its memory limit is killed and told so."""

    raw_output: Path
    """Below it stands what jobs print, as they print it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Values by name, as the box has them; they are looked up at each start.
        self.secrets: dict[str, bytes] = {}
        # One for all lives of a runner on this directory, also those in processes of their own.
        self.in_memory = Path(f"/dev/shm/runner-test-{hashlib.sha256(bytes(directory)).hexdigest()[:16]}")
        self.places = (str(self.in_memory),)

    def shelf(self, box: str) -> SecretShelf:
        """Return where the secrets of this box's containers come from and stand."""
        return SecretShelf(box, self._values, self.places)

    def _values(self, names: Iterable[str]) -> dict[str, bytes]:
        for name in names:
            if name not in self.secrets:
                raise SecretMissing(f"this box has no secret {name}")
        return {name: self.secrets[name] for name in names}

    @abstractmethod
    def open(self, box: str = BOX) -> AbstractAsyncContextManager[Containers]:
        """Open the runtime as the runner of this box."""

    def workspace(self, name: str) -> Path:
        """Return the directory on this box that is the working directory of this container's job; made at first use."""
        path = self.directory / "workspaces" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def spec(
        self, name: str, *command: str, env: Mapping[str, str] = NOTHING, deadline_at: float | None = None
    ) -> ContainerSpec:
        """Return a spec with this command, its workspace, 256 MiB of memory, and whatever else the runtime needs."""
        return ContainerSpec(
            name=name,
            key=KEY,
            attempt=1,
            command=command,
            env=dict(env),
            workspace=str(self.workspace(name)),
            grant=Grant(places=(Place(memory=MEMORY_BYTES, cpus=1, disk=1 << 30),)),
            image=self.image,
            deadline_at=deadline_at,
        )

    async def clean(self) -> None:
        """End and forget everything that was started."""
        for box in (BOX, OTHER_BOX):
            async with self.open(box) as containers:
                for name in await containers.list_ours():
                    await containers.remove(name)
        remove_tree(str(self.in_memory))


class ProcessHarness(Harness):
    """Processes of this box; ``uid_range`` and ``cgroups`` as the runtime takes them."""

    def __init__(
        self, directory: Path, uid_range: tuple[int, int] | None = UIDS, cgroups: Cgroups | None = None
    ) -> None:
        super().__init__(directory)
        self._uid_range = uid_range
        self._cgroups = cgroups
        self.state_dir = self.raw_output = directory / "state"
        self.way = self._new(BOX).confinement().way
        self.limits_memory = "memory limit" not in self._new(BOX).limits_missing()
        if self.way == "uid":
            _let_pass(directory)

    @contextlib.asynccontextmanager
    async def open(self, box: str = BOX) -> AsyncIterator[ProcessContainers]:
        containers = self._new(box)
        try:
            yield containers
        finally:
            await containers.close()

    def _new(self, box: str) -> ProcessContainers:
        return ProcessContainers(
            str(self.state_dir),
            box_id=box,
            uid_range=self._uid_range,
            now=time.time,
            cgroups=self._cgroups,
            claims=str(self.directory / "claims"),
            shelf=self.shelf(box),
        )


def _let_pass(directory: Path) -> None:
    """Let the users of jobs through to a test's own directories, as to those below /var/lib."""
    everybodys = Path(tempfile.gettempdir())
    for path in (directory, *directory.parents):
        if path.is_relative_to(everybodys) and path != everybodys:
            path.chmod(path.stat().st_mode | stat.S_IXOTH)
