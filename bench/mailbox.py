"""
How fast messages move: tell and ask through mailbox, actor and supervisor as the runner uses them.

Beside it, interleaved in the same run and with the same frozen struct: a bare ``asyncio.Queue`` (its consumer counts in
its own loop and calls no handler), a bare future round trip through a deque to a task that waits on a future, and two
peers, Pykka and xoscar. Capacity is 1,024 wherever there is one (Pykka's inbox and xoscar's have none). Rates are
messages a second from the first send until the last was handled, medians over the rounds; all but Pykka's threads run
on uvloop.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import pykka
import uvloop
import xoscar

from bench.report import arguments, report
from runner.kernel import Actor, Ref, Reply, Restart, Supervisor

CAPACITY = 1024
TELLS, ASKS = 50_000, 10_000
PEER_TELLS, PEER_ASKS = 5_000, 1_000
TIMEOUT_S = 30.0
BARS = {"tell_over_queue": 2.0, "tell_over_best_peer": 5.0, "ask_over_bare": 0.8}


class Note(msgspec.Struct, frozen=True):
    """What is told."""

    text: str
    number: int


class Question(msgspec.Struct, frozen=True):
    """What is asked."""

    reply: Reply[int]


NOTE = Note("a line of a log", 7)
M = TypeVar("M")


def per_second(count: int, since: float) -> float:
    return count / (time.perf_counter() - since)


async def until(true: Callable[[], bool]) -> None:
    """Look after each turn of the loop, so that nobody has to test in his hot loop whether this was the last."""
    while not true():
        await asyncio.sleep(0)


# Ours


class Counting(Actor[Note]):
    """Counts what it is told."""

    handled = 0

    async def receive(self, message: Note) -> None:  # noqa: ARG002 - the same for all contenders: only counted
        self.handled += 1


class Answering(Actor[Question]):
    """Answers what it is asked."""

    async def receive(self, message: Question) -> None:
        message.reply.answer(1)


@asynccontextmanager
async def supervised(actor: Actor[M]) -> AsyncIterator[Ref[M]]:
    supervisor = Supervisor()
    supervisor.ref("actor", capacity=CAPACITY)
    ref = supervisor.add("actor", lambda: actor, restart=Restart.NEVER)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run())
        await asyncio.sleep(0.01)
        yield ref
        await supervisor.stop(grace_s=TIMEOUT_S)


async def tell_ours() -> float:
    actor = Counting()
    async with supervised(actor) as ref:
        begun = time.perf_counter()
        for _ in range(TELLS):
            await ref.tell(NOTE)
        await until(lambda: actor.handled == TELLS)
        return per_second(TELLS, begun)


async def ask_ours() -> float:
    async with supervised(Answering()) as ref:
        begun = time.perf_counter()
        for _ in range(ASKS):
            assert await ref.ask(Question, TIMEOUT_S) == 1
        return per_second(ASKS, begun)


# Bare asyncio


async def tell_queue() -> float:
    queue: asyncio.Queue[Note] = asyncio.Queue(CAPACITY)
    handled = 0

    async def consume() -> None:
        nonlocal handled
        while True:
            await queue.get()
            handled += 1

    consumer = asyncio.ensure_future(consume())
    await asyncio.sleep(0.01)
    begun = time.perf_counter()
    for _ in range(TELLS):
        await queue.put(NOTE)
    await until(lambda: handled == TELLS)
    rate = per_second(TELLS, begun)
    consumer.cancel()
    return rate


async def ask_bare() -> float:
    loop = asyncio.get_running_loop()
    waiting: deque[asyncio.Future[int]] = deque()
    sleeper: asyncio.Future[None] | None = None

    async def answer() -> None:
        nonlocal sleeper
        while True:
            while waiting:
                waiting.popleft().set_result(1)
            sleeper = loop.create_future()
            await sleeper
            sleeper = None

    answerer = asyncio.ensure_future(answer())
    await asyncio.sleep(0.01)
    begun = time.perf_counter()
    for _ in range(ASKS):
        future: asyncio.Future[int] = loop.create_future()
        waiting.append(future)
        if sleeper is not None:
            sleeper.set_result(None)
        assert await future == 1
    rate = per_second(ASKS, begun)
    answerer.cancel()
    return rate


# Peers


class PykkaActor(pykka.ThreadingActor):
    """Counts notes and answers anything else."""

    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self.handled = 0
        self.done = done

    def on_receive(self, message: object) -> int:
        if isinstance(message, Note):
            self.handled += 1
            if self.handled == PEER_TELLS:
                self.done.set()
        return 1


async def tell_pykka() -> float:
    done = threading.Event()
    ref = PykkaActor.start(done)
    begun = time.perf_counter()
    for _ in range(PEER_TELLS):
        ref.tell(NOTE)
    assert done.wait(TIMEOUT_S)
    rate = per_second(PEER_TELLS, begun)
    ref.stop()
    return rate


async def ask_pykka() -> float:
    ref = PykkaActor.start(threading.Event())
    begun = time.perf_counter()
    for _ in range(PEER_ASKS):
        assert ref.ask("question", timeout=TIMEOUT_S) == 1
    rate = per_second(PEER_ASKS, begun)
    ref.stop()
    return rate


class XoscarActor(xoscar.Actor):  # type: ignore[misc]  # published without types
    """Counts notes and answers questions."""

    def __init__(self) -> None:
        super().__init__()
        self.handled = 0

    async def note(self, _: Note) -> None:
        self.handled += 1

    async def question(self) -> int:
        return 1

    async def count(self) -> int:
        return self.handled


async def with_xoscar(measure: Callable[[xoscar.ActorRef], Awaitable[float]]) -> float:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        return await measure(await xoscar.create_actor(XoscarActor, address=pool.external_address))


async def tell_xoscar() -> float:
    async def measure(ref: xoscar.ActorRef) -> float:
        begun = time.perf_counter()
        for _ in range(PEER_TELLS):
            await ref.note.tell(NOTE)
        while await ref.count() < PEER_TELLS:
            pass
        return per_second(PEER_TELLS, begun)

    return await with_xoscar(measure)


async def ask_xoscar() -> float:
    async def measure(ref: xoscar.ActorRef) -> float:
        begun = time.perf_counter()
        for _ in range(PEER_ASKS):
            assert await ref.question() == 1
        return per_second(PEER_ASKS, begun)

    return await with_xoscar(measure)


CONTENDERS = (tell_ours, tell_queue, tell_pykka, tell_xoscar, ask_ours, ask_bare, ask_pykka, ask_xoscar)


def rates(rounds: int) -> dict[str, int]:
    """Give everybody one turn a round, each in a fresh loop, and take the medians."""
    found: dict[str, list[float]] = {contender.__name__: [] for contender in CONTENDERS}
    for _ in range(rounds):
        for contender in CONTENDERS:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                found[contender.__name__].append(loop.run(contender()))
    return {name: round(statistics.median(each)) for name, each in found.items()}


def main() -> int:
    options = arguments(__doc__, rounds=25).parse_args()
    rate = rates(options.rounds)
    ratios = {
        "tell_over_queue": rate["tell_ours"] / rate["tell_queue"],
        "tell_over_best_peer": rate["tell_ours"] / max(rate["tell_pykka"], rate["tell_xoscar"]),
        "ask_over_bare": rate["ask_ours"] / rate["ask_bare"],
        "ask_over_best_peer": rate["ask_ours"] / max(rate["ask_pykka"], rate["ask_xoscar"]),
    }
    rounded = {name: round(ratio, 2) for name, ratio in ratios.items()}
    reached = all(ratios[name] >= bar for name, bar in BARS.items())
    how = {"unit": "messages a second", "rounds": options.rounds, "capacity": CAPACITY}
    return report("mailbox", {**how, **rate, **rounded, "bars": BARS, "reached": reached}, options)


if __name__ == "__main__":
    raise SystemExit(main())
