"""
The actor that others subclass, and the tasks that live and die with one instance of it.

Never restarts anything; that is the child's.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Generic, TypeVar

from runner.kernel.ref import Overflow, Ref

M = TypeVar("M")
logger = logging.getLogger(__name__)


class Actor(Generic[M]):
    """
    One mailbox, one message at a time, state that nobody else touches.

    A subclass needs no call to `super().__init__`; `ref` and the tasks are bound before `lifespan` is entered.
    """

    # The normal lane, unless the ref was declared with other values.
    capacity: ClassVar[int] = 64
    overflow: ClassVar[Overflow] = Overflow.WAIT
    # How long the tasks may take to end after they are cancelled, and then how long leaving `lifespan` may take.
    cleanup_s: ClassVar[float] = 10.0

    ref: Ref[M]
    _supervised: Tasks

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Around all messages. What follows the `yield` runs after a stop, a crash and a cancel alike."""
        yield

    async def receive(self, message: M) -> None:
        """Handle one message, quickly: what awaits the outside world belongs into `start_soon`."""
        raise NotImplementedError

    def start_soon(
        self,
        func: Callable[..., Awaitable[None]],
        *args: object,
        name: str,
        on_error: Callable[[Exception], M] | None = None,
    ) -> None:
        """
        Run `func(*args)` as a task of this actor, cancelled when the actor stops or crashes.

        An exception becomes the message `on_error(exception)` on the actor's urgent lane; without `on_error` it crashes
        the actor.

        Raises:
            ValueError: a task of this name runs already.
        """
        if self.has_task(name):
            raise ValueError(f"cannot start task {name!r} of actor {self.ref.name!r}: one runs; cancel it first")
        self._supervised.start(name, _call(func, args), on_error)

    def cancel_task(self, name: str) -> bool:
        """Cancel a task; its name is free at once. Returns whether there was one."""
        return self._supervised.cancel(name)

    def has_task(self, name: str) -> bool:
        """Whether a task of this name runs."""
        return self._supervised.has(name)

    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that run, oldest first."""
        return self._supervised.names()


class Tasks:
    """The tasks of one instance of an actor. The first that fails cancels `owner`, the task that runs the instance."""

    def __init__(self, ref: Ref[Any]) -> None:
        self.owner: asyncio.Task[None] | None = None
        self.named: dict[str, asyncio.Task[None]] = {}
        self.failure: Exception | None = None
        # One for each message until the event loop gets its turn; emptied when the instance ends, so that one which
        # ignores its cancellation takes no more messages.
        self.batch = [None]
        self._stopping = False
        self._ref = ref
        self._running: set[asyncio.Task[None]] = set()

    def bind(self, actor: Actor[M]) -> None:
        """Give an instance its address and its tasks; done here so that subclasses need no `__init__` of ours."""
        actor.ref = self._ref
        actor._supervised = self  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def has(self, name: str) -> bool:
        """Tell whether it runs."""
        task = self.named.get(name)
        return task is not None and not task.done()

    def names(self) -> tuple[str, ...]:
        """List those that run, oldest first."""
        return tuple(name for name, task in self.named.items() if not task.done())

    def start(self, name: str, work: Coroutine[None, None, None], on_error: Callable[[Exception], M] | None) -> None:
        """Run the work under that name, until the actor ends or somebody cancels it."""
        self.named.pop(name, None)
        self.named[name] = self.spawn(name, work, on_error)

    def spawn(
        self, name: str, work: Coroutine[None, None, None], on_error: Callable[[Exception], M] | None = None
    ) -> asyncio.Task[None]:
        """Run the work so that nobody can cancel it by its name."""
        task = asyncio.create_task(work, name=f"{self._ref.name}/{name}")
        self._running.add(task)
        task.add_done_callback(functools.partial(self._ended, name, on_error))
        return task

    def cancel(self, name: str) -> bool:
        """Cancel the named task and free its name."""
        task = self.named.pop(name, None)
        return task is not None and task.cancel()

    async def stop(self, cleanup_s: float) -> None:
        """Cancel all tasks and await their end, at most `cleanup_s`; one that will not end is left and reported."""
        self._stopping = True
        self.batch.clear()
        for task in self._running:
            task.cancel()
        if self._running:
            _, stuck = await asyncio.wait(self._running, timeout=cleanup_s)
            for task in stuck:
                logger.error("task ignores its cancellation", extra={"action": "task_stuck", "task": task.get_name()})

    def _ended(self, name: str, on_error: Callable[[Exception], M] | None, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self.named.get(name) is task:
            del self.named[name]
        if (error := error_of(task)) is None:
            return
        if on_error is None:
            self._crash(error)
            return
        try:
            self._ref.urgent(on_error(error))
        except Exception as bug:  # noqa: BLE001 - an error that cannot be told is a crash
            self._crash(bug)

    def _crash(self, failure: Exception) -> None:
        if self.failure is None:
            self.failure = failure
            if self.owner is not None and not self._stopping:
                self.owner.cancel()


def error_of(task: asyncio.Task[None]) -> Exception | None:
    """Return how a task failed: it raised, or was cancelled though nobody had asked for that."""
    if task.cancelled():
        text = f"task {task.get_name()!r} awaited something that was cancelled elsewhere"
        return None if task.cancelling() else RuntimeError(text)
    error = task.exception()
    if error is None or isinstance(error, Exception):
        return error
    return RuntimeError(f"task {task.get_name()!r} raised {error!r}")


async def _call(func: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
    await func(*args)
