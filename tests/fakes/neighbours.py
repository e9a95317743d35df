"""Inventory alone: queues that bring jobs by a plan, an executor that runs them by the clock, and what each got."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from actors.inventory import Inventory, InventoryMessage
from runner.backend import Backend
from runner.credential import Rights
from runner.directory import Directory, QueueEntry
from runner.job import Job, Key, Resources
from runner.kernel import Actor, Ref, Supervisor
from runner.messages import CreditGiven, CreditReturned, Granted, Offered, Released, SendBeat
from runner.ports import Box
from runner.quiet import Quiet
from runner.records import ClaimedJob
from runner.stage import FaultBudget
from runner.units import Duration
from tests.fakes.world import FakeWorld, configuration, new_life

LATE_S = 0.002
"""What a fetch takes that finds something at once."""


@dataclass
class Work:
    """One job to come: seconds, cores, whose."""

    seconds: float
    cores: int = 1
    user: str = ""


@dataclass
class Plan:
    """One queue: its weight, and the jobs of each user in their order; endless where those are."""

    weight: float
    jobs: dict[str, Iterator[Work]]
    by_user: bool = True
    cap: int | None = None
    # What was peeked at, and is next of its user.
    next_of: dict[str, Work] = field(default_factory=dict)

    def take(self, served: dict[str, float]) -> Work | None:
        for user, jobs in self.jobs.items():
            if user not in self.next_of and (work := next(jobs, None)) is not None:
                self.next_of[user] = work
        wanted = [user for user in self.next_of if served.get(user, 0.0) < float("inf")]
        chosen = min(wanted, key=lambda user: served.get(user, 0.0), default=None)
        return None if chosen is None else self.next_of.pop(chosen)


@dataclass
class Ran:
    """What somebody got: seconds of the whole box in jobs that ended, those that run, the largest one."""

    done: float = 0.0
    largest: float = 0.0
    longest: float = 0.0
    running: dict[Key, tuple[float, float]] = field(default_factory=dict)

    def served(self, clock: float) -> float:
        return self.done + sum(share * (clock - since) for share, since in self.running.values())


class _Sink(Actor[object]):
    """Swallows what it is told."""

    async def receive(self, message: object) -> None:
        del message


class _Poller(Actor[CreditGiven | SendBeat]):
    def __init__(self, bench: Bench, queue: str) -> None:
        self._bench, self._queue = bench, queue

    async def receive(self, message: CreditGiven | SendBeat) -> None:
        if isinstance(message, CreditGiven):
            self.start_soon(self._fetch, message, name="fetch")

    async def _fetch(self, credit: CreditGiven) -> None:
        plan = self._bench.plans[self._queue]
        await asyncio.sleep(LATE_S)
        work = plan.take(dict(credit.served))
        if work is None:
            await asyncio.sleep(1.0 if plan.next_of else 20.0)
            work = plan.take(dict(credit.served))
        if work is None:
            self._bench.inventory.urgent(CreditReturned(self._queue, plan.weight))
        else:
            await self._bench.inventory.tell(Offered(self._bench.claim(self._queue, work), credit.ahead))


class _Executor(Actor[object]):
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def receive(self, message: object) -> None:
        if isinstance(message, Granted):
            self.start_soon(self._run, message, name=message.claim.key)

    async def _run(self, granted: Granted) -> None:
        claim = granted.claim
        self._bench.began(claim, granted.grant.here.cpus)
        await asyncio.sleep(float(claim.job.command[0]))
        self._bench.ended(claim)
        for part in ("compute", "all"):
            self._bench.inventory.urgent(Released(claim.key, part, claim.claimed_at))


class Bench:
    """A box of so many cores with these queues. ``look`` is called whenever a job began or ended."""

    def __init__(self, cores: int, plans: dict[str, Plan], look: Callable[[Bench], None], **changes: object) -> None:
        self.plans, self.cores, self._look = plans, cores, look
        self.queues = {name: Ran() for name in plans}
        self.users: dict[tuple[str, str], Ran] = {}
        self.begun: deque[tuple[float, str, str]] = deque()
        self._numbers = itertools.count()
        self._wrong: list[AssertionError] = []
        world = FakeWorld().open(new_life(1))
        world = dataclasses.replace(world, box=Box("box-1", tuple(range(cores)), 1 << 40, 1 << 50))
        self._supervisor = Supervisor("bench")
        directory = Directory()
        for name in plans:
            poller = self._supervisor.add(f"poller {name}", functools.partial(_Poller, self, name))
            directory.enter(name, QueueEntry(name, poller, Backend(world)))  # type: ignore[arg-type]  # is sent no others
        executor = self._supervisor.add("executor", lambda: _Executor(self))
        sink = self._supervisor.add("sink", _Sink)
        config = configuration(**{"max_waiting": 4, "patience": Duration(60), **changes})
        self.inventory: Ref[InventoryMessage] = self._supervisor.add(
            "inventory",
            lambda: Inventory(
                config,
                world,
                FaultBudget(world.now),
                cache=sink,
                executor=executor,
                outputs=sink,
                directory=directory,
                quiet=Quiet(),
            ),
        )

    async def run(self, seconds: float) -> None:
        """Let so much time pass; raises what ``look`` found wrong, since an actor would only be restarted for it."""
        running = asyncio.ensure_future(self._supervisor.run())
        for name, plan in self.plans.items():
            self.inventory.urgent(CreditReturned(name, plan.weight))
        await asyncio.sleep(seconds)
        await self._supervisor.stop(grace_s=0.0)
        await running
        if self._wrong:
            raise self._wrong[0]

    def _looked_at(self) -> None:
        try:
            self._look(self)
        except AssertionError as error:
            self._wrong.append(error)

    @property
    def clock(self) -> float:
        return asyncio.get_running_loop().time()

    def claim(self, queue: str, work: Work) -> ClaimedJob:
        number = next(self._numbers)
        resources = Resources(cpus=work.cores)
        job = Job(id=f"{queue}-{number}", user=work.user, command=(str(work.seconds),), resources=resources)
        rights = Rights(weight=self.plans[queue].weight, user_max_running=self.plans[queue].cap)
        now = FakeWorld().now()
        key = Key(job.id)
        return ClaimedJob(
            key, job, queue, queue, "file", submitted_at=now, claimed_at=now, rights=rights, user=work.user
        )

    def _ran(self, claim: ClaimedJob) -> tuple[Ran, Ran]:
        return self.queues[claim.queue], self.users.setdefault((claim.queue, claim.user), Ran())

    def began(self, claim: ClaimedJob, cpus: float) -> None:
        share = cpus / self.cores
        for ran in self._ran(claim):
            ran.running[claim.key] = (share, self.clock)
            ran.longest = max(ran.longest, float(claim.job.command[0]))
            ran.largest = max(ran.largest, share * float(claim.job.command[0]))
        self.begun.append((self.clock, claim.queue, claim.user))
        self._looked_at()

    def ended(self, claim: ClaimedJob) -> None:
        for ran in self._ran(claim):
            share, since = ran.running.pop(claim.key)
            ran.done += share * (self.clock - since)
        self._looked_at()
