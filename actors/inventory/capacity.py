"""
What the box has to give: cores, memory, disk, GPUs as they were last seen, and the machine-wide locks on those.

Knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from runner.calls import Caller
from runner.errors import RunnerError
from runner.messages import ProbeReported
from runner.placement import Room, without_cores
from runner.ports import World
from runner.quiet import Quiet
from runner.receipt import GpuTable
from runner.records import GrantedGpu, Place

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 10.0


class Capacity:
    """The box as a whole, before anything of it is granted."""

    def __init__(self, world: World, *, cpu_only: bool) -> None:
        """Begin without having seen the devices."""
        self._box, self._probe, self._cpu_only = world.box, world.probe, cpu_only
        self._why_no_gpus = world.why_no_gpus
        self._table: GpuTable | None = None
        # Whether the driver answered, so that what is missing may be refused.
        self.gpus_known = False
        # Why no container may have a GPU, "" where it may.
        self.withheld = ""

    @property
    def seen(self) -> bool:
        """Whether the devices were looked at; nothing is granted before."""
        return self._table is not None

    async def watch(self, caller: Caller, tell: Callable[[ProbeReported], None], quiet: Quiet) -> None:
        """
        Look at the devices now and then, for ever, and tell what was seen; it counts once it is reported here.

        Once seen, not while a job has the box for itself.
        """
        while True:
            withheld = await self._why_no_gpus()
            try:
                tell(ProbeReported(await caller.once(self._probe.table, "GPU probe"), withheld=withheld))
            except RunnerError as error:
                logger.warning("the GPUs cannot be read", extra={"action": "probe", "reason": str(error)})
                if not self.seen:
                    tell(ProbeReported(GpuTable(driver=None), known=False, withheld=withheld))
            await asyncio.sleep(PROBE_EVERY_S)
            await quiet.over()

    def report(self, reported: ProbeReported) -> None:
        """Take in what the devices look like now."""
        self._table, self.gpus_known, self.withheld = reported.table, reported.known, reported.withheld

    def total(self) -> Room:
        """Return what may be given out now: only GPUs that are healthy."""
        return self._room(only_healthy=True)

    def at_best(self) -> Room:
        """Return what the box can ever give: also the GPUs that are ill now, and may recover."""
        return self._room(only_healthy=False)

    def beside_runner(self, room: Room) -> Room:
        """Return a room without the cores that stay the runner's while a job is alone."""
        return without_cores(room, self._box.spare)

    def _room(self, *, only_healthy: bool) -> Room:
        box = self._box
        cores = dict.fromkeys(box.cores, 0.0)
        return Room(self._gpus(only_healthy=only_healthy), cores, float(len(box.cores)), box.memory, box.disk)

    def _gpus(self, *, only_healthy: bool) -> tuple[GrantedGpu, ...]:
        if self._table is None or self._cpu_only:
            return ()
        shown = [gpu for gpu in self._table.gpus if gpu.health == "healthy" or not only_healthy]
        return tuple(GrantedGpu(gpu.index, gpu.uuid, self._probe.simulated) for gpu in shown)

    def gpu_table(self, holders: Mapping[str, str]) -> GpuTable:
        """Return the table of ``runner gpus``; ``holders`` are job ids by the uuid of the GPU that each holds."""
        if self._table is None:
            return GpuTable(driver=None)
        rows = tuple(msgspec.structs.replace(row, job=holders.get(row.uuid)) for row in self._table.gpus)
        return GpuTable(self._table.driver, rows)

    def lock(self, place: Place) -> bool:
        """Take the machine-wide lock of every GPU of a place, or of none."""
        taken: list[str] = []
        for gpu in place.gpus:
            if not self._lock_one(gpu.uuid):
                for uuid in taken:
                    self._probe.unlock(uuid)
                return False
            taken.append(gpu.uuid)
        return True

    def _lock_one(self, uuid: str) -> bool:
        try:
            return self._probe.lock(uuid)
        except RunnerError as error:
            logger.warning("a GPU cannot be locked", extra={"action": "lock", "gpu": uuid, "reason": str(error)})
            return False

    def unlock(self, place: Place) -> None:
        """Give back the locks of a place."""
        for gpu in place.gpus:
            self._probe.unlock(gpu.uuid)
