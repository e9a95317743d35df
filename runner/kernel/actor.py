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
from typing import ClassVar, Generic, TypeVar

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

        def tell_self(error: Exception) -> None:
            if on_error is None:
                raise error
            self.ref.urgent(on_error(error))

        self._supervised.start(name, functools.partial(func, *args), tell_self)

    def cancel_task(self, name: str) -> bool:
        """Cancel a task; its name is free at once. Returns whether there was one."""
        return self._supervised.cancel(name)

    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that run, oldest first."""
        return tuple(self._supervised.named)


class Tasks:
    """The tasks of one instance of an actor. The first that fails cancels `owner`, the task that runs the instance."""

    def __init__(self) -> None:
        self.owner: asyncio.Task[None] | None = None
        self.named: dict[str, asyncio.Task[None]] = {}
        self.failure: Exception | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    def bind(self, actor: Actor[M], ref: Ref[M]) -> None:
        """Give an instance its address and its tasks; done here so that subclasses need no `__init__` of ours."""
        actor.ref = ref
        actor._supervised = self  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def start(self, name: str, work: Callable[[], Awaitable[None]], on_error: Callable[[Exception], None]) -> None:
        """Run the work under that name; what `on_error` raises is a failure."""
        if name in self.named:
            raise ValueError(f"cannot start task {name!r}: one of that name runs; cancel it first")
        self.named[name] = self.spawn(self._run(name, work, on_error), name)

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run the work without a name that others could cancel; what it raises is a failure."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        if self._stopping:
            task.cancel()
        return task

    def cancel(self, name: str) -> bool:
        """Cancel the named task and free its name."""
        task = self.named.pop(name, None)
        return task is not None and task.cancel()

    async def stop(self, cleanup_s: float) -> None:
        """Cancel all tasks and await their end, at most `cleanup_s`; one that will not end is left and reported."""
        self._stopping = True
        self.named.clear()
        for task in self._running:
            task.cancel()
        if self._running:
            _, stuck = await asyncio.wait(self._running, timeout=cleanup_s)
            for task in stuck:
                logger.error("task ignores its cancellation", extra={"action": "task_stuck", "task": task.get_name()})

    async def _run(self, name: str, work: Callable[[], Awaitable[None]], on_error: Callable[[Exception], None]) -> None:
        try:
            error = await outcome(work)
        finally:
            if self.named.get(name) is asyncio.current_task():
                del self.named[name]
        if error is not None:
            on_error(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = _error_of(task)
        if self.failure is None and isinstance(error, Exception):
            self.failure = error
            if self.owner is not None and not self._stopping:
                self.owner.cancel()


async def outcome(work: Callable[[], Awaitable[None]]) -> Exception | None:
    """
    Await the work and return its error.

    A cancellation propagates if somebody cancelled this task; one that came from within the work is an error.
    """
    try:
        await work()
    except asyncio.CancelledError as cancelled:
        this = asyncio.current_task()
        if this is None or this.cancelling():
            raise
        return _cancelled_elsewhere(this, cancelled)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller decides
        return error
    return None


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    if not task.cancelled():
        return task.exception()
    return None if task.cancelling() else _cancelled_elsewhere(task, None)


def _cancelled_elsewhere(task: asyncio.Task[object], cause: BaseException | None) -> Exception:
    error = RuntimeError(f"task {task.get_name()!r} awaited something that was cancelled elsewhere")
    error.__cause__ = cause
    return error
