"""
How a job gets into a queue: told of where its result backend is all that others can look into, and put.

The submission is chosen here, so that the job has its key before its message stands anywhere.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from runner.errors import RunnerError, Unavailable
from runner.job import EndReason, Key, make_key
from runner.receipt import Event, JobRow

if TYPE_CHECKING:
    from runner.cli.target import Target
    from runner.job import Job
    from runner.ports import Results


async def put_job(job: Job, target: Target) -> Key:
    """
    Put a job into a queue and return its key.

    Where the service does not show what stands in it, the result backend hears of the job first. A job that was refused
    ends there; of one that may have been put after all, it is said that nobody knows.

    Raises:
        RunnerError: it was not put, or that is not known.
    """
    from adapters.wire.native import encode_job

    submission, body = secrets.token_hex(12), encode_job(job, "json")
    key = make_key(target.queue.identity, job.id, submission)
    backend = target.backend if await target.queue.peek(1) is None else None
    if backend is not None:
        await backend.append(key, job.id, (_told_first(job, key, target.queue.name),), ())
    try:
        put_as = await target.queue.put(
            body, job_id=job.id, user=job.user, priority=job.priority, submission=submission
        )
    except RunnerError as error:
        if backend is not None:
            await _tell_failure(backend, key, job.id, error)
        raise
    return make_key(target.queue.identity, job.id, put_as)


def _told_first(job: Job, key: Key, queue: str) -> Event:
    now = time.time()
    row = JobRow(job.id, job.name, job.user, queue, submitted_at=now)
    return Event(key, job.id, now, "waiting", message=f"it waits in {queue} for a box to take it", row=row)


async def _tell_failure(backend: Results, key: Key, job_id: str, error: RunnerError) -> None:
    """End a job that does not stand in its queue; a service that did not answer may have taken it."""
    event = Event(key, job_id, time.time(), "ended", message=f"it was not put: {error}")
    event = msgspec.structs.replace(event, end_reason=EndReason.REJECTED.value)
    if isinstance(error, Unavailable):
        text = f"it is not known whether it was put: {error}"
        event = msgspec.structs.replace(event, state="waiting", message=text, end_reason=None)
    await backend.append(key, job_id, (event,), ())
