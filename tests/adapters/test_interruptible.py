"""Long work in threads: its result, its error, and its end when nobody wants it any more."""

import asyncio
import threading

import pytest

from adapters.interruptible import Interrupted, Stop, interruptibly


def test_result_and_error_come_back() -> None:
    assert 7 == asyncio.run(interruptibly("work", lambda _: 7))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(interruptibly("work", lambda _: 1 // 0))


def test_a_cancelled_caller_returns_after_the_work_has_ended() -> None:
    """What goes on writing would write into a workspace that is being deleted."""
    begun, ended = threading.Event(), threading.Event()

    def work(stop: Stop) -> None:
        begun.set()
        try:
            while True:
                stop.check()
        except Interrupted:
            ended.set()
            raise

    async def main() -> bool:
        task = asyncio.ensure_future(interruptibly("work", work))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return ended.is_set()

    assert asyncio.run(main())
