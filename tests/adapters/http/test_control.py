"""The control socket: what it answers, who may ask, and how it comes and goes."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from adapters.http.client import ControlClient
from adapters.http.control import CLOSE_WITHIN_S, open_control
from runner.errors import ConfigurationError, Refused, Unavailable
from runner.ports import LogLine
from runner.receipt import Event
from tests.adapters.http.control_box import GPUS, KEY, SOURCES, box


def test_it_passes_on_what_it_is_asked(tmp_path: Path) -> None:
    """Every command that needs a running runner goes through here."""

    async def main() -> None:
        async with box(tmp_path) as it:
            assert os.getpid() == (await it.asked(it.client.health)).pid
            assert await it.asked(it.client.sources) == SOURCES
            assert await it.asked(it.client.gpus) == GPUS
            assert await it.asked(lambda: it.client.cancel("a b/c")) == "a b/c is being stopped"
            assert (await it.asked(lambda: it.client.stop(leave=False, grace_s=30.0))).startswith("draining: ")
            assert (await it.asked(lambda: it.client.stop(leave=False, grace_s=90.0))).startswith("hurried: ")
            assert (await it.asked(lambda: it.client.stop(leave=True, grace_s=None))).startswith("leaving: ")
            assert it.control.cancelled == ["a b/c"]
            assert it.control.stops == [(False, 30.0), (False, 90.0), (True, None)]

    asyncio.run(main())


def test_only_owner_and_group_may_open_it(tmp_path: Path) -> None:
    """Whoever may open it may cancel everybody's jobs."""

    async def main() -> int:
        async with box(tmp_path) as it:
            return stat.S_IMODE(it.path.stat().st_mode)

    assert asyncio.run(main()) == 0o660


def test_it_works_however_deep_its_directory_lies(tmp_path: Path) -> None:
    """The kernel takes 107 bytes; state directories are longer in tests and homes."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()

    async def main() -> None:
        async with box(deep) as it:
            assert await it.asked(it.client.gpus) == GPUS

    asyncio.run(main())
    assert not (deep / "control.sock").exists()


def test_a_file_left_by_a_killed_runner_is_replaced(tmp_path: Path) -> None:
    """Kill -9 is a normal way to stop."""
    stale = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(stale))

    async def main() -> None:
        async with box(tmp_path) as it:
            assert await it.asked(it.client.gpus) == GPUS

    asyncio.run(main())


def test_a_second_one_on_the_same_directory_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    """Two runners on one state directory would run jobs twice."""

    async def main() -> None:
        async with box(tmp_path) as it:
            with pytest.raises(ConfigurationError, match="another runner answers there"):
                async with open_control(it.path, it.control, it.journal, it.spool):
                    pass
            assert await it.asked(it.client.gpus) == GPUS

    asyncio.run(main())


def test_failures_come_back_as_what_they_are(tmp_path: Path) -> None:
    """A command's exit status depends on it."""

    async def main() -> None:
        async with box(tmp_path) as it:
            for failure in (Refused("no such job"), Unavailable("inventory: no answer within 10 s")):
                it.control.failure = failure
                with pytest.raises(type(failure), match=str(failure)):
                    await it.asked(lambda: it.client.cancel("x"))

    asyncio.run(main())


def test_without_a_runner_the_client_says_how_to_start_one(tmp_path: Path) -> None:
    """The commonest mistake of the first day."""
    with pytest.raises(Unavailable, match=f"no runner is running on {tmp_path}; start one with: runner run"):
        ControlClient(tmp_path / "control.sock").health()
    with pytest.raises(Unavailable, match="no runner is running"):
        ControlClient(tmp_path / "absent" / "control.sock").health()


def test_a_log_is_read_from_any_position(tmp_path: Path) -> None:
    """State changes come as what they are, bytes unchanged."""
    event = Event(KEY, "digits-1", 1.5, "running")

    async def main() -> None:
        async with box(tmp_path) as it:
            await it.claim()
            await it.spool.append(KEY, 1, "stdout", b"\xff\n")
            await it.spool.append(KEY, 1, "event", msgspec.json.encode(event))
            told = await it.asked(lambda: list(it.client.log("digits-1", follow=False)))
            assert told == [("1-0", LogLine(1, 0, 7, "stdout", b"\xff\n")), ("1-1", event)]
            assert told[1:] == await it.asked(lambda: list(it.client.log("digits-1", "1-0", follow=False)))
            with pytest.raises(Refused, match="no job 'nosuch' on this box"):
                await it.asked(lambda: list(it.client.log("nosuch", follow=False)))

    asyncio.run(main())


def test_following_sees_each_line_as_it_comes_and_ends_with_the_job(tmp_path: Path) -> None:
    """The next line is written only when the last one was seen, so nothing waits for more to come."""

    async def main() -> list[bytes]:
        async with box(tmp_path) as it:
            await it.claim()
            seen: asyncio.Queue[LogLine | Event] = asyncio.Queue()
            loop = asyncio.get_running_loop()

            def follow() -> None:
                for _, told in it.client.log("digits-1", follow=True):
                    loop.call_soon_threadsafe(seen.put_nowait, told)

            async with asyncio.TaskGroup() as group:
                following = group.create_task(asyncio.to_thread(follow))
                lines = []
                for number in range(3):
                    await it.spool.append(KEY, 1, "stdout", b"%d\n" % number)
                    line = await asyncio.wait_for(seen.get(), 10)
                    assert isinstance(line, LogLine)
                    lines.append(line.data)
                await it.end()
                await it.spool.seal(KEY, 1)
                await asyncio.wait_for(following, 10)
            return lines

    assert asyncio.run(main()) == [b"0\n", b"1\n", b"2\n"]


def test_a_follower_that_goes_away_is_let_go(tmp_path: Path) -> None:
    """Closing the socket must not wait for jobs that run for days."""

    async def main() -> None:
        async with box(tmp_path) as it:
            await it.claim()
            await it.spool.append(KEY, 1, "stdout", b"1\n")
            log = it.client.log("digits-1", follow=True)
            assert "1-0" == (await it.asked(lambda: next(log)))[0]
            await it.asked(log.close)  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_runner_that_ends_ends_its_followers(tmp_path: Path) -> None:
    """A drain does not hang on who is looking."""

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            async with box(tmp_path) as it:
                await it.claim()
                await it.spool.append(KEY, 1, "stdout", b"1\n")
                log = it.client.log("digits-1", follow=True)
                assert "1-0" == (await it.asked(lambda: next(log)))[0]
                rest = group.create_task(it.asked(lambda: _failure(lambda: next(log))))
                started = asyncio.get_running_loop().time()
            assert "broke off" in str(await rest)
            assert asyncio.get_running_loop().time() - started < CLOSE_WITHIN_S

    asyncio.run(asyncio.wait_for(main(), 30))


def _failure(ask: Callable[[], object]) -> Exception:
    with pytest.raises(Unavailable) as failure:
        ask()
    return failure.value
