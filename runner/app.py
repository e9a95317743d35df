"""
The composition root: who exists, who knows whom, and how the whole stops. Drain and leave live here.

``build(config, world)`` is the only seam: tests hand it fakes, ``serve`` the real world.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from actors.cache import Cache
from actors.executor import Executor
from actors.inventory import Inventory
from actors.logs import Logs
from actors.outputs import Outputs
from actors.sources import Sources
from adapters.folder_urls import folder_url
from runner.config import Config
from runner.control import RunningControl
from runner.credential import Credential, CredentialFile, Rights
from runner.errors import RunnerError
from runner.job import EndReason, Key
from runner.kernel import ActorStopped, Escalated, Restart
from runner.messages import StopAnnounced, StopCredits, StopFetching, StopJob
from runner.policy import OWN_QUEUE
from runner.pollers import QueuePollers
from runner.ports import Control, ServiceManager, World
from runner.records import JournalEntry
from runner.recovery import Recovery
from runner.ring import EDGE, Ring
from runner.vigil import keep_watch

logger = logging.getLogger(__name__)

CORE = Restart(attempts=0, within_s=600.0)
HURRY_S = 5.0
TOLD_LOOK_S = 0.1
CLOSING_S = 30.0
"""What actors, queues and stores may take at most to be closed."""


class Runner(Ring):
    """The whole runner. ``run`` adopts what the journal holds, then lets queues be read."""

    def __init__(self, config: Config, world: World) -> None:
        """Declare every address; nothing runs yet."""
        super().__init__(config, world)
        self.pollers = QueuePollers(self)
        # Set when queues are about to be read.
        self.begun = asyncio.Event()

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
        recovery = Recovery(self)
        await recovery.adopt()
        own = (_own_queue(self.config),) if self.config.own_queue else ()
        common = (self.config, self.world, self.faults)
        new_sources = lambda: Sources(*common, own=own, pollers=self.pollers, quiet=self.quiet)  # noqa: E731
        self.add("sources", new_sources, group="edge", restart=EDGE)
        self.begun.set()
        await recovery.reap_regularly()


def build(config: Config, world: World) -> Runner:
    """Wire the seven actors; the supervisor that is returned runs them."""
    runner = Runner(config, world)
    inventory, cache, executor, outputs = runner.stages
    logs, common = runner.address("logs"), (config, world, runner.faults)
    directory, quiet = runner.directory, runner.quiet
    runner.add("logs", lambda: Logs(*common, directory=directory, quiet=quiet), group="edge", restart=EDGE)
    runner.add("outputs", lambda: Outputs(*common, inventory=inventory, logs=logs, directory=directory), restart=CORE)
    runner.add("executor", lambda: Executor(*common, inventory=inventory, outputs=outputs), restart=CORE)
    runner.add(
        "cache",
        lambda: Cache(*common, executor=executor, inventory=inventory, outputs=outputs, directory=directory),
        restart=CORE,
    )
    runner.add(
        "inventory",
        lambda: Inventory(*common, cache=cache, executor=executor, outputs=outputs, directory=directory, quiet=quiet),
        restart=CORE,
    )
    return runner


def _own_queue(config: Config) -> CredentialFile:
    """The box's own queue: local and owner only, so its jobs may use paths and run as processes."""
    url = folder_url(f"{config.state_dir}/queue")
    rights = Rights(runtime="process", paths=("/",), stores=("folder://",), own=True, sole_reader=True)
    return CredentialFile(OWN_QUEUE, url, Credential("folder", url, rights, lease=config.lease))


async def serve(
    config: Config, world: World, *, on_ready: Callable[[Control], Awaitable[None]], manager: ServiceManager
) -> int:
    """
    Run until stopped; the exit code is 0. ``on_ready`` is called once, when queues are about to be read, and
    ``manager`` told after that; then it hears signs of life, and that the runner stops.

    Raises:
        Escalated: a core actor failed; start the process again, adoption makes that cheap.
    """
    runner = build(config, world)
    control = RunningControl(runner)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, control.signalled)
    try:
        async with asyncio.TaskGroup() as group:
            stopping, serving = _stop_when_asked(runner, control, manager), _serve(runner, on_ready, control, manager)
            beside = [group.create_task(it) for it in (stopping, serving, _stop_by_itself(runner, control))]
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


async def _serve(
    runner: Runner, on_ready: Callable[[Control], Awaitable[None]], control: Control, manager: ServiceManager
) -> None:
    await runner.begun.wait()
    await on_ready(control)
    manager.tell(ready=1, status="serving")
    await keep_watch(runner, manager)


async def _stop_by_itself(runner: Runner, control: RunningControl) -> None:
    await runner.begun.wait()
    reason = await runner.allowance.until_over(runner.trail.in_flight)
    logger.info("the runner ends by itself", extra={"action": "drain", "reason": reason})
    control.stop(leave=False, grace_s=None)


async def _stop_when_asked(runner: Runner, control: RunningControl, manager: ServiceManager) -> None:
    leave, grace_s = await control.stopping
    needs_s = CLOSING_S + (0.0 if leave else grace_s + runner.config.preempt_grace)
    status = "leaving: what runs goes on" if leave else "draining: what runs is waited for"
    manager.tell(stopping=1, status=status, extend_timeout_usec=int(needs_s * 1e6))
    runner.address("sources").urgent(StopFetching())
    runner.address("inventory").urgent(StopCredits())
    if not leave:
        await _drain_until_left(runner, control, grace_s)
    await runner.stop(grace_s=HURRY_S, order=("logs",))


async def _drain_until_left(runner: Runner, control: RunningControl, grace_s: float) -> None:
    """A drain that somebody makes a leave of is over at once: what runs goes on."""
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(drain(runner, control.hurry, grace_s))
        leaving = group.create_task(control.left.wait())
        await asyncio.wait((draining, leaving), return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        leaving.cancel()
    if control.left.is_set():
        await _announce(runner, None)


async def drain(runner: Runner, hurry: asyncio.Event, grace_s: float) -> None:
    """
    Wait for what runs up to the grace, stop the rest, and wait until the journal holds nothing unsettled.

    The rest has ``preempt_grace``, then the runner ends all the same; what the journal still holds is the next life's.
    So is what sinks that are away have not heard; others are told to the end first, since there may be no next life.
    """
    loop = asyncio.get_running_loop()
    ends, given_back = loop.time() + grace_s, set[Key]()
    _give_back(runner, await runner.trail.in_flight(), given_back)
    if grace_s > 0:
        await _announce(runner, runner.world.now() + ends - loop.time())
    if await _settled(runner, hurry, ends, given_back):
        await _told(runner, hurry)
        return
    _stop_all(runner, await runner.trail.in_flight())
    hurry.clear()
    if not await _settled(runner, hurry, loop.time() + max(HURRY_S, float(runner.config.preempt_grace)), given_back):
        for entry in await runner.trail.in_flight():
            facts = {"action": "drain", "job_id": entry.claimed.claim.id, "state": entry.state}
            logger.warning("a job is left for the next start, which goes on with it", extra=facts)
    await _told(runner, hurry)


def _only_waits(entry: JournalEntry) -> bool:
    """Tell a job that is staged ahead: another box begins it sooner than this one, where it would be cut short."""
    return entry.placed is not None and entry.granted is None and entry.exited is None and entry.stored is None


def _give_back(runner: Runner, entries: Iterable[JournalEntry], before: set[Key]) -> None:
    """Give back what only waits, each once: of one that was being placed as the drain began it is known later."""
    waiting = [entry for entry in entries if _only_waits(entry) and entry.key not in before]
    before.update(entry.key for entry in waiting)
    _stop_all(runner, waiting)


def _stop_all(runner: Runner, entries: Iterable[JournalEntry]) -> None:
    for entry in entries:
        attempt, now = entry.claimed.claim.attempt, runner.world.now()
        stop = StopJob(entry.key, attempt, EndReason.PREEMPTED, now, "the runner was stopped")
        for stage in runner.stages:
            stage.urgent(stop)


async def _announce(runner: Runner, at: float | None) -> None:
    """Let what runs know when it is stopped; a runtime that does not answer holds nobody up."""
    try:
        await runner.address("executor").ask(functools.partial(StopAnnounced, at), timeout_s=HURRY_S)
    except (TimeoutError, ActorStopped):
        logger.warning("not all jobs know when they are stopped", extra={"action": "drain"})


async def _settled(runner: Runner, hurry: asyncio.Event, ends: float, given_back: set[Key]) -> bool:
    """Whether nothing unsettled was left by then, in loop seconds, or before somebody hurried."""
    loop = asyncio.get_running_loop()
    while entries := await runner.trail.in_flight():
        _give_back(runner, entries, given_back)
        left = min(0.2, ends - loop.time())
        if left <= 0 or hurry.is_set():
            return False
        await asyncio.sleep(left)
    return True


async def _told(runner: Runner, hurry: asyncio.Event) -> None:
    """Wait until sinks that take what they are given have the ends of all jobs, or a few seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(HURRY_S):
            while not hurry.is_set():
                await asyncio.sleep(TOLD_LOOK_S)
                if not any(entry.backend.owes for entry in runner.directory.all()):
                    return
