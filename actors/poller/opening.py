"""How a queue is opened: however long its service is away, and for one reader on this box alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runner.backend import Backend
from runner.calls import Caller
from runner.directory import Directory, QueueEntry
from runner.errors import RunnerError
from runner.job import EndReason
from runner.kernel import Ref
from runner.messages import StopFetching, StopJob, TakenOver
from runner.ports import Queue
from runner.source import StandingPoller
from runner.trail import Trail

T = TypeVar("T")

FIRST_S = 0.2
MOST_S = 30.0
LOOK_AGAIN_S = 0.5
REFUSED_S = 12.0
"""A service that refuses us is left alone up to five times as long; a changed file is tried at once."""


async def until_open(
    open_once: Callable[[], Awaitable[T]], jitter: Callable[[], float], trouble: Callable[[str], None]
) -> T:
    """
    Open with back-off, whatever the error: a person may mend what is refused.

    ``jitter`` returns a number from 0 to 1; ``trouble`` is called with why it is not open yet.
    """
    pause = FIRST_S
    while True:
        try:
            return await open_once()
        except RunnerError as error:
            trouble(str(error))
        await asyncio.sleep(pause * (0.5 + jitter() / 2))
        pause = min(MOST_S, pause * 2)


def rest_s(error: RunnerError, jitter: Callable[[], float]) -> float:
    """Return for how long a queue is left alone after a call that did not work."""
    return (1.0 if error.retryable else REFUSED_S) * (1.0 + 4.0 * jitter())


async def open_once(standing: StandingPoller, backend: Backend, caller: Caller) -> Queue:
    """
    Open a queue, which the caller closes, after its result backend, which stays open for the next try.

    Raises:
        RunnerError: one of them cannot be opened now.
    """
    backend.open(standing.credential, standing.queue)
    return await caller.once(lambda: standing.broker.open(standing.queue), f"queue {standing.queue}")


async def end_cut_off(
    standing: Callable[[], StandingPoller],
    directory: Directory,
    trail: Trail,
    stages: tuple[Ref[StopJob], ...],
    now: Callable[[], float],
) -> None:
    """
    While a queue cannot be opened, end the jobs that were claimed from it by an earlier life, a lease from now.

    Where they must never run twice at once: nobody renews those claims. ``now`` is wall time.
    """
    while True:
        await asyncio.sleep(float(standing().credential.lease))
        at, file = standing(), standing().file.file
        claims = [entry.claimed.claim for entry in await trail.in_flight() if entry.stored is None]
        for claim in claims if at.credential.rights.cut_off == "stop" else ():
            if (claim.source, claim.queue_name) == (file, at.queue) and directory.find(claim.queue) is None:
                for stage in stages:
                    stage.urgent(StopJob(claim.key, claim.attempt, EndReason.LEASE_LOST, now()))


async def has_claims(directory: Directory, trail: Trail, poller: Ref[StopFetching], file: str, queue_name: str) -> bool:
    """
    Tell whether a poller that is to finish, and has not looked at its claims yet, may have some.

    Before it has opened its queue only the journal can tell, by the file that they came through; those are another's
    where a poller that is to go on has their queue.
    """
    if any(entry.poller is poller for entry in directory.all()):
        return True
    queues = await trail.queues_of(file, queue_name)
    return not all(map(directory.is_read, queues))


async def until_alone(directory: Directory, queue: str, mine: QueueEntry, tell_state: Callable[[str], None]) -> None:
    """
    Enter a queue, once nobody else on this box reads it: two readers here would be one too many.

    From one that only finishes it is taken over at once, with all that runs of it, as by the next life of a runner that
    was killed, once it has closed the queue, which takes seconds at most; but not where it has results told elsewhere:
    whoever follows its jobs looks there for their end; nor where claims end with it.
    """
    while (other := directory.find(queue)) is not None and other.poller is not mine.poller:
        if other.finishing() is not None and not _why_it_stays(mine, other):
            directory.enter(queue, mine)
            other.poller.urgent(TakenOver())
            await other.closed.wait()
            return
        tell_state(_why_not_alone(mine, other))
        await asyncio.sleep(LOOK_AGAIN_S)
    directory.enter(queue, mine)


def _why_not_alone(mine: QueueEntry, other: QueueEntry) -> str:
    whose = f"credential file {other.source}" if other.source != mine.source else f"what {other.source} said before"
    jobs = other.finishing()
    if jobs is None:
        return f"waiting: {whose} serves this queue already"
    why = _why_it_stays(mine, other)
    what = f"{jobs} running {'job' if jobs == 1 else 'jobs'}" if jobs else "the last logs"
    return f"waiting for {what} of {whose}, {why}"


def _why_it_stays(mine: QueueEntry, other: QueueEntry) -> str:
    """Say what keeps a queue from being taken over from one that only finishes it, "" for nothing."""
    if other.told_at != mine.told_at:
        return "whose results are told elsewhere"
    ends_claims = other.ends_claims or mine.ends_claims
    return "whose claims end with their connection" if ends_claims and other.finishing() else ""
