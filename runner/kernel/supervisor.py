"""The root of all actors: starts them, restarts them, stops them in order, and tells who asked how each ended."""

from __future__ import annotations

import asyncio
import logging
import random as randomness
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from runner.kernel.actor import Actor
from runner.kernel.child import Child, Restart, State
from runner.kernel.mailbox import Mailbox
from runner.kernel.ref import Counters, DeadLetter, Overflow, Ref

M = TypeVar("M")
logger = logging.getLogger(__name__)
_RESTART = Restart()


class Escalated(Exception):
    """A core actor crashed beyond its restarts, so everything was stopped; the cause is its last crash."""


@dataclass(frozen=True)
class Down:
    """How a child ended. Only `stopped` was meant; `error` is the last crash otherwise."""

    name: str
    reason: Literal["stopped", "crashed", "escalated"]
    error: Exception | None = None


@dataclass(frozen=True)
class ChildStatus:
    """One child as a status page shows it; `depth` counts both lanes."""

    name: str
    group: str
    state: State
    restarts: int
    depth: int
    dropped: int


class Supervisor:
    """Keeps named actors running until it is stopped or one of group "core" cannot go on."""

    def __init__(
        self,
        name: str = "root",
        *,
        on_dead_letter: Callable[[DeadLetter], None] | None = None,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self.name = name
        self._on_dead_letter = on_dead_letter or _log_dead_letter
        self._random = random
        self._mailboxes: dict[str, Mailbox[Any]] = {}
        self._children: dict[str, Child[Any]] = {}
        self._watchers: dict[str, list[Callable[[Down], None]]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._over = asyncio.Event()
        self._stopping = False
        self._escalated: Child[Any] | None = None

    def ref(self, name: str, *, capacity: int | None = None, overflow: Overflow | None = None) -> Ref[Any]:
        """The address of that name, always the same. What is not declared here, the actor's class says."""
        mailbox = self._mailbox(name)
        mailbox.declare(capacity, overflow)
        return mailbox.ref

    def add(
        self, name: str, factory: Callable[[], Actor[M]], *, group: str = "core", restart: Restart = _RESTART
    ) -> Ref[M]:
        """
        Supervise an actor, from now or from the start of `run`. Each restart takes a new instance from the factory.

        Raises:
            ValueError: a child of this name exists and has not been removed.
        """
        if name in self._children:
            text = f"cannot add actor {name!r}: there is one; remove it first"
            raise ValueError(text)
        mailbox = self._mailbox(name)
        child = Child(mailbox, factory, group=group, restart=restart, random=self._random)
        self._children[name] = child
        mailbox.open()
        if self._group is not None or self._stopping:
            self._start(child)
        return mailbox.ref

    async def remove(self, name: str, *, grace_s: float) -> None:
        """Stop one child gracefully, cancel it after the grace, and forget it. No error if there is none."""
        if child := self._children.get(name):
            await self._stop_all([child], grace_s)
            if self._children.get(name) is child:
                del self._children[name]

    def watch(self, name: str, tell: Callable[[Down], None]) -> None:
        """Call `tell` whenever the child of that name ends for good; at once if it already has."""
        self._watchers.setdefault(name, []).append(tell)
        if (child := self._children.get(name)) and child.ended.is_set():
            tell(self._down(child))

    async def run(self) -> None:
        """
        Run all children until `stop`. Every lifespan has been left when this returns or raises.

        Raises:
            Escalated: a core actor crashed beyond its restarts.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                for child in tuple(self._children.values()):
                    self._start(child)
                await self._over.wait()
        finally:
            self._stopping = True
            for mailbox in self._mailboxes.values():
                mailbox.close()
        if self._escalated is not None:
            text = f"actor {self._escalated.name!r} of {self.name!r} crashed beyond its restarts"
            raise Escalated(text) from self._escalated.crash

    async def stop(self, *, grace_s: float, order: Sequence[str] = ()) -> None:
        """
        Stop all children gracefully, one after another: those not named in `order` as they were added, then the named.

        After `grace_s` in all, whatever is left is cancelled. A second call with a shorter grace hurries the first. Not
        to be awaited by a child.
        """
        self._stopping = True
        first = [child for name, child in self._children.items() if name not in order]
        last = [self._children[name] for name in order if name in self._children]
        await self._stop_all([*first, *last], grace_s)
        self._over.set()

    def children(self) -> tuple[ChildStatus, ...]:
        """The state of each child, in the order they were added."""
        return tuple(_status(child) for child in self._children.values())

    def counters(self) -> tuple[Counters, ...]:
        """The state of each mailbox ever declared, in that order."""
        return tuple(mailbox.counters() for mailbox in self._mailboxes.values())

    def _mailbox(self, name: str) -> Mailbox[Any]:
        if name not in self._mailboxes:
            self._mailboxes[name] = Mailbox(name, self._on_dead_letter)
        return self._mailboxes[name]

    def _start(self, child: Child[Any]) -> None:
        if self._group is None or self._stopping:
            self._end(child)
            return
        child.task = self._group.create_task(child.run(), name=child.name)
        child.task.add_done_callback(lambda _: self._end(child))

    async def _stop_all(self, children: Sequence[Child[Any]], grace_s: float) -> None:
        def cancel() -> None:
            for child in children:
                child.cancel()

        timer = asyncio.get_running_loop().call_later(grace_s, cancel)
        try:
            for child in children:
                child.drain()
                if child.task is None:
                    self._end(child)
                await child.ended.wait()
        finally:
            timer.cancel()

    def _end(self, child: Child[Any]) -> None:
        if child.ended.is_set():
            return
        child.state = "stopped"
        child.mailbox.close()
        child.ended.set()
        if child.crash is not None:
            self._judge(child, child.crash)
        for tell in self._watchers.get(child.name, ()):
            tell(self._down(child))

    def _judge(self, child: Child[Any], crash: Exception) -> None:
        extra = {"action": "actor_down", "actor": child.name, "group": child.group}
        logger.error("actor crashed beyond its restarts", extra=extra, exc_info=crash)
        if child.group != "core" or self._escalated is not None:
            return
        self._escalated = child
        self._stopping = True
        self._over.set()
        for other in self._children.values():
            other.cancel()

    def _down(self, child: Child[Any]) -> Down:
        if child.crash is None:
            return Down(child.name, "stopped")
        return Down(child.name, "escalated" if child is self._escalated else "crashed", child.crash)


def _status(child: Child[Any]) -> ChildStatus:
    mailbox = child.mailbox
    depth = len(mailbox.normal) + len(mailbox.urgent)
    return ChildStatus(child.name, child.group, child.state, child.restarts, depth, mailbox.dropped)


def _log_dead_letter(letter: DeadLetter) -> None:
    extra = {"action": "dead_letter", "to": letter.to, "message_type": type(letter.message).__name__}
    logger.warning("message was not handled: its actor had %s", letter.reason, extra=extra)
