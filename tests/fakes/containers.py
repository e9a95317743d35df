"""Containers in memory: they run by the loop's clock, outlive the runner, and never exceed what the box has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import msgspec

from runner.ports import Box, Chunk, ContainerSpec, Exit, Running
from runner.receipt import GpuRow, GpuTable, Isolation, Usage

KILLED = 137


@dataclass
class Container:
    spec: ContainerSpec
    started_at: float
    ends_at: float
    code: int
    stopped: bool = False
    told_started_at: float = 0.0


class FakeContainers:
    """
    A job's command is ``run SECONDS EXIT LINES``. Told to stop, it takes ``stopping_s`` and ends ``code_when_stopped``.
    When it ended is told by a clock that is behind by ``coarse_s``.

    The ledger: how often each name was started, and that what runs at once fits the box.
    """

    def __init__(self, box: Box, gpus: int, now: Callable[[], float], off_s: Callable[[], float]) -> None:
        """``now`` is true; what is told of times is off by ``off_s``, as the box's clock is."""
        self.box, self.gpus, self._now, self._off_s = box, gpus, now, off_s
        self.containers: dict[str, Container] = {}
        self.starts: Counter[str] = Counter()
        self.begun: list[ContainerSpec] = []
        self.most_at_once = 0
        self.stopping_s, self.code_when_stopped = 0.0, 143
        self.coarse_s = 0.0
        self.deadlines: dict[str, float] = {}
        # Instead of its lines what a job writes, each at seconds from its start, and when it was read.
        self.script: list[tuple[float, str, bytes]] = []
        self.read_at: list[float] = []
        # What the runtime says may be missing of what jobs print.
        self.log_gap = ""

    async def start(self, spec: ContainerSpec) -> Running:
        if spec.name not in self.containers:
            self.starts[spec.name] += 1
            self.begun.append(spec)
            _, seconds, code, _ = spec.command
            began = self._now()
            self.containers[spec.name] = Container(
                spec, began, began + float(seconds), int(code), told_started_at=began + self._off_s()
            )
            self._check_capacity()
        return self._running(spec.name)

    def _check_capacity(self) -> None:
        places = [one.spec.grant.here for one in self.containers.values() if one.ends_at > self._now()]
        self.most_at_once = max(self.most_at_once, len(places))
        held = [gpu.uuid for place in places for gpu in place.gpus]
        assert len(held) == len(set(held)) <= self.gpus, f"a GPU is granted twice: {held}"
        assert sum(place.cpus for place in places) <= len(self.box.cores), "more cores granted than there are"
        assert sum(place.memory for place in places) <= self.box.memory, "more memory granted than there is"

    def _running(self, name: str) -> Running:
        return Running(name, self.containers[name].told_started_at, Isolation(runtime="fake"))

    async def adopt(self, name: str) -> Running | None:
        return self._running(name) if name in self.containers else None

    def _text(self, name: str) -> tuple[bytes, bool]:
        """What the job has written by now, and whether that is all: its lines, evenly over its time."""
        one = self.containers[name]
        lines, seconds = int(one.spec.command[3]), float(one.spec.command[1])
        passed = min(self._now(), one.ends_at) - one.started_at
        shown = lines if not seconds else int(lines * min(1.0, passed / seconds))
        return b"".join(b"line %d\n" % number for number in range(shown)), self._now() >= one.ends_at

    async def _scripted(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        passed: Counter[str] = Counter()
        for at_s, stream, data in self.script:
            await asyncio.sleep(max(0.0, self.containers[name].started_at + at_s - self._now()))
            new = data if stream == "gap" else data[max(0, skip.get(stream, 0) - passed[stream]) :]
            passed[stream] += len(data)
            if new:
                self.read_at.append(self._now())
                yield Chunk(stream, new)

    async def attach(self, name: str, skip: Mapping[str, int]) -> AsyncIterator[Chunk]:
        async for chunk in self._scripted(name, skip):
            yield chunk
        have = skip.get("stdout", 0)
        while name in self.containers:
            text, over = self._text(name)
            if len(text) > have:
                yield Chunk("stdout", text[have:])
                have = len(text)
            elif over:
                return
            else:
                await asyncio.sleep(0.5)

    async def wait(self, name: str) -> Exit:
        if name not in self.containers:
            return Exit(None, self._now() + self._off_s(), message="it was removed")
        one = self.containers[name]
        while one.ends_at > self._now():
            await asyncio.sleep(min(1.0, one.ends_at - self._now()))
        return Exit(one.code, one.ends_at + self._off_s() - self.coarse_s, coarse_s=self.coarse_s, log_gap=self.log_gap)

    async def stop(self, name: str, grace_s: float) -> None:
        one = self.containers.get(name)
        if one is None or one.ends_at <= self._now():
            return
        if not one.stopped:
            in_time = self.stopping_s <= grace_s
            one.stopped, one.code = True, self.code_when_stopped if in_time else KILLED
            one.ends_at = min(one.ends_at, self._now() + min(self.stopping_s, grace_s))
        await asyncio.sleep(max(0.0, one.ends_at - self._now()))

    async def remove(self, name: str) -> None:
        one = self.containers.pop(name, None)
        if one is not None and one.ends_at > self._now():
            one.code, one.ends_at = KILLED, self._now()

    async def tell_deadline(self, name: str, at: float) -> None:
        self.deadlines[name] = at

    async def list_ours(self) -> tuple[str, ...]:
        return tuple(sorted(self.containers))

    async def stats(self, name: str) -> Usage:
        return Usage()

    async def disk_bytes(self, name: str) -> int:
        return 0


class FakeProbe:
    """
    Cards that may be ill, or in the hands of another runner of this machine.

    The ledger: which are locked; those locks go with the process that took them.
    """

    simulated = True

    def __init__(self, count: int) -> None:
        self._rows = tuple(GpuRow(index, f"GPU-{index}", "Fake", 1 << 34) for index in range(count))
        self.broken = False
        self.ill: set[str] = set()
        self.held_elsewhere: set[str] = set()
        self.locked: set[str] = set()

    async def table(self) -> GpuTable:
        health = dict.fromkeys(self.ill, "quarantined")
        rows = tuple(msgspec.structs.replace(row, health=health.get(row.uuid, row.health)) for row in self._rows)
        return GpuTable("fake", rows)

    def lock(self, uuid: str) -> bool:
        if self.broken:
            raise ZeroDivisionError("a bug of the probe")
        assert uuid not in self.locked, f"{uuid} is locked twice"
        if uuid in self.held_elsewhere:
            return False
        self.locked.add(uuid)
        return True

    def unlock(self, uuid: str) -> None:
        self.locked.discard(uuid)
