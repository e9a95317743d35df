"""What scenes are told in: one life of a runner on a fake world, and what may be asked of that world meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from runner.app import Runner, build
from runner.config import Config
from runner.messages import StopCredits, StopFetching
from runner.receipt import Receipt
from tests.fakes.world import FakeWorld, configuration, job_bytes, key_of, new_life


@asynccontextmanager
async def alive(world: FakeWorld, config: Config | None = None, *, killed: bool = False) -> AsyncIterator[Runner]:
    """One undisturbed life; at its end it leaves what runs, in good order or, where it is killed, in none."""
    life = new_life(1)
    runner = build(config or configuration(), world.open(life))
    running = asyncio.ensure_future(runner.run())
    try:
        yield runner
    finally:
        if killed:
            life.end()
            running.cancel()
        elif not running.done():
            await runner.stop(grace_s=5.0, order=("logs",))
        life.end()
        await asyncio.wait({running})
    world.ledger.check()
    if not running.cancelled():
        running.result()


def stop_fetching(runner: Runner) -> None:
    """Let nothing new come, as where a runner is told to stop."""
    runner.address("sources").urgent(StopFetching())
    runner.address("inventory").urgent(StopCredits())


async def until(condition: Callable[[], object], limit_s: float = 5000.0) -> None:
    """Wait in virtual time until something is so."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.2)


async def put(world: FakeWorld, queue: str, **fields: object) -> None:
    fields.setdefault("command", ["run", "3", "0", "5"])
    job_id, user = str(fields.get("id", "")), str(fields.get("user", ""))
    await world.queues[queue].put(job_bytes(**fields), job_id=job_id, user=user)


def newest(world: FakeWorld, job_id: str) -> Receipt | None:
    receipts = [receipt for receipt in world.results.receipts.values() if receipt.id == job_id]
    return max(receipts, key=lambda receipt: receipt.attempt, default=None)


def ended(world: FakeWorld, *job_ids: str) -> bool:
    found = [newest(world, job_id) for job_id in job_ids]
    return all(receipt is not None and receipt.state == "ended" for receipt in found)


def reason(world: FakeWorld, job_id: str) -> str | None:
    receipt = newest(world, job_id)
    return receipt.end_reason if receipt else None


def why(world: FakeWorld, job_id: str) -> str:
    waiting = world.journal.entries[key_of(world, job_id)].waiting
    return waiting.sentence if waiting else ""


def now() -> float:
    return asyncio.get_running_loop().time()
