"""A Redis that is killed, stopped, full, or a replica: what was claimed stays claimed, and errors say what to do."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from runner.errors import OutOfSpace, Unavailable
from runner.job import Note, Verdict
from tests.adapters.queues.redis_queues import (
    acknowledge,
    database,
    fetched,
    kill,
    redis_broker,
    redis_queue,
    server,
)
from tests.conformance.redis_harness import redis_url
from tests.services.ports import free_port

pytestmark = pytest.mark.broker


@pytest.fixture(name="port")
def _port() -> int:
    """Return a port for a server of the test's own, where Redis is there at all."""
    redis_url()
    return free_port()


def test_what_was_claimed_is_held_through_a_killed_server(port: int, tmp_path: Path) -> None:
    """With an append-only file that is written at each command."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")

    async def main() -> None:
        async with redis_broker(f"redis://127.0.0.1:{port}/0") as broker:
            with server(tmp_path, port, *durable) as pid:
                queue = await broker.open("train")
                assert "" == queue.warning
                for number in range(3):
                    await queue.put(b"%d" % number, job_id=f"j{number}", user="ada", priority=number)
                deliveries = [await fetched(queue) for _ in range(2)]
                waiting = asyncio.create_task(queue.fetch(20))
                settled = await waiting
                assert settled is not None
                await queue.settle(settled.token, Verdict.REJECT, after_s=0, note=Note(faults=5), reason="why")
                waiting = asyncio.create_task(queue.fetch(20))
                await queue.depth()
                kill(pid, port)
                with pytest.raises(Unavailable):
                    await waiting
                with pytest.raises(Unavailable, match=f":{port}.*check that it runs"):
                    await queue.renew(deliveries[0].token)
            with server(tmp_path, port, *durable):
                await queue.renew(deliveries[0].token)
                for delivery in deliveries:
                    await acknowledge(queue, delivery)
                await queue.settle(settled.token, Verdict.REJECT, after_s=0, note=Note(faults=5), reason="why")
                (row,) = await queue.dead()
                assert ("why", Note(faults=5)) == (row.reason, row.note)
                again = await broker.open("train")
                assert (queue.identity, 0) == (again.identity, await again.depth())
                assert await again.fetch(0) is None

    asyncio.run(main())


@pytest.mark.slow
def test_a_stopped_server_is_told_and_goes_on_where_it_was(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        with server(tmp_path, port) as pid:
            async with redis_queue(f"redis://127.0.0.1:{port}/0") as queue:
                submission = await queue.put(b"x", job_id="a")
                os.kill(pid, signal.SIGSTOP)
                try:
                    with pytest.raises(Unavailable, match="no answer in time"):
                        await queue.fetch(0)
                finally:
                    os.kill(pid, signal.SIGCONT)
                delivery = await fetched(queue)
                assert submission == delivery.submission
                await acknowledge(queue, delivery)

    asyncio.run(main())


def test_a_replica_cannot_be_written_to_and_says_so(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        with server(tmp_path, port):
            async with (
                redis_queue(f"redis://127.0.0.1:{port}/0") as queue,
                database(f"redis://127.0.0.1:{port}/0") as redis,
            ):
                for number in range(2):
                    await queue.put(b"x", job_id=f"j{number}")
                delivery = await fetched(queue)
                await redis.execute_command("REPLICAOF", "127.0.0.1", 1)
                with pytest.raises(Unavailable, match="cannot be written to"):
                    await queue.fetch(0)
                with pytest.raises(Unavailable, match="cannot be written to"):
                    await queue.renew(delivery.token)
                with pytest.raises(Unavailable, match="cannot be written to"):
                    await queue.put(b"x", job_id="a")
                await redis.execute_command("REPLICAOF", "NO", "ONE")
                await acknowledge(queue, delivery)

    asyncio.run(main())


def test_a_server_without_memory_takes_nothing_in_and_gives_out_what_it_has(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        with server(tmp_path, port):
            address = f"redis://127.0.0.1:{port}/0"
            async with redis_queue(address) as queue, database(address) as redis:
                for number in range(4):
                    await queue.put(b"%d" % number, job_id=f"j{number}")
                await redis.xadd("{runner:train}", {"body": b"4"})
                await redis.config_set("maxmemory", 1)
                with pytest.raises(OutOfSpace, match="maxmemory"):
                    await queue.put(b"x", job_id="a")
                for verdict in Verdict:
                    delivery = await fetched(queue)
                    await queue.renew(delivery.token)
                    after_s = 60.0 if verdict is not Verdict.RELEASE else 0.0
                    await queue.settle(delivery.token, verdict, after_s=after_s, note=Note(starts=1), reason="why")
                await acknowledge(queue, await fetched(queue))
                await redis.config_resetstat()
                assert await queue.fetch(1.5) is None
                stats = await redis.info("commandstats")
                assert stats["cmdstat_evalsha"]["calls"] < 5, "what cannot be taken in now is not tried all the time"
                await redis.config_set("maxmemory", 0)
                assert (1, 1) == (await queue.depth(), len(await queue.dead()))

    asyncio.run(main())


def test_a_server_that_may_forget_messages_is_warned_of(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        with server(tmp_path, port, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"):
            async with redis_queue(f"redis://127.0.0.1:{port}/0") as queue:
                assert "noeviction" in queue.warning
        with server(tmp_path, port):
            async with redis_queue(f"redis://127.0.0.1:{port}/0") as queue:
                assert "appendonly" in queue.warning

    asyncio.run(main())


def test_a_node_of_a_cluster_keeps_all_of_a_queue(port: int, tmp_path: Path) -> None:
    """Everything of one queue has one hash tag."""

    async def main() -> None:
        # Its own choice would be 10,000 above the other port, where there may be none.
        with server(tmp_path, port, "--cluster-enabled", "yes", "--cluster-port", str(free_port())):
            address = f"redis://127.0.0.1:{port}/0"
            async with database(address) as redis:
                await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                while b"cluster_state:ok" not in await redis.execute_command("CLUSTER", "INFO"):
                    await asyncio.sleep(0)
            async with redis_broker(address) as broker:
                queue = await broker.open("train")
                await queue.put(b"x", job_id="a", user="ada", priority=3)
                for verdict in (Verdict.RETRY, Verdict.REJECT):
                    delivery = await fetched(queue)
                    await queue.settle(delivery.token, verdict, after_s=0, note=Note(), reason="why")
                assert (("train",), 1) == (await broker.queues(), len(await queue.dead()))

    asyncio.run(main())
