"""
What this box says of itself to those who watch a queue, and how often. Builds and sends; never waits, never writes.

Who watches a queue learns of the jobs of that queue alone: of the others only how many there are.
"""

from __future__ import annotations

import msgspec

from actors.inventory.capacity import Capacity
from actors.inventory.floor import Floor
from runner.directory import Directory
from runner.messages import SendBeat
from runner.ports import Box
from runner.receipt import BoxBeat, GpuRow

BEAT_EVERY_S = 10.0
ALONE_EVERY_S = 25.0
"""While a job has the box for itself: as rarely as a box may be heard of that is not to be taken for silent."""
EARLY_S = 0.5
"""It is looked once a second: the look that falls nearest counts."""


class Beats:
    """The signs of life of one box, one for each queue that is open."""

    def __init__(self, box: Box, floor: Floor, capacity: Capacity) -> None:
        """Begin without having said anything."""
        self._box, self._floor, self._capacity = box, floor, capacity
        # By the queue's identity: when the last one was sent, on the loop's clock.
        self._sent: dict[str, float] = {}

    def send(self, directory: Directory, *, clock: float, now: float) -> None:
        """Hand the pollers the beats that are due; a queue that was opened just now gets its first one at once."""
        queues = directory.queues() if self._capacity.seen else {}
        self._sent = {queue: at for queue, at in self._sent.items() if queue in queues}
        every_s = BEAT_EVERY_S if self._floor.alone() is None else ALONE_EVERY_S
        for queue, entry in queues.items():
            if queue not in self._sent or clock - self._sent[queue] > every_s - EARLY_S:
                self._sent[queue] = clock
                entry.poller.urgent(SendBeat(self.beat(queue, now)))

    def beat(self, queue: str, now: float) -> BoxBeat:
        """Describe the box to those who watch this queue."""
        total = self._capacity.total()
        free, running = self._floor.free(total), self._floor.running()
        of_queue = tuple(sorted(job.claim.id for job in running if job.claim.queue == queue))
        return BoxBeat(
            box=self._box.id,
            at=now,
            gpus=self._gpus(of_queue),
            running=of_queue,
            host=self._box.hostname,
            cores=len(self._box.cores),
            cores_free=0.0 if self._floor.alone() else round(max(0.0, free.cpus), 3),
            memory=self._box.memory,
            memory_free=max(0, free.memory),
            others=len(running) - len(of_queue),
        )

    def _gpus(self, of_queue: tuple[str, ...]) -> tuple[GpuRow, ...]:
        rows = self._capacity.gpu_table(self._floor.holders()).gpus
        return tuple(msgspec.structs.replace(row, job=_told(row.job, of_queue), processes=()) for row in rows)


def _told(job: str | None, of_queue: tuple[str, ...]) -> str | None:
    return "" if job is not None and job not in of_queue else job
