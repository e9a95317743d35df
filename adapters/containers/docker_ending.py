"""
The ends of one box's containers: told to stop, also where their engine does not answer, and how each ended, with what
others had to do with it.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from adapters.containers import docker_kill, docker_steps
from adapters.containers.docker_box import BoxContainers
from adapters.containers.docker_engine import Engine, EngineRefusal
from adapters.containers.docker_others import Absence, what_others_did
from adapters.containers.docker_output import last_error_line
from adapters.containers.docker_state import Inspected, exit_of
from runner.errors import Unavailable
from runner.ports import Exit

_INIT_FAILED = "[FATAL tini"
_INIT_CODES = (126, 127)


class Endings:
    """
    Knows what this life of the runner saw of each container, and asks the engine for the rest.

    Args:
        directory: where the containers' own directories are.
        now: wall time in epoch seconds, by the engine's clock.
    """

    def __init__(self, engine: Engine, box: BoxContainers, directory: str, now: Callable[[], float]) -> None:
        self._engine, self._box, self._directory, self._now = engine, box, directory, now
        # When the engine was away last.
        self._absence = Absence(now)
        # The pid on this box and the id of each container that was seen running, by name.
        self._first_processes: dict[str, tuple[int, str]] = {}
        # How often each was told to stop, by name.
        self._stopped: dict[str, int] = {}

    async def look(self, name: str) -> Inspected | None:
        """Describe a container that somebody waits for; None: it is gone."""
        with self.noticing():
            found = await self._box.look(name)
        self._absence.heard()
        return found

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Note where the engine does not answer what is asked within."""
        try:
            yield
        except EngineRefusal:
            raise
        except Unavailable:
            self._absence.noticed()
            raise

    def runs(self, name: str, found: Inspected) -> None:
        """Note the first process of one that runs."""
        self._first_processes[name] = found.state.pid, found.id

    async def stop(self, name: str, grace_s: float) -> None:
        """
        Tell the engine to stop it; one that does not answer is gone round: SIGTERM at first, SIGKILL from then on.

        Raises:
            Unavailable: the engine did not do it; try again.
        """
        tries = self._stopped[name] = self._stopped.get(name, 0) + 1
        try:
            await self._ask_to_stop(name, grace_s)
        except EngineRefusal:
            raise
        except Unavailable:
            pid, container_id = self._first_processes.get(name, (0, ""))
            docker_kill.send(signal.SIGTERM if tries == 1 else signal.SIGKILL, pid, container_id)
            raise

    async def _ask_to_stop(self, name: str, grace_s: float) -> None:
        found = await self._box.look(name)
        if found is None:
            return
        try:
            async with self._engine.call(f"stop container {name}", grace_s + self._engine.answer_s) as docker:
                await docker.containers.container(found.id).stop(t=math.ceil(grace_s))
        except EngineRefusal as refusal:
            refusal.unless_absent()

    def vanished(self, name: str) -> Exit:
        """Tell of one that is not there any more."""
        text = f"its container {name} was removed by somebody else, as `docker rm` does"
        return Exit(None, self._now(), message=text)

    async def exit(self, name: str, found: Inspected, memory_peak: int | None) -> Exit:
        """Tell how one ended."""
        ended = exit_of(found, memory_peak, docker_steps.codes(self._directory, name))
        if ended.code in _INIT_CODES and not ended.message:
            words = await last_error_line(self._engine, found.id)
            if words.startswith(_INIT_FAILED):
                return msgspec.structs.replace(ended, not_started=True, message=words.partition("] ")[2])
        if ended.code and not ended.message and (why := await self._machine_words(found.image)):
            ended = msgspec.structs.replace(ended, message=f"exit code {ended.code}: {why}")
        us, was_away = name in self._stopped, self._absence.covers(found.ended_at)
        now = self._now()
        return await what_others_did(self._engine, found, ended, now=now, stopped_by_us=us, was_away=was_away)

    async def _machine_words(self, image: str) -> str:
        """Say where an image is made for other machines: no program of it starts, or the kernel must imitate them."""
        try:
            async with self._engine.call(f"describe image {image}") as docker:
                made_for = (await docker.images.inspect(image)).get("Architecture")
                here = (await docker.version()).get("Arch")
        except (EngineRefusal, Unavailable):
            return ""
        return f"its image is made for {made_for}, and this box is {here}" if made_for and here != made_for else ""

    def forget(self, name: str) -> None:
        """Forget one that is removed."""
        self._stopped.pop(name, None)
        self._first_processes.pop(name, None)
