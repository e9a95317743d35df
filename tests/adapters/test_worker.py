"""A thread for blocking calls: in order, never in the way of the event loop or of the end of the program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from adapters.worker import WAITING_MAX, Worker
from runner.errors import Unavailable

LONG_S = 20.0


def test_calls_run_one_after_the_other_and_give_their_results() -> None:
    async def main() -> None:
        worker, order = Worker("test"), list[int]()
        await asyncio.gather(*(worker.run(order.append, number) for number in range(50)))
        assert list(range(50)) == order
        assert 3 == await worker.run(int, "11", base=2)
        worker.shutdown()

    asyncio.run(main())


def test_an_error_is_raised_where_the_result_is_awaited() -> None:
    async def main() -> None:
        worker = Worker("test")
        for error in (ValueError("bad"), KeyboardInterrupt()):

            def fail(error: BaseException = error) -> None:
                raise error

            with pytest.raises(type(error)):
                await worker.run(fail)
        assert 1 == await worker.run(lambda: 1), "the thread goes on"
        worker.shutdown()

    asyncio.run(main())


def test_a_call_that_hangs_holds_up_nobody_but_those_behind_it() -> None:
    """The event loop goes on, and who gives up waiting is not run later."""

    async def main() -> None:
        worker, released, run = Worker("test"), threading.Event(), list[int]()
        hanging = asyncio.create_task(worker.run(released.wait))
        behind = [asyncio.create_task(worker.run(run.append, number)) for number in range(2)]
        for _ in range(10):
            await asyncio.sleep(0)
        behind[0].cancel()
        await asyncio.gather(behind[0], return_exceptions=True)
        released.set()
        await asyncio.gather(hanging, behind[1])
        assert [1] == run
        worker.shutdown()

    asyncio.run(main())


def test_calls_behind_one_that_hangs_do_not_add_up_for_ever() -> None:
    async def main() -> None:
        worker, released, started = Worker("test"), threading.Event(), threading.Event()

        def hang() -> int:
            started.set()
            return int(released.wait())

        hanging = worker.submit(hang)
        await asyncio.to_thread(started.wait, LONG_S)
        waiting = [worker.submit(int) for _ in range(WAITING_MAX)]
        with pytest.raises(Unavailable, match="does not answer"):
            await worker.run(int)
        released.set()
        await asyncio.gather(*(asyncio.wrap_future(call) for call in [hanging, *waiting]))
        assert 0 == await worker.run(int)
        worker.shutdown()

    asyncio.run(main())


def test_a_closed_worker_ends_what_it_has_and_takes_no_more() -> None:
    async def main() -> None:
        worker = Worker("test")
        last = worker.submit(lambda: 7)
        worker.shutdown()
        worker.shutdown()
        assert 7 == await asyncio.wrap_future(last)
        with pytest.raises(Unavailable, match="closed"):
            await worker.run(int)

    asyncio.run(main())


@pytest.mark.integration
def test_the_program_ends_while_a_call_hangs() -> None:
    """A file server that went away must not keep the runner from stopping."""
    program = (
        "import threading; from adapters.worker import Worker\n"
        "began = threading.Event()\n"
        "Worker('w').submit(lambda: began.set() or threading.Event().wait())\n"
        "began.wait()"
    )
    assert 0 == subprocess.run([sys.executable, "-c", program], timeout=LONG_S, check=False).returncode


def test_several_threads_take_calls_that_overlap_and_there_are_no_more_of_them() -> None:
    async def main() -> None:
        worker, met = Worker("test", threads=3), threading.Barrier(3)
        numbers = await asyncio.gather(*(worker.run(met.wait, LONG_S) for _ in range(6)))
        assert sorted(numbers) == [0, 0, 1, 1, 2, 2]
        used = {await worker.run(threading.get_ident) for _ in range(20)}
        threads = {thread.ident for thread in threading.enumerate() if thread.name == "test"}
        assert 3 == len(threads)
        assert used <= threads
        worker.shutdown()

    asyncio.run(main())
