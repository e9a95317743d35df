"""
A container made for one attempt, ready to start: its user chosen, and what the engine must be told looked up.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from typing import Any

import msgspec

from adapters.containers.docker_box import HTTP_CONFLICT, BoxContainers
from adapters.containers.docker_engine import HTTP_NOT_FOUND, Engine, EngineRefusal, decoded, to_its_end
from adapters.containers.docker_gpus import NVIDIA, way_of
from adapters.containers.docker_image_env import without
from adapters.containers.docker_loosening import check_mounts, check_runtime, closed_paths, read_profile
from adapters.containers.docker_secrets import ContainerSecrets
from adapters.containers.docker_spec import DEADLINE_DIRECTORY, SECRETS, TMP, WORK, Arranged, DockerSettings, request
from adapters.containers.docker_state import LABEL_UID, Engineered, Made, made_of
from adapters.containers.docker_users import JobUser, choose
from runner.environment import taken_from_image
from runner.errors import BadInput, ImageGone, RuntimeMissing, Unavailable
from runner.ports import ContainerSpec

HTTP_BAD_PARAMETER = 400
_BY_ID = "sha256:"
_REMEMBERED = 512
# What an engine says of that which it has not got, and what to do about it; another box may have it.
_LACKING = {
    "could not select device driver": "install NVIDIA's container toolkit, and start Docker again",
    "unknown capability": "a newer engine may know it",
}


class _ImageConfig(msgspec.Struct, frozen=True):
    volumes: dict[str, Any] | None = msgspec.field(name="Volumes", default=None)
    env: list[str] | None = msgspec.field(name="Env", default=None)


class _Image(msgspec.Struct, frozen=True):
    config: _ImageConfig | None = msgspec.field(name="Config", default=None)


class Creation:
    """Makes containers on one engine; any number of calls at once."""

    def __init__(self, engine: Engine, box: BoxContainers, settings: DockerSettings) -> None:
        self._engine = engine
        self._box = box
        self._settings = settings
        # Which user of the box each of its containers is, by name; of earlier lives once the engine was asked.
        self._owners: dict[str, str] = {}
        self._are_all = False
        # Those of which it never said that they are there: it may not list them yet.
        self._unsure: set[str] = set()
        self._asking = asyncio.Lock()
        # What images bring, by their id, oldest first: no image changes.
        self._images: dict[str, _ImageConfig] = {}

    async def may_be_there(self, name: str) -> bool:
        """Tell whether an earlier life made a container of this name, or a try of this one that broke off."""
        async with self._asking:
            if not self._are_all:
                await self._take_stock()
        return name in self._owners

    async def _take_stock(self) -> None:
        """Ask the engine which there are; what it had and somebody else removed is forgotten."""
        settled = self._owners.keys() - self._unsure
        listed = {one.name: one.labels.get(LABEL_UID, "") for one in await self._box.list()}
        self._owners = {name: owner for name, owner in self._owners.items() if name not in settled} | listed
        self._are_all = True

    async def create(self, spec: ContainerSpec, directory: str, network: str, secrets: ContainerSecrets) -> Made:
        """
        Make the container, with ``directory`` as its own and ``network`` as the engine calls it; it is not started.

        Ask whether it ``may_be_there`` first.

        Raises:
            BadInput: its image is not there, or the engine finds its command or limits wrong.
            RuntimeMissing: the box lacks, or cannot do, what its policy allows.
            Unavailable: all uids are taken, or the engine did not do it.
        """
        is_special = bool(spec.root or spec.oci_runtime or spec.grant.here.gpus)
        engine = await self._box.described(afresh=is_special)
        check_runtime(spec.oci_runtime, engine.runtimes)
        # These only read: a thread that hangs on a disk that is gone is left alone, and holds up no end of the start.
        if spec.mounts:
            await asyncio.to_thread(check_mounts, spec.mounts, self._closed(), WORK)
        image = await self._image(spec)
        found = Arranged(
            uid=0,
            owner=0,
            deadline_directory=directory,
            volumes=_volumes(spec, image),
            seccomp=await asyncio.to_thread(read_profile, spec.seccomp) if spec.seccomp else "",
            network=network,
            gpu_way=self._gpu_way(spec, engine),
        )
        user = self._user(spec, engine)
        body = request(spec, self._settings, msgspec.structs.replace(found, uid=user.uid, owner=user.owner))
        taken = taken_from_image(image.env or ())
        body["Env"] = without(taken, body["Env"])
        secrets.add_to(body)
        # Broken off, it could leave a container that cannot be found yet.
        container_id = await to_its_end(self._create_sealed(spec, body))
        self._unsure.discard(spec.name)
        if taken or not spec.image.startswith(_BY_ID):
            return made_of(await self._box.present(spec.name, container_id), os.geteuid())
        return Made(container_id, spec.image, user.owner, (*(image.env or ()), *body["Env"]))

    async def forget(self, name: str) -> None:
        """Let others be who a container was that is removed."""
        async with self._asking:  # the engine may be telling of it now
            self._owners.pop(name, None)
            self._unsure.discard(name)

    def _closed(self) -> tuple[str, ...]:
        return closed_paths(self._engine.url, *self._settings.closed, self._settings.directory)

    def _gpu_way(self, spec: ContainerSpec, engine: Engineered) -> str:
        real = [gpu.uuid for gpu in spec.grant.here.gpus if not gpu.simulated]
        return way_of(self._settings.gpu_handover, real, engine, self._engine.newest) if real else NVIDIA

    async def _image(self, spec: ContainerSpec) -> _ImageConfig:
        """Ask what an image brings of its own: anew where it goes by a name, which may mean another one by now."""
        if spec.image in self._images:
            return self._images[spec.image]
        try:
            async with self._engine.call(f"create container {spec.name} from image {spec.image!r}") as docker:
                described = await docker.images.inspect(spec.image)
        except EngineRefusal as refusal:
            raise whose_fault(refusal, (HTTP_BAD_PARAMETER, HTTP_NOT_FOUND)) from refusal
        image = decoded(described, _Image, self._engine.url).config or _ImageConfig()
        if spec.image.startswith(_BY_ID):
            self._images[spec.image] = image
            if len(self._images) > _REMEMBERED:
                del self._images[next(iter(self._images))]
        return image

    async def _create_sealed(self, spec: ContainerSpec, body: dict[str, Any]) -> str:
        called = self._box.called(spec.name)
        try:
            async with self._engine.call(f"create container {spec.name} from image {spec.image!r}") as docker:
                return str((await docker.containers.create(body, name=called)).id)
        except EngineRefusal as refusal:
            if refusal.status == HTTP_CONFLICT:
                owner = f"a container {called} of another owner is in the way; remove or rename it"
                raise Unavailable(owner) from refusal
            raise whose_fault(refusal, (HTTP_BAD_PARAMETER, HTTP_NOT_FOUND)) from refusal

    def _user(self, spec: ContainerSpec, engine: Engineered) -> JobUser:
        taken = {owner for name, owner in self._owners.items() if name != spec.name}
        before = self._owners.get(spec.name, "")
        try:
            user = choose(self._settings.uids, taken, engine, own_uid=os.geteuid(), as_root=spec.root, before=before)
        except Unavailable:
            self._are_all = False  # some may be gone by others' doing
            raise
        self._owners[spec.name] = str(user.owner)
        self._unsure.add(spec.name)
        return user


def _volumes(spec: ContainerSpec, image: _ImageConfig) -> tuple[str, ...]:
    """Name what the image declares as volumes: directories of the box's disk, unless something stands there."""
    declared = {posixpath.normpath(path) for path in image.volumes or ()}
    for path in declared:
        if path.startswith((f"{WORK}/", f"{DEADLINE_DIRECTORY}/", f"{SECRETS}/")):
            raise BadInput(f"image {spec.image} declares the volume {path}, where the job's own files stand")
    return tuple(sorted(declared - {WORK, TMP, DEADLINE_DIRECTORY, SECRETS}))


def whose_fault(refusal: EngineRefusal, of_the_job: tuple[int, ...]) -> BadInput | ImageGone | Unavailable:
    """Tell a job that cannot be run from an engine that did not or cannot run it, by the status and words it gave."""
    advice = next((advice for words, advice in _LACKING.items() if words in refusal.words), "")
    if advice:
        return RuntimeMissing(f"{refusal}; {advice}")
    if refusal.status == HTTP_NOT_FOUND and HTTP_NOT_FOUND in of_the_job:
        return ImageGone(str(refusal))
    return BadInput(str(refusal)) if refusal.status in of_the_job else refusal
