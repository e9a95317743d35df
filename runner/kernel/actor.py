"""The actor that others subclass, and the tasks that live and die with one instance of it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from runner.kernel.ref import Overflow, Ref

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

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
    _supervised: Tasks[M]

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
        self._supervised.start(func, args, name=name, on_error=on_error)

    def cancel_task(self, name: str) -> bool:
        """Cancel a task; its name is free at once. Returns whether there was one."""
        return self._supervised.cancel(name)

    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that run, oldest first."""
        return tuple(self._supervised.named)


class Tasks(Generic[M]):
    """The tasks of one instance of an actor. A failed one cancels the task that runs the actor."""

    def __init__(self, ref: Ref[M], owner: asyncio.Task[None]) -> None:
        self.named: dict[str, asyncio.Task[None]] = {}
        self.failure: Exception | None = None
        self._ref = ref
        self._owner = owner
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        # Whether this cancelled the owner itself, so that others' cancellations can be told apart.
        self._pulled = False

    def start(
        self,
        func: Callable[..., Awaitable[None]],
        args: tuple[object, ...],
        *,
        name: str,
        on_error: Callable[[Exception], M] | None,
    ) -> None:
        if name in self.named:
            text = f"cannot start task {name!r} of actor {self._ref.name!r}: one of that name runs; cancel it first"
            raise ValueError(text)
        task = asyncio.create_task(self._run(func, args, name, on_error), name=f"{self._ref.name}/{name}")
        self.named[name] = task
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if self._stopping:
            task.cancel()

    def cancel(self, name: str) -> bool:
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

    def crash(self, cancelled: asyncio.CancelledError) -> Exception | None:
        """The crash that hides behind a cancellation of the actor, or None if somebody meant to cancel it."""
        if self._owner.cancelling() > self._pulled:
            return None
        return self.failure or _cancelled_elsewhere(f"actor {self._ref.name!r}", cancelled)

    def release(self) -> None:
        """Take back the cancellation by which a failed task stopped the actor."""
        if self._pulled:
            self._owner.uncancel()

    async def _run(
        self,
        func: Callable[..., Awaitable[None]],
        args: tuple[object, ...],
        name: str,
        on_error: Callable[[Exception], M] | None,
    ) -> None:
        this = asyncio.current_task()
        try:
            await func(*args)
        except asyncio.CancelledError as cancelled:
            if this is None or this.cancelling():
                raise
            self._failed(_cancelled_elsewhere(f"task {name!r} of actor {self._ref.name!r}", cancelled), on_error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the actor hears of it or crashes
            self._failed(error, on_error)
        finally:
            if self.named.get(name) is this:
                del self.named[name]

    def _failed(self, error: Exception, on_error: Callable[[Exception], M] | None) -> None:
        if on_error is None:
            self._fail_owner(error)
            return
        try:
            self._ref.urgent(on_error(error))
        except Exception as bug:  # noqa: BLE001 - an error that cannot be told is a crash
            self._fail_owner(bug)

    def _fail_owner(self, error: Exception) -> None:
        self.failure = self.failure or error
        if not (self._stopping or self._pulled):
            self._pulled = True
            self._owner.cancel()


def _cancelled_elsewhere(who: str, cancelled: asyncio.CancelledError) -> RuntimeError:
    error = RuntimeError(f"{who} awaited something that was cancelled elsewhere")
    error.__cause__ = cancelled
    return error


def bind(actor: Actor[M], ref: Ref[M], owner: asyncio.Task[None]) -> Tasks[M]:
    """Give an instance its address and its tasks."""
    actor.ref = ref
    actor._supervised = tasks = Tasks(ref, owner)  # noqa: SLF001 - subclasses need no __init__ of ours
    return tasks
