"""``runner cancel`` and ``drain``."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.cli import paths
from runner.cli.books import newest_event, runner_answers
from runner.cli.jobs import unknown_job
from runner.cli.line import job_of
from runner.cli.output import print_json
from runner.cli.parser import add_command, add_job, add_json, add_queue
from runner.cli.submission import DURATION
from runner.errors import AlreadyStored, Refused, Unavailable
from runner.job import EndReason, Verdict
from runner.leaving import WITHDRAWN
from runner.receipt import Event, JobRow, Receipt

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from runner.cli.parser import Subparsers
    from runner.cli.target import Target
    from runner.ports import Delivery, Results


def add_parser(subparsers: Subparsers) -> None:
    """Add both."""
    cancelling = add_command(subparsers, "cancel", cancel)
    add_job(cancelling)
    add_json(cancelling)
    add_queue(cancelling)
    draining = add_command(subparsers, "drain", drain)
    draining.add_argument(
        "--leave", action="store_true", help="stop at once; jobs run on, the next start takes them back"
    )
    draining.add_argument("--grace", metavar="DURATION", type=DURATION, help="how long what runs may go on")
    add_json(draining)


def drain(args: argparse.Namespace) -> int:
    """Begin a drain, or leave; again hurries."""
    from adapters.http.client import ControlClient
    from runner.units import parse_duration

    grace_s = None if args.grace is None else float(parse_duration(_number(args.grace)))
    client = ControlClient(paths.control_socket(paths.state_dir(args)))
    return _tell(args, client.stop(leave=args.leave, grace_s=grace_s))


def _number(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def cancel(args: argparse.Namespace) -> int:
    """End a job; say which of the ways it took."""
    return _tell(args, end_job(args))


def end_job(args: argparse.Namespace) -> str:
    """
    End a job through the running runner, else through its queue, and return what was done in one sentence.

    Raises:
        Refused: nobody knows the job.
    """
    return asyncio.run(_end_job(args))


async def _end_job(args: argparse.Namespace) -> str:
    from runner.cli.place import find_place
    from runner.cli.target import open_target

    if not find_place(args).own:
        async with open_target(args, make=False) as target:
            return await cancel_in_queue(args, target)
    if not _has_queue(paths.state_dir(args)):
        return await _ask_runner(args)
    async with open_target(args, make=True) as target:
        return await _end_here(args, target)


def _has_queue(state: Path) -> bool:
    return (state / "queue").is_dir()


async def _ask_runner(args: argparse.Namespace) -> str:
    from adapters.http.client import ControlClient

    client = ControlClient(paths.control_socket(paths.state_dir(args)))
    try:
        return await asyncio.to_thread(client.cancel, args.job)
    except Unavailable:
        if runner_answers(paths.state_dir(args)):
            raise
        raise unknown_job(args) from None


async def _end_here(args: argparse.Namespace, target: Target) -> str:
    """Ask the running runner; without one, or where it does not know the job, the queue."""
    if not runner_answers(paths.state_dir(args)):
        return await _cancel_without_runner(args, target)
    try:
        return await _ask_runner(args)
    except Refused:
        standing = await target.line.jobs()
        if standing is None or not standing.named(args.job):
            raise
        return await cancel_in_queue(args, target)


async def _cancel_without_runner(args: argparse.Namespace, target: Target) -> str:
    from runner.cli.books import open_journal

    async with open_journal(paths.state_dir(args)) as journal:
        entry = await journal.find(args.job)
    if entry is None or entry.settled is not None:
        return await cancel_in_queue(args, target)
    await target.results.request_stop(entry.claimed.claim.id)
    return f"{entry.claimed.claim.id} has a stop mark now: no runner is running, the next start ends it"


async def cancel_in_queue(args: argparse.Namespace, target: Target) -> str:
    """
    Withdraw a waiting job and store its end, else set a stop mark for the box that has it or will have it.

    Raises:
        Refused: neither the queue nor its result backend knows the job, or there is no way to reach it.
    """
    standing = await target.line.jobs()
    waits = standing.named(args.job) if standing is not None else ()
    job_id = waits[0].row.id if waits else await _told_id(args.job, target)
    if standing is None or waits:
        withdrawn = await target.queue.withdraw(job_id)
        for delivery in withdrawn:
            await _store_end(target, delivery)
        if withdrawn:
            return f"{job_id} is {WITHDRAWN}"
    rows = [row for row in await target.results.list(ended=True) if row.id == job_id]
    claimed = [job.row for job in standing.claimed if args.job in {job.row.id, job.key}] if standing is not None else []
    row = next(iter((*(row for row in rows if row.state != "ended"), *claimed, *rows)), None)
    if row is None:
        raise unknown_job(args)
    return await _mark(row, target.results, held=bool(claimed) or row.state != "waiting")


async def _told_id(job: str, target: Target) -> str:
    """Return the id of a job that was named by its key, as far as the result backend knows that."""
    event = await newest_event(target.backend, job)
    return event.id if event is not None else job


async def _mark(row: JobRow, results: Results, *, held: bool) -> str:
    """Leave a stop mark, unless the job ended: one that came too late must not end the next job of this id."""
    if row.state != "ended":
        await results.request_stop(row.id)
        ended = await results.get(row.id)
        if ended is None or ended.state != "ended":
            return f"{row.id} has a stop mark now: the box that {'has it' if held else 'takes it'} ends it"
        await results.clear_stop(row.id)
        row = ended
    return f"{row.id} ended already: {row.end_reason}"


async def _store_end(target: Target, delivery: Delivery) -> None:
    """Tell those who follow a job that no box has, then let its message go: none will start it any more."""
    job = job_of(target.queue, delivery)
    now, attempt, reason = time.time(), delivery.note.attempt, EndReason.CANCELLED.value
    fields = {name: getattr(job.row, name) for name in JobRow.__struct_fields__}
    ended = {"state": "ended", "end_reason": reason, "ended_at": now, "attempt": attempt}
    if target.backend is not None:
        receipt = Receipt(**{**fields, **ended}, key=job.key, message=WITHDRAWN, verdict=Verdict.ACK.value)
        with suppress(AlreadyStored):
            await target.backend.put_receipt(receipt)
        event = Event(job.key, job.row.id, now, "ended", attempt, WITHDRAWN, reason)
        await target.backend.append(job.key, job.row.id, (event,), ())
    await target.queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")


def _tell(args: argparse.Namespace, sentence: str) -> int:
    print_json({"sentence": sentence}) if args.json else print(sentence)
    return 0
