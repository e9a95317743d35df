"""
One supervised actor over all its restarts.

Owns the running instance and its budget of restarts. Never decides what an end means for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import types
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from runner.kernel.actor import Actor, Tasks, error_of
from runner.kernel.mailbox import Mailbox

M = TypeVar("M")
State = Literal["running", "backing_off", "stopped"]
logger = logging.getLogger(__name__)
# A batch is as long as the mailbox, within reason: then the event loop gets its turn.
_BATCH_MAX = 1024


class _Nothing:
    """Stands where no message is being handled."""


_NOTHING = _Nothing()


@dataclass(frozen=True)
class Restart:
    """
    At most `attempts` restarts in any `within_s`, each after a pause that doubles from first to max.

    `jitter` is the share of each pause that is left to chance, 0 to 1.
    """

    NEVER: ClassVar[Restart]

    attempts: int = 5
    within_s: float = 600.0
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0
    jitter: float = 0.5


Restart.NEVER = Restart(attempts=0)


class Child(Generic[M]):
    """Runs instances from a factory, one at a time, until stopped, cancelled or out of restarts."""

    def __init__(
        self,
        mailbox: Mailbox[M],
        factory: Callable[[], Actor[M]],
        *,
        group: str,
        restart: Restart,
        random: Callable[[], float],
    ) -> None:
        self.mailbox = mailbox
        self.group = group
        self.state: State = "stopped"
        self.restarts = 0
        self.crash: Exception | None = None
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._factory = factory
        self._restart = restart
        self._random = random
        self._crashed_at: deque[float] = deque()
        # Cuts short the pause in which the child is asked to end.
        self._hurry = asyncio.Event()
        # A second cancellation would break into the cleanup that the first began.
        self._cancelled = False

    @property
    def name(self) -> str:
        return self.mailbox.name

    def drain(self) -> None:
        """Ask for a graceful end: what waits is handled, then the lifespan is left."""
        self.mailbox.drain()
        if self.state == "backing_off":
            self._hurry.set()

    def cancel(self) -> None:
        """Ask for an end now: what waits becomes dead letters."""
        self.mailbox.drain()
        if self.task is not None and not self._cancelled:
            self._cancelled = True
            self.task.cancel()

    async def run(self) -> None:
        """Live, and live again after each crash that the budget allows, until there is nothing more to do."""
        while (crash := await self._live()) is not None:
            pause_s = self._pause_s()
            if pause_s is None or self._is_done():
                self.crash = crash
                return
            extra = {"action": "actor_restarts", "actor": self.name, "pause_s": pause_s}
            logger.warning("actor crashed and is restarted", extra=extra, exc_info=crash)
            await self._pause(pause_s)
            if self._is_done():
                return
            self.restarts += 1

    async def _pause(self, pause_s: float) -> None:
        self.state = "backing_off"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()
        self._hurry.clear()

    def _is_done(self) -> bool:
        return self.mailbox.draining and not (self.mailbox.urgent or self.mailbox.normal)

    def _pause_s(self) -> float | None:
        now, limit = asyncio.get_running_loop().time(), self._restart
        self._crashed_at.append(now)
        while self._crashed_at[0] <= now - limit.within_s:
            self._crashed_at.popleft()
        crashes = len(self._crashed_at)
        if crashes > limit.attempts:
            return None
        pause_s = min(limit.backoff_max_s, limit.backoff_first_s * 2.0 ** min(crashes - 1, 60))
        return pause_s * (1.0 - limit.jitter * self._random())

    async def _live(self) -> Exception | None:
        self.state = "running"
        tasks = Tasks(self.mailbox.ref)
        tasks.owner = asyncio.create_task(self._instance(tasks), name=self.name)
        await asyncio.gather(tasks.owner, return_exceptions=True)
        return tasks.failure or error_of(tasks.owner)

    async def _instance(self, tasks: Tasks) -> None:
        actor = self._factory()
        tasks.bind(actor)
        self.mailbox.suit(actor.capacity, actor.overflow)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(tasks.stop, actor.cleanup_s)
            lifespan = actor.lifespan()
            await lifespan.__aenter__()  # left alike whatever happened, so not by `async with`
            stack.push_async_callback(_leave, lifespan, actor.cleanup_s)
            stack.push_async_callback(tasks.stop, actor.cleanup_s)
            # A task of its own, since the flatter a task is, the faster it resumes.
            await asyncio.wait({tasks.spawn("receive", self._dispatch(actor.receive, tasks))})

    async def _dispatch(  # noqa: C901 - the hot loop, in one piece
        self, receive: Callable[[M], Awaitable[None]], tasks: Tasks
    ) -> None:
        mailbox = self.mailbox
        mailbox.loop = loop = asyncio.get_running_loop()
        urgent, normal, waiters = mailbox.urgent, mailbox.normal, mailbox.waiters
        tasks.batch *= min(mailbox.capacity, _BATCH_MAX)
        message: M | _Nothing = _NOTHING
        try:
            while tasks.batch:
                for _ in tasks.batch:
                    if urgent:
                        message = urgent.popleft()
                    elif normal:
                        message = normal.popleft()
                        if waiters:
                            mailbox.admit()
                    else:
                        message = _NOTHING
                        if mailbox.draining:
                            return
                        await _turn()
                        if not (urgent or normal or mailbox.draining):
                            await mailbox.sleep(loop)
                        continue
                    await receive(message)
                message = _NOTHING
                await _turn()
        except BaseException:
            if not isinstance(message, _Nothing):
                mailbox.bury(message, "stopped" if self._is_cancelled() else "crashed")
            raise

    def _is_cancelled(self) -> bool:
        return self.task is not None and self.task.cancelling() > 0


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the event loop go round once. Before sleeping too: an answer often brings the next question at once."""
    yield


async def _leave(lifespan: contextlib.AbstractAsyncContextManager[None], cleanup_s: float) -> None:
    async with asyncio.timeout(cleanup_s):
        await lifespan.__aexit__(None, None, None)
