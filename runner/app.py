"""
The composition root: who exists, who knows whom, and how the whole stops. Drain and leave live here.

``build(config, world)`` is the only seam: tests hand it fakes, ``serve`` the real world.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from actors.cache import Cache
from actors.executor import Executor
from actors.inventory import Inventory
from actors.logs import Logs
from actors.outputs import Outputs
from actors.poller import Poller
from actors.sources import Sources, Standing
from runner.calls import Caller, Patience
from runner.config import Config
from runner.credential import Credential, CredentialFile, Rights
from runner.directory import Directory
from runner.errors import Refused, RunnerError
from runner.job import EndReason
from runner.kernel import DeadLetter, Escalated, Ref, Restart, Supervisor
from runner.messages import (
    CredentialChanged,
    Ended,
    GpusAsked,
    JobAdopted,
    SourcesAsked,
    StopCredits,
    StopFetching,
    StopJob,
    WithdrawAsked,
)
from runner.ports import Broker, Control, Results, World
from runner.receipt import GpuTable, SourceRow
from runner.records import JournalEntry
from runner.stage import FaultBudget

logger = logging.getLogger(__name__)

STAGES = ("inventory", "cache", "executor", "outputs")
EDGE = Restart(attempts=1_000_000, within_s=600.0)
"""The edge meets foreign systems: it is restarted for ever, with back-off, and its failures are its own."""
CORE = Restart(attempts=0, within_s=600.0)
ASK_S = 10.0
STOPPED_TWICE = 2
HURRY_S = 5.0
REAP_S = 600.0
REAP_EVERY_S = 600.0
REMOVAL_S = 30.0


class Runner(Supervisor):
    """The whole runner. ``run`` adopts what the journal holds, then lets queues be read."""

    def __init__(self, config: Config, world: World) -> None:
        """Declare every address; nothing runs yet."""
        super().__init__("runner", on_dead_letter=_quietly)
        self.config, self.world = config, world
        self.directory, self.faults = Directory(), FaultBudget(world.now)
        self.stages: tuple[Ref[object], ...] = tuple(self.address(name) for name in STAGES)
        self.caller = Caller(world.random, Patience(try_s=float(config.port_timeout)))
        self.pollers = QueuePollers(self)
        # Set when queues are about to be read.
        self.begun = asyncio.Event()

    def address(self, name: str) -> Ref[object]:
        """Return the address of an actor, with the configured room in its mailbox."""
        return self.ref(name, capacity=self.config.mailbox)

    async def run(self) -> None:
        """Adopt, run, and leave; raises what made a core actor fail."""
        adopting = asyncio.ensure_future(self._begin())
        adopting.add_done_callback(self._give_up_unless_begun)
        try:
            await super().run()
        finally:
            adopting.cancel()
            await asyncio.gather(adopting, return_exceptions=True)
            await self.pollers.close()
        if not adopting.cancelled():
            adopting.result()

    def _give_up_unless_begun(self, adopting: asyncio.Future[None]) -> None:
        """A runner that cannot take back what it had must not look as if it worked."""
        if not adopting.cancelled() and adopting.exception() is not None:
            self._giving_up = asyncio.ensure_future(self.stop(grace_s=0.0))

    async def _begin(self) -> None:
        """Let every journaled job re-enter at its own stage; only then may queues be read."""
        entries = await self.caller.until_done(self.world.journal.in_flight, "journal")
        for entry in sorted(entries, key=_adopted_at):
            if _is_deadly(entry):
                await self._end_unseen(entry)
            else:
                for stage in self.stages:
                    stage.urgent(JobAdopted(entry))
        logger.info("jobs taken back", extra={"action": "adopt", "jobs": len(entries)})
        own = (_own_queue(self.config),) if self.config.own_queue else ()
        new_sources = lambda: Sources(self.config, self.world, self.faults, own=own, pollers=self.pollers)  # noqa: E731
        self.add("sources", new_sources, group="edge", restart=EDGE)
        self.begun.set()
        while True:
            await self._reap()
            await asyncio.sleep(REAP_EVERY_S)

    async def _end_unseen(self, entry: JournalEntry) -> None:
        """End a job that made the runner end twice before anything of it is replayed: first its container."""
        claim = entry.claimed.claim
        runtime = self.world.containers.get(claim.runtime)
        if runtime is not None and entry.starting is not None:
            name = entry.starting.container
            try:
                patience = Patience(try_s=self.caller.patience.try_s, all_s=REMOVAL_S)
                await self.caller.until_done(lambda: runtime.remove(name), f"removal of {name}", patience)
            except RunnerError as error:
                logger.warning("a container is left over", extra={"action": "remove", "reason": str(error)})
        text = f"its own task in stage {entry.faulted.stage if entry.faulted else ''} made the runner end twice"
        self.address("outputs").urgent(Ended(claim, EndReason.RUNNER_FAULT, text))

    async def _reap(self) -> None:
        """Remove containers of this box that no journaled job owns: their jobs ended, the removal did not work."""
        patience = Patience(try_s=self.caller.patience.try_s, all_s=REAP_S)
        for runtime in self.world.containers.values():
            try:
                for name in await self.caller.until_done(runtime.list_ours, "containers", patience):
                    if not await self._owned_now(name):
                        remove = functools.partial(runtime.remove, name)
                        await self.caller.until_done(remove, f"removal of {name}", patience)
            except RunnerError as error:
                logger.warning("containers were not reaped", extra={"action": "reap", "reason": str(error)})

    async def _owned_now(self, name: str) -> bool:
        return name in _containers_of(await self.caller.until_done(self.world.journal.in_flight, "journal"))


def _is_deadly(entry: JournalEntry) -> bool:
    """Tell whether this job's own task made the runner end twice in one stage."""
    return entry.faulted is not None and entry.faulted.times >= STOPPED_TWICE and entry.stored is None


def _adopted_at(entry: JournalEntry) -> int:
    """Say when a job is adopted: what holds a grant comes first, for what only waits would be granted the same."""
    if _is_deadly(entry):
        return 1
    return 0 if entry.granted is not None else 2


def _containers_of(entries: tuple[JournalEntry, ...]) -> frozenset[str]:
    """Name the containers of jobs that run as far as the journal knows."""
    return frozenset(entry.starting.container for entry in entries if entry.starting and entry.exited is None)


def build(config: Config, world: World) -> Runner:
    """Wire the seven actors; the supervisor that is returned runs them."""
    runner = Runner(config, world)
    inventory, cache, executor, outputs = runner.stages
    logs, common = runner.address("logs"), (config, world, runner.faults)
    directory = runner.directory
    runner.add("logs", lambda: Logs(*common, directory=directory), group="edge", restart=EDGE)
    runner.add("outputs", lambda: Outputs(*common, inventory=inventory, logs=logs, directory=directory), restart=CORE)
    runner.add("executor", lambda: Executor(*common, inventory=inventory, outputs=outputs), restart=CORE)
    runner.add("cache", lambda: Cache(*common, executor=executor, outputs=outputs, directory=directory), restart=CORE)
    runner.add(
        "inventory",
        lambda: Inventory(*common, cache=cache, executor=executor, outputs=outputs, directory=directory),
        restart=CORE,
    )
    return runner


class QueuePollers:
    """How pollers come and go (the ``Pollers`` of sources)."""

    def __init__(self, runner: Runner) -> None:
        """Begin without any."""
        self.runner = runner
        # By the poller's name: what it reads with now, so that a restarted one has the newest rights.
        self._standing: dict[str, Standing] = {}
        self._finishing: set[str] = set()
        self._brokers: list[Broker] = []

    def standing(self) -> tuple[Standing, ...]:
        """Return those that were started and not ended."""
        return tuple(self._standing.values())

    def start(self, poller: Standing) -> None:
        """Start the poller of one queue, in the edge group: its failures are its own."""
        name = _name(poller.file.file, poller.queue)
        self._standing[name] = poller
        if poller.broker not in self._brokers:
            self._brokers.append(poller.broker)
        self.runner.address(name)
        self.runner.add(name, lambda: self._new(name), group="edge", restart=EDGE)

    def _new(self, name: str) -> Poller:
        runner, standing = self.runner, self._standing[name]
        if name in self._finishing:
            runner.address(name).urgent(StopFetching())
        inventory, _, _, outputs = runner.stages
        return Poller(
            runner.config,
            runner.world,
            runner.faults,
            source=standing.file.file,
            rights=standing.credential.rights,
            broker=standing.broker,
            queue_name=standing.queue,
            open_results=lambda: runner.world.open_results(standing.credential, standing.queue),
            directory=runner.directory,
            inventory=inventory,
            outputs=outputs,
            stages=runner.stages,
            sources=runner.address("sources"),
        )

    def change(self, file: CredentialFile, credential: Credential, queue: str) -> None:
        """Let a poller go on with other rights, also where it was finishing."""
        name = _name(file.file, queue)
        self._standing[name] = msgspec.structs.replace(self._standing[name], file=file, credential=credential)
        self._finishing.discard(name)
        self.runner.address(name).urgent(CredentialChanged(file))

    def finish(self, source: str, queue: str) -> None:
        """Let a poller fetch no more; it says when its last claim is settled."""
        self._finishing.add(_name(source, queue))
        self.runner.address(_name(source, queue)).urgent(StopFetching())

    async def end(self, source: str, queue: str) -> None:
        """Stop one gracefully and forget it."""
        name = _name(source, queue)
        await self.runner.remove(name, grace_s=HURRY_S)
        self._standing.pop(name, None)
        self._finishing.discard(name)

    async def close(self) -> None:
        """Close the services behind all pollers, after the last one."""
        for broker in self._brokers:
            await broker.close()


def _name(source: str, queue: str) -> str:
    return f"poller {source} {queue}"


def _own_queue(config: Config) -> CredentialFile:
    """The box's own queue: local and owner only, so its jobs may use paths and run as processes."""
    url = f"folder://{config.state_dir}/queue"
    rights = Rights(runtime="process", paths=("/",), stores=("folder://",), own=True, sole_reader=True)
    return CredentialFile("(own queue)", url, Credential("folder", url, rights, lease=config.lease))


def _quietly(letter: DeadLetter) -> None:
    logger.debug("message not handled", extra={"action": "dead_letter", "to": letter.to, "reason": letter.reason})


class RunningControl:
    """What the control socket may ask of a running runner (the ``Control`` port)."""

    def __init__(self, runner: Runner) -> None:
        """Begin with no stop under way."""
        self._runner = runner
        self.stopping: asyncio.Future[tuple[bool, float]] = asyncio.get_running_loop().create_future()
        self.hurry = asyncio.Event()
        # Jobs withdrawn lately: no box ever held them, so nothing else here knows their ids.
        self._withdrawn: deque[str] = deque(maxlen=1000)

    async def cancel(self, job_id: str) -> str:
        """End a job here, in its queue, or wherever it is; say which."""
        entry = await self._runner.world.journal.find(job_id)
        if entry is not None and entry.settled is None:
            return await self._cancel_here(entry)
        for queue in self._runner.directory.all():
            done: str = await queue.poller.ask(functools.partial(WithdrawAsked, job_id), timeout_s=ASK_S)
            if done:
                self._withdrawn.append(job_id)
                return done
            if queue.results is not None and (ended := await queue.results.get(job_id)) and ended.state == "ended":
                return f"{job_id} ended already: {ended.end_reason}"
        if entry is not None and entry.stored is not None and entry.stored.receipt.state == "ended":
            return f"{job_id} ended already: {entry.stored.receipt.end_reason}"
        if job_id in self._withdrawn:
            return f"{job_id} was withdrawn already"
        raise Refused(f"no job {job_id!r} is known here; name its queue with --queue to cancel it elsewhere")

    async def _cancel_here(self, entry: JournalEntry) -> str:
        claim = entry.claimed.claim
        if entry.exited is not None or entry.stored is not None:
            return f"{claim.id} has ended already; its outputs are being stored"
        queue = self._runner.directory.find(claim.queue)
        if queue is not None and queue.results is not None:
            await self._mark(claim.id, queue.results)
        for stage in self._runner.stages:
            stage.urgent(StopJob(claim.key, claim.attempt, EndReason.CANCELLED, self._runner.world.now(), "cancelled"))
        return f"{claim.id} is being stopped on this box"

    async def _mark(self, job_id: str, results: Results) -> None:
        """Set a stop mark, so that the stop holds even if the runner is killed now; it is told to the stages anyway."""
        try:
            await self._runner.caller.once(lambda: results.request_stop(job_id), f"stop mark of {job_id}")
        except RunnerError as error:
            logger.warning("no stop mark was set", extra={"action": "cancel", "job_id": job_id, "reason": str(error)})

    async def sources(self) -> tuple[SourceRow, ...]:
        """Return the rows of ``runner sources``."""
        return await self._runner.address("sources").ask(SourcesAsked, timeout_s=ASK_S)

    async def gpus(self) -> GpuTable:
        """Return the table of ``runner gpus``."""
        return await self._runner.address("inventory").ask(GpusAsked, timeout_s=ASK_S)

    def stop(self, *, leave: bool, grace_s: float | None) -> None:
        """Begin a drain, or leave; again hurries."""
        if self.stopping.done():
            self.hurry.set()
            return
        grace = float(self._runner.config.drain_grace) if grace_s is None else grace_s
        self.stopping.set_result((leave, grace))


async def serve(config: Config, world: World, *, on_ready: Callable[[Control], Awaitable[None]] | None = None) -> int:
    """
    Run until stopped; the exit code is 0. ``on_ready`` is called once, when queues are about to be read.

    Raises:
        Escalated: a core actor failed; start the process again, adoption makes that cheap.
    """
    runner = build(config, world)
    control = RunningControl(runner)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: control.stop(leave=config.on_stop == "leave", grace_s=None))
    try:
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(_stop_when_asked(runner, control))]
            if on_ready is not None:
                beside.append(group.create_task(_tell_ready(runner, on_ready, control)))
            await runner.run()
            for task in beside:
                task.cancel()
    except* (Escalated, RunnerError) as failed:
        raise _first(failed) from None
    return 0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one failure that ended the runner."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _tell_ready(runner: Runner, on_ready: Callable[[Control], Awaitable[None]], control: Control) -> None:
    await runner.begun.wait()
    await on_ready(control)


async def _stop_when_asked(runner: Runner, control: RunningControl) -> None:
    leave, grace_s = await control.stopping
    runner.address("sources").urgent(StopFetching())
    runner.address("inventory").urgent(StopCredits())
    if not leave:
        await drain(runner, control.hurry, grace_s)
    await runner.stop(grace_s=HURRY_S, order=("logs",))


async def drain(runner: Runner, hurry: asyncio.Event, grace_s: float) -> None:
    """Wait for what runs up to the grace, stop the rest, and wait until the journal holds nothing unsettled."""
    if await _settled(runner, hurry, grace_s):
        return
    for entry in await runner.caller.until_done(runner.world.journal.in_flight, "journal"):
        attempt, now = entry.claimed.claim.attempt, runner.world.now()
        stop = StopJob(entry.key, attempt, EndReason.PREEMPTED, now, "the runner was stopped")
        for stage in runner.stages:
            stage.urgent(stop)
    hurry.clear()
    await _settled(runner, hurry, max(grace_s, HURRY_S * 12))


async def _settled(runner: Runner, hurry: asyncio.Event, within_s: float) -> bool:
    """Whether nothing unsettled was left within the time, or before somebody hurried."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + within_s
    while await runner.caller.until_done(runner.world.journal.in_flight, "journal"):
        left = min(0.2, ends - loop.time())
        if left <= 0 or hurry.is_set():
            return False
        await asyncio.sleep(left)
    return True
