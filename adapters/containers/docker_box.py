"""
The containers of one box as the engine knows them: found by name or label, measured, deleted.

Whose a container is, and what it is called here, stands in its labels; those of others are as if they were not there.
What the engine calls it says the box, too, since two boxes on one engine may run attempts of the same job.
"""

from __future__ import annotations

import hashlib
import json

import msgspec

from adapters.containers.docker_engine import Engine, EngineRefusal, decoded
from adapters.containers.docker_spec import DEADLINE_DIRECTORY, NAME
from adapters.containers.docker_state import LABEL_BOX, LABEL_NAME, Engineered, Inspected, Mount
from adapters.containers.docker_usage import Sample
from runner.errors import Unavailable

HTTP_CONFLICT = 409
REMOVE_S = 60.0


def engine_name(name: str, box: str) -> str:
    """Return what an engine calls a container of a box when it is made."""
    return f"{name}.{hashlib.sha256(box.encode()).hexdigest()[:8]}"


class Listed(msgspec.Struct, frozen=True):
    """One container in the engine's list; names begin with a slash."""

    id: str = msgspec.field(name="Id")
    names: list[str] = msgspec.field(name="Names")
    labels: dict[str, str] = msgspec.field(name="Labels", default_factory=dict)
    mounts: tuple[Mount, ...] = msgspec.field(name="Mounts", default=())

    @property
    def name(self) -> str:
        """What it is called here; one that an earlier version made is called as the engine does."""
        return self.labels.get(LABEL_NAME) or self.names[0].lstrip("/")


def _is_made_here(mounts: tuple[Mount, ...]) -> bool:
    """Tell a container of a runner from a step of an image build: a job may choose its labels, but no bind mount."""
    return any(mount.kind == "bind" and mount.target == DEADLINE_DIRECTORY for mount in mounts)


class BoxContainers:
    """The containers that carry one box's id."""

    def __init__(self, engine: Engine, box: str) -> None:
        self._engine = engine
        self._box = box
        # What the engine told of itself last; None until it was asked.
        self._described: Engineered | None = None

    def called(self, name: str) -> str:
        """Return what the engine calls a container of this box."""
        return engine_name(name, self._box)

    async def look(self, name: str) -> Inspected | None:
        """Describe a container of this box, also one that somebody renamed; None: there is none."""
        if not NAME.fullmatch(name):
            return None
        found = await self.inspect(self.called(name))
        if found is not None and self._is_ours(found):
            return found
        renamed = await self.list(name)
        return await self.inspect(renamed[0].id) if renamed else None

    async def inspect(self, engine_name: str) -> Inspected | None:
        """Describe a container by its id, or as the engine calls it, whosever it is; None: there is none."""
        try:
            async with self._engine.call(f"describe container {engine_name}") as docker:
                described = await docker.containers.container(engine_name).show()
                return decoded(described, Inspected, self._engine.url)
        except EngineRefusal as refusal:
            refusal.unless_absent()
            return None

    async def present(self, name: str, container_id: str) -> Inspected:
        """
        Describe a container that was there a moment ago.

        Raises:
            Unavailable: it is gone, or the engine did not tell.
        """
        found = await self.inspect(container_id)
        if found is None:
            raise Unavailable(f"container {name} was removed by somebody else as it started")
        return found

    async def sample(self, container_id: str) -> Sample | None:
        """Measure a container now, without the second that two samples would take; None: it is gone."""
        query = {"stream": 0, "one-shot": 1}
        try:
            async with (
                self._engine.call(f"measure container {container_id}") as docker,
                self._engine.send(docker, "GET", f"containers/{container_id}/stats", **query) as answer,
            ):
                return decoded(await answer.json(content_type=None), Sample, self._engine.url)
        except EngineRefusal as refusal:
            refusal.unless_absent()
            return None

    def _is_ours(self, found: Inspected) -> bool:
        """Tell whether it carries the box's id, and was made by a runner."""
        return found.labels.get(LABEL_BOX) == self._box and _is_made_here(found.mounts)

    async def list(self, name: str = "") -> list[Listed]:
        """List all of this box, running or not, or those of one name."""
        named = [f"{LABEL_NAME}={name}"] if name else []
        filters = json.dumps({"label": [f"{LABEL_BOX}={self._box}", *named]})
        async with (
            self._engine.call("list this box's containers") as docker,
            self._engine.send(docker, "GET", "containers/json", all=1, filters=filters) as answer,
        ):
            listed = decoded(await answer.json(content_type=None), list[Listed], self._engine.url)
        return [one for one in listed if _is_made_here(one.mounts)]

    async def what_is_missing(self) -> tuple[str, ...]:
        """Name what the engine cannot isolate or limit, sorted."""
        return (await self.described()).missing

    async def described(self, *, afresh: bool = False) -> Engineered:
        """Return what the engine tells of itself; asked once, but where it must be the newest."""
        if self._described is None or afresh:
            # Without a version: an older one would leave out what newer engines have.
            async with self._engine.call("describe itself") as docker, self._engine.ask(docker, "info") as answer:
                self._described = decoded(await answer.json(content_type=None), Engineered, self._engine.url)
        return self._described

    async def delete(self, container_id: str) -> None:
        """Kill and delete, with what it wrote outside of its mounts; returns when it is gone. Idempotent."""
        try:
            async with self._engine.call(f"delete container {container_id}", REMOVE_S) as docker:
                await docker.containers.container(container_id).delete(force=True, v=True)
        except EngineRefusal as refusal:
            if refusal.status != HTTP_CONFLICT:
                refusal.unless_absent()
                return
            await self._until_removed(container_id)

    async def _until_removed(self, container_id: str) -> None:
        try:
            async with self._engine.call(f"finish the removal of container {container_id}", REMOVE_S) as docker:
                await docker.containers.container(container_id).wait(condition="removed")
        except EngineRefusal as refusal:
            refusal.unless_absent()
