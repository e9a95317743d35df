"""
An actor that tests drive through messages: it writes down what it gets, and does what it is told.

A stage is a supervisor that runs in the background of a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from runner.kernel import Actor, Counters, DeadLetter, Ref, Reply, Restart, Supervisor

Act = Callable[["Player"], Awaitable[None]]


class Broken(Exception):
    """What players crash with."""


class Player(Actor[object]):
    """Writes each message into the diary; a message that can be called is done instead."""

    cleanup_s = 10.0

    def __init__(self, diary: list[object]) -> None:
        self.diary = diary

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.diary.append("enter")
        yield
        self.diary.append("leave")

    async def receive(self, message: object) -> None:
        if callable(message):
            await cast("Act", message)(self)  # tests tell players nothing else that can be called
        else:
            self.diary.append(message)


@dataclass
class Stage:
    """A running supervisor with what became known of it."""

    supervisor: Supervisor
    letters: list[DeadLetter]
    diary: list[object] = field(default_factory=list)

    def player(self, name: str = "player", **options: Any) -> Ref[Any]:
        """Add a player that writes into the common diary."""
        return self.supervisor.add(name, lambda: Player(self.diary), **options)

    def counters(self, name: str = "player") -> Counters:
        """Look at one mailbox."""
        return next(counters for counters in self.supervisor.counters() if counters.name == name)

    def undelivered(self) -> list[tuple[str, object, str]]:
        """List the dead letters so far."""
        return [(letter.to, letter.message, letter.reason) for letter in self.letters]


@asynccontextmanager
async def stage(*, grace_s: float = 60.0, random: Callable[[], float] = lambda: 0.0) -> AsyncIterator[Stage]:
    """Run a supervisor around a block, and stop it gracefully after; `random` 0 means pauses without jitter."""
    letters: list[DeadLetter] = []
    supervisor = Supervisor(on_dead_letter=letters.append, random=random)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run(), name="supervisor")
        await asyncio.sleep(0)
        yield Stage(supervisor, letters)
        await supervisor.stop(grace_s=grace_s)


def now_s() -> float:
    """Read the loop's clock."""
    return asyncio.get_running_loop().time()


async def handled(ref: Ref[Any]) -> None:
    """Wait until the actor has handled all that was told before."""
    event = asyncio.Event()

    async def act(_: Player) -> None:
        event.set()

    await ref.tell(act)
    await event.wait()


async def crash(_: Player) -> None:
    """Tell this to a player to crash it."""
    raise Broken


async def hang(_: Player) -> None:
    """Tell this to a player to keep it busy until it is cancelled."""
    await asyncio.Event().wait()


class Gate:
    """Keeps a player busy from the moment it `entered` until the gate is opened."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let the player go on."""
        self._opened.set()

    async def __call__(self, _: Player) -> None:
        self.entered.set()
        await self._opened.wait()


async def closed_gate(ref: Ref[Any]) -> Gate:
    """Make an actor busy and return what frees it; its mailbox is empty then."""
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    return gate


def answering(value: object) -> Callable[[Reply[object]], Act]:
    """Make a question that the player answers with that value."""

    def make(reply: Reply[object]) -> Act:
        async def act(_: Player) -> None:
            reply.answer(value)

        return act

    return make


async def turns(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


EDGE: dict[str, Any] = {"group": "edge", "restart": Restart.NEVER}


async def forever() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def fail() -> None:
    """Fail a little later."""
    await asyncio.sleep(1)
    raise Broken


def starting(func: Callable[[], Awaitable[None]], name: str = "task", *, told: bool = False) -> object:
    """Make a message upon which a player starts that task, and is told of its error or not."""

    async def act(me: Player) -> None:
        me.start_soon(func, name=name, on_error=(lambda error: ("told", type(error))) if told else None)

    return act


class Named(Player):
    """Writes its name into the common diary when its lifespan is left."""

    def __init__(self, name: str, diary: list[object]) -> None:
        super().__init__(diary)
        self.name = name

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        yield
        self.diary.append(f"{self.name} left")


def troupe(diary: list[object], *names: str) -> Supervisor:
    """Make a supervisor of named players."""
    supervisor = Supervisor()
    for name in names:
        supervisor.add(name, lambda name=name: Named(name, diary))  # type: ignore[misc]
    return supervisor
