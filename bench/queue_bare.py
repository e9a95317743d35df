"""
The bare consumer, in a process of its own: takes a message, runs its job by the runner's own starter, acknowledges it.

It has no journal, spool, lease or receipt. The benchmark starts ``main`` with one argument, an ``Order`` as JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec
import uvloop

from bench.peers import AT_ONCE, Given, StartLoop, open_start_loop
from bench.queue_clients import BareClient, Place, open_client
from runner.config import Config


class Order(msgspec.Struct, frozen=True):
    """What to consume and how: the state directory, what each slot is granted, the FIFO that is told what is done."""

    place: Place
    state_dir: str
    given: Given
    fifo: str


class Wanted(msgspec.Struct, frozen=True):
    """A message."""

    id: str
    command: tuple[str, ...]


async def consume(order: Order) -> None:
    done = os.open(order.fifo, os.O_WRONLY | os.O_CLOEXEC)
    client = await open_client(order.place)
    config = Config(state_dir=order.state_dir, gpus="none", docker_host="")
    async with open_start_loop(config, order.given) as starts, asyncio.TaskGroup() as group:
        for slot in range(AT_ONCE):
            group.create_task(one_slot(client, starts, slot, done))


async def one_slot(client: BareClient, starts: StartLoop, slot: int, done: int) -> None:
    while True:
        taken = await client.take()
        wanted = msgspec.json.decode(taken.body, type=Wanted)
        await starts.job(wanted.id, slot, wanted.command)
        await client.acknowledge(taken)
        os.write(done, f"={wanted.id}\n".encode())


def main() -> None:
    """Consume until killed."""
    uvloop.run(consume(msgspec.json.decode(sys.argv[1], type=Order)))
