"""``runner cancel`` and ``drain``."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.cli import paths
from runner.cli.books import WaitingJob, waiting_jobs
from runner.cli.jobs import unknown_job
from runner.cli.output import print_json
from runner.cli.parser import add_command, add_json, add_queue
from runner.cli.submission import DURATION
from runner.errors import AlreadyStored, Unavailable
from runner.job import EndReason, Verdict
from runner.receipt import Event, JobRow, Receipt

if TYPE_CHECKING:
    import argparse

    from runner.cli.parser import Subparsers
    from runner.cli.target import Target
    from runner.ports import Results


def add_parser(subparsers: Subparsers) -> None:
    """Add both."""
    cancelling = add_command(subparsers, "cancel", cancel)
    cancelling.add_argument("job", metavar="JOB", help="its id or key")
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
    from adapters.http.client import ControlClient
    from runner.cli.target import existing_place, open_target

    if args.queue:
        existing_place(args)
        async with open_target(args) as target:
            return await cancel_in_queue(args, target)
    state = paths.state_dir(args)
    try:
        return await asyncio.to_thread(ControlClient(paths.control_socket(state)).cancel, args.job)
    except Unavailable:
        if not (state / "queue").is_dir():
            raise unknown_job(args) from None
    async with open_target(args) as target:
        return await _cancel_without_runner(args, target)


async def _cancel_without_runner(args: argparse.Namespace, target: Target) -> str:
    from runner.cli.books import open_journal

    async with open_journal(paths.state_dir(args)) as journal:
        entry = await journal.find(args.job)
    if entry is None or entry.settled is not None:
        return await cancel_in_queue(args, target)
    await target.results.request_stop(entry.claimed.claim.id)
    return f"{entry.claimed.claim.id} has a stop mark now: no runner is running, the next start ends it"


async def cancel_in_queue(args: argparse.Namespace, target: Target) -> str:
    """Withdraw a waiting job and store its end, else set a stop mark for the box that has it."""
    waiting = [job for job in waiting_jobs(target.place.root, target.queue.name) if args.job in {job.row.id, job.key}]
    for job in waiting:
        if await target.queue.withdraw(job.row.id):
            await _store_end(target.results, job)
            return f"{job.row.id} is withdrawn from its queue, where it waited"
    row = next((row for row in await target.results.list(ended=True) if row.id == args.job), None)
    if row is None:
        raise unknown_job(args)
    if row.state == "ended":
        return f"{row.id} ended already: {row.end_reason}"
    await target.results.request_stop(row.id)
    return f"{row.id} has a stop mark now: the box that has it ends it"


async def _store_end(results: Results, job: WaitingJob) -> None:
    """Tell those who follow a job that was never started: no box will."""
    now, message = time.time(), "withdrawn from its queue before a box took it"
    event = Event(job.key, job.row.id, now, "ended", message=message, end_reason=EndReason.CANCELLED.value)
    fields = {name: getattr(job.row, name) for name in JobRow.__struct_fields__}
    ended = {"state": "ended", "end_reason": event.end_reason, "ended_at": now}
    with suppress(AlreadyStored):
        await results.put_receipt(
            Receipt(**{**fields, **ended}, key=job.key, message=message, verdict=Verdict.ACK.value)
        )
    await results.append(job.key, job.row.id, (event,), ())


def _tell(args: argparse.Namespace, sentence: str) -> int:
    print_json({"sentence": sentence}) if args.json else print(sentence)
    return 0
