"""
The demo from its first line to its last process: what happens in which order, and that nothing is left of it.

Every wait has an end; what takes too long is a failure that says so.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from runner.cli.demo.account import Account
from runner.cli.demo.acts import Show
from runner.cli.demo.ending import end_all
from runner.cli.demo.screen import Screen
from runner.cli.demo.stage import Stage
from runner.errors import RunnerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def play(stage: Stage, screen: Screen) -> Account | None:
    """
    Play all acts that were not played yet and return what was found; None where a signal ended it.

    Nothing runs any more afterwards. What is temporary stays after a signal, for a demo that goes on with it.
    """
    started, show = time.monotonic(), Show(stage, screen)
    problems = await _unless_interrupted(show)
    if problems is None:
        return None
    return Account(
        ok=not problems,
        seconds=round(time.monotonic() - started, 1),
        directory=str(stage.named),
        log=str(stage.named / stage.log.name),
        problems=tuple(problems),
        box=show.played.box,
        first_start_s=show.played.first_start_s,
        jobs=show.jobs,
        kill=show.played.kill,
        digits=show.digits,
        resumed=stage.before is not None,
    )


async def _unless_interrupted(show: Show) -> list[str] | None:
    """Return what was not as expected, in order; None where a signal came first."""
    task, interrupted = asyncio.current_task(), False
    _on_signals(lambda: task.cancel() if task else None)
    try:
        await show.play()
    except asyncio.CancelledError:
        interrupted = True
    except OSError:
        interrupted = True  # whoever read what is shown went away
        raise
    except RunnerError as error:
        show.problems.append(" ".join(str(error).split()))
    finally:
        # From here on nothing may keep the rest from being ended; all of it is bounded.
        _on_signals(lambda: None)
        await _end(show, keep=interrupted)
    return None if interrupted else show.problems


async def _end(show: Show, *, keep: bool) -> None:
    try:
        await show.close()
    finally:
        left = await end_all(show.stage.state)
        # Here, where no signal can cut it short: one that comes later finds nothing to leave behind.
        if not keep:
            show.stage.clear()
    if left and not show.problems:
        show.problems.append(f"the runner left {', '.join(left)} behind")


def _on_signals(call: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, call)
