"""The loop that other tests lean on: its clock jumps, never past work in hand, and a hang becomes an error."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from adapters.worker import Worker
from tests.virtual_time import VirtualDeadlock, VirtualTimeout, run_virtual


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_hours_pass_in_no_time_and_results_come_back() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return now_s()

    begun = time.monotonic()
    assert pytest.approx(86_400) == run_virtual(main())
    assert time.monotonic() - begun < 5


def test_timers_go_off_in_order_each_at_its_time() -> None:
    async def main() -> None:
        rang: list[tuple[float, float]] = []

        def ring(delay_s: float) -> None:
            rang.append((delay_s, now_s()))

        for delay_s in (3600, 0.001, 7, 7, 59.9):
            asyncio.get_running_loop().call_later(delay_s, ring, delay_s)
        await asyncio.sleep(4000)
        assert [0.001, 7, 7, 59.9, 3600] == [delay_s for delay_s, _ in rang]
        for delay_s, at in rang:
            assert pytest.approx(delay_s, abs=1e-5) == at

    run_virtual(main())


def test_small_steps_add_up_far_from_the_start() -> None:
    """A timer that falls short of its time by a rounding error would spin for ever."""

    async def main() -> None:
        await asyncio.sleep(5e5)
        for _ in range(10_000):
            await asyncio.sleep(0.1)
        assert pytest.approx(501_000) == now_s()

    run_virtual(main())


def test_time_limits_are_exact() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(90):
                await asyncio.Event().wait()
        assert pytest.approx(90) == now_s()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1000), 10)
        assert pytest.approx(100) == now_s()

    run_virtual(main())


def test_an_exception_comes_out_as_it_is() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_virtual(main())


def test_a_hang_is_an_error_that_names_who_waits_and_still_cleans_up() -> None:
    cleaned_up: list[float] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(10)
            cleaned_up.append(now_s())

    async def main() -> None:
        task = asyncio.create_task(wait(), name="the one that hangs")
        await asyncio.sleep(5)
        await task

    with pytest.raises(VirtualDeadlock, match=r"no timer is set at 5\.000 s(.|\n)*the one that hangs at .*\.py:\d+"):
        run_virtual(main())
    assert [pytest.approx(15)] == cleaned_up


def test_timers_without_end_are_an_error_too() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(60)

    with pytest.raises(VirtualTimeout, match=r"still busy at 3660\.000 s"):
        run_virtual(main(), limit_s=3600)


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def main() -> None:
        release = threading.Event()
        asyncio.get_running_loop().call_soon(threading.Timer(0.05, release.set).start)
        assert await asyncio.wait_for(asyncio.to_thread(release.wait, 10), timeout=1)
        assert 0 == now_s()

    run_virtual(main())


def test_the_clock_stands_still_while_a_worker_works() -> None:
    """Each call as long as a timer could go off in, again and again, since both ends of a call may be raced."""

    async def main() -> None:
        worker = Worker("works")
        try:
            for _ in range(50):
                begun_s = now_s()
                waiting = asyncio.ensure_future(worker.run(threading.Event().wait, 0.002))
                await asyncio.wait({waiting}, timeout=0.001)
                await waiting
                assert begun_s == now_s()
        finally:
            worker.shutdown()

    run_virtual(main())


def test_somebodys_own_thread_is_waited_for_when_nothing_else_can_happen() -> None:
    async def main() -> None:
        called = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Timer(0.05, loop.call_soon_threadsafe, (called.set,)).start()
        await called.wait()
        assert 0 == now_s()

    run_virtual(main())


def test_sockets_work() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        _, other = await asyncio.open_connection(sock=theirs)
        other.write(b"hello\n")
        assert b"hello\n" == await reader.readline()
        for each in (writer, other):
            each.close()
            await each.wait_closed()
        assert 0 == now_s()

    run_virtual(main())


async def _forgotten_task() -> None:
    async def fail() -> None:
        raise LookupError("nobody looks")

    task = asyncio.create_task(fail())
    await asyncio.sleep(1)
    del task


async def _failing_callback() -> None:
    asyncio.get_running_loop().call_later(1, lambda: 1 // 0)
    await asyncio.sleep(2)


@pytest.mark.parametrize("main", [_forgotten_task, _failing_callback])
def test_an_error_that_nobody_handles_fails_the_run(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    with pytest.raises(AssertionError, match="errors that nobody handled"):
        run_virtual(run())
