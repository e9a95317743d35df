"""
The ``Containers`` port on a Docker engine, through its HTTP API.

The engine is the memory: a container carries the box's id, its job and its attempt as labels, and whatever an earlier
life of the runner made is found by name. Containers of others are never touched. What is asked of the engine stands in
``docker_spec``, how output is read in ``docker_output``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from weakref import WeakValueDictionary

from adapters.containers import docker_steps
from adapters.containers.docker_attachment import Attachment, open_attachment
from adapters.containers.docker_box import BoxContainers
from adapters.containers.docker_creation import HTTP_BAD_PARAMETER, Creation, whose_fault
from adapters.containers.docker_deadline import change_deadline, forget, write_deadline
from adapters.containers.docker_ending import Endings
from adapters.containers.docker_engine import Engine, EngineRefusal, in_thread, to_its_end
from adapters.containers.docker_image_env import check_environment
from adapters.containers.docker_log import STREAMS
from adapters.containers.docker_log_begin import log_begin, note_begin, noted_begin
from adapters.containers.docker_network import ALONE, Networks
from adapters.containers.docker_output import Cut, JobOutput, until_ended
from adapters.containers.docker_program import Programs
from adapters.containers.docker_secrets import ContainerSecrets
from adapters.containers.docker_spec import NAME, DockerSettings
from adapters.containers.docker_state import LABEL_NETWORK, Inspected, Made, made_of, running_of
from adapters.containers.docker_usage import PeakMemory
from adapters.containers.ownership import hand_over
from adapters.containers.secret_shelf import SecretShelf, no_secrets
from adapters.redaction import masked
from runner.errors import BadInput, OutOfSpace, RuntimeMissing, Unavailable
from runner.ports import Chunk, ContainerSpec, Exit, Running
from runner.receipt import Usage

HTTP_NOT_MODIFIED = 304
LOOK_EVERY_S, FIRST_LOOK_S = 5.0, 1.0


class DockerContainers:
    """
    Containers on one engine; any number of calls at once.

    The output of what is started here must be read by ``attach``, or the job stands still once a megabyte or two wait.

    Args:
        url: where the engine listens, ``unix:///var/run/docker.sock``.
        now: wall time in epoch seconds, by the engine's clock.
        shelf: where the secrets of jobs come from and stand meanwhile; without it there are none.
    """

    def __init__(
        self, url: str, settings: DockerSettings, now: Callable[[], float], shelf: SecretShelf | None = None
    ) -> None:
        self._shelf = shelf or SecretShelf(f"{settings.box}.docker", no_secrets)
        self._engine = Engine(url, settings.answer_s)
        self._box = BoxContainers(self._engine, settings.box)
        self._creation = Creation(self._engine, self._box, settings)
        # Shared with builds of images, so that rules are written by one alone.
        self.networks = Networks(self._engine, settings.box)
        self._endings = Endings(self._engine, self._box, settings.directory, now)
        self._programs = Programs(self._engine)
        self._settings = settings
        self._now = now
        # Where the output of one broke off, by container name.
        self._cuts: dict[str, Cut] = {}
        # Output of containers that were started here and that nobody has begun to read.
        self._unread: dict[str, Attachment] = {}
        # What was started or adopted here, as it was then: its id and labels stay.
        self._known: dict[str, Inspected] = {}
        # By container name; the engine does not tell it after the end.
        self._peaks: dict[str, PeakMemory] = {}
        # One start at a time of each name, so that nothing is started twice.
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def start(self, spec: ContainerSpec) -> Running:
        if not NAME.fullmatch(spec.name):
            raise BadInput(f"{spec.name!r} cannot name a container: use letters, digits and ._-")
        lock = self._starting.setdefault(spec.name, asyncio.Lock())
        async with lock:
            found = await self._box.look(spec.name) if await self._creation.may_be_there(spec.name) else None
            if found is None or not found.was_started:
                self._known.pop(spec.name, None)  # gone by others' doing, and not what is to be removed
                found = await self._start_first_time(spec, found)
            self._known[spec.name] = found
            return running_of(spec.name, found, await self._box.what_is_missing(), os.geteuid())

    async def adopt(self, name: str) -> Running | None:
        found = await self._box.look(name)
        if found is None or not found.was_started:
            return None
        self._known[name] = found
        return running_of(name, found, await self._box.what_is_missing(), os.geteuid())

    async def attach(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        attachment = self._unread.pop(name, None)
        try:
            begins = not any(skip.get(stream, 0) for stream in STREAMS)
            cut = self._cuts.setdefault(name, Cut())
            if cut.begins is None:
                cut.begins = await in_thread(noted_begin, self._settings.directory, name)
            output = JobOutput(self._engine, lambda: self._box.look(name), self._now, skip, cut)
            redaction = await in_thread(self._shelf.redaction, name)
            chunks = masked(output.chunks(attachment if begins else None), redaction, output.context)
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        finally:
            if attachment is not None:
                await attachment.close()

    async def wait(self, name: str) -> Exit:
        looked = False
        while True:
            found = await self._endings.look(name)
            if found is None:
                return self._endings.vanished(name)
            if not found.was_started:
                return Exit(
                    None, self._now(), not_started=True, message=found.state.error or f"{name} was never started"
                )
            if found.has_ended:
                peak = self._peaks.get(name)
                return await self._endings.exit(name, found, peak.seen_bytes if peak else None)
            if looked:
                await self._note_log(name, found.id)
            self._watch_memory(name, found)
            await self.networks.hold(found.labels.get(LABEL_NETWORK, ALONE))
            with self._endings.noticing():
                await until_ended(self._engine, found.id, LOOK_EVERY_S if looked else FIRST_LOOK_S)
            looked = True

    async def _note_log(self, name: str, container_id: str) -> None:
        """Note where the log begins of what this life started, while it holds all that was printed."""
        cut = self._cuts.get(name)
        if cut is None or cut.begins or not cut.live_bytes > 0:
            return
        with suppress(Unavailable, OutOfSpace):
            begins = await log_begin(self._engine, container_id)
            if begins and cut.live_bytes <= cut.budget_bytes:
                await in_thread(note_begin, self._settings.directory, name, begins)
                cut.begins = begins

    async def stop(self, name: str, grace_s: float) -> None:
        await self._endings.stop(name, grace_s)

    async def remove(self, name: str) -> None:
        await self._close_unread(name)
        self._cuts.pop(name, None)
        found = self._known.get(name) or await self._box.look(name)
        if found is not None:
            await self._box.delete(found.id)
        await self.networks.let_go(name, found.labels.get(LABEL_NETWORK, ALONE) if found is not None else ALONE)
        if NAME.fullmatch(name):
            await in_thread(self._clear, name)
        if name in self._peaks:
            self._peaks.pop(name).close()
        self._endings.forget(name)
        await self._creation.forget(name)
        self._known.pop(name, None)

    def _clear(self, name: str) -> None:
        forget(self._settings.directory, name)
        self._shelf.remove(name)

    async def tell_deadline(self, name: str, at: float) -> None:
        if NAME.fullmatch(name):
            await in_thread(change_deadline, self._settings.directory, name, at)

    async def list_ours(self) -> tuple[str, ...]:
        containers = {listed.name for listed in await self._box.list()}
        # Secrets of one that was never made, since the runner was killed just then, are found by their name alone.
        return tuple(sorted(containers | await in_thread(self._shelf.names)))

    async def stats(self, name: str) -> Usage:
        found = await self._box.look(name)
        sample = await self._box.sample(found.id) if found is not None and found.state.running else None
        if sample is None:
            return Usage()
        peak = self._peaks.setdefault(name, PeakMemory())
        peak.see(sample.memory_bytes)
        return Usage(memory_peak=peak.seen_bytes, cpu_seconds=sample.cpu_seconds)

    async def disk_bytes(self, name: str) -> int:
        return docker_steps.disk_bytes(self._settings.directory, name)

    async def close(self) -> None:
        for name in tuple(self._unread):
            await self._close_unread(name)
        for peak in self._peaks.values():
            peak.close()
        await self._engine.close()

    # Starting

    async def _start_first_time(self, spec: ContainerSpec, found: Inspected | None) -> Inspected:
        directory, secrets = await in_thread(self._lay_out, spec, afresh=found is None)
        if found is None:
            created = await self._creation.create(spec, directory, self.networks.name_of(spec.network), secrets)
        else:
            created = made_of(found, os.geteuid())
        await in_thread(_hand_over, spec, directory, secrets, created.owner)
        try:
            check_environment(created)
            await self.networks.prepare(spec.network, spec.name)
            await self._start_attached(spec, created)
        except (BadInput, EngineRefusal, OutOfSpace, RuntimeMissing):
            await self._box.delete(created.id)
            raise
        found = await self._box.present(spec.name, created.id)
        self._watch_memory(spec.name, found)
        return found

    def _lay_out(self, spec: ContainerSpec, *, afresh: bool) -> tuple[str, ContainerSecrets]:
        directory = write_deadline(self._settings.directory, spec.name, spec.deadline_at)
        secrets = ContainerSecrets(self._shelf, spec)
        if afresh:
            docker_steps.lay_out(directory, spec)
        return directory, secrets

    async def _start_attached(self, spec: ContainerSpec, created: Made) -> None:
        """Start with the output already flowing to us."""
        if spec.steps:
            await self._programs.check(created, "sh", "steps need a shell")
        elif spec.command:
            await self._programs.check(created, spec.command[0])
        attachment = await open_attachment(self._engine, created.id)
        try:
            # Broken off, it could be on its way still when the next call sees a container that has not started.
            is_first = await to_its_end(self._start_created(spec.name, created.id))
        except BaseException as error:
            await attachment.close()
            if isinstance(error, EngineRefusal):
                raise whose_fault(error, (HTTP_BAD_PARAMETER,)) from error
            raise
        if is_first:
            self._cuts[spec.name] = Cut(budget_bytes=spec.log_max or self._settings.log_budget_bytes)
            self._unread[spec.name] = attachment
        else:
            await attachment.close()

    async def _start_created(self, name: str, container_id: str) -> bool:
        """Start it; False where an earlier call that was broken off had done so, and output may have gone by."""
        async with (
            self._engine.call(f"start container {name}") as docker,
            self._engine.send(docker, "POST", f"containers/{container_id}/start") as answer,
        ):
            return bool(answer.status != HTTP_NOT_MODIFIED)

    def _watch_memory(self, name: str, found: Inspected) -> None:
        """Begin to watch it, once, while it runs."""
        if found.state.running:
            self._endings.runs(name, found)
            self._peaks.setdefault(name, PeakMemory()).watch(found.state.pid, found.id)

    # Ending

    async def _close_unread(self, name: str) -> None:
        attachment = self._unread.pop(name, None)
        if attachment is not None:
            await attachment.close()


def _hand_over(spec: ContainerSpec, directory: str, secrets: ContainerSecrets, owner: int) -> None:
    """Give the job's user what it works on; blocks."""
    if owner != os.geteuid():
        hand_over(spec.workspace, owner)
        docker_steps.hand_over(directory, owner)
    secrets.hand_over(owner)
