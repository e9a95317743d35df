"""Commands beside a queue that cannot be looked into: what its result backend is told makes up for it."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import pytest

from adapters.results.folder import FolderResults
from runner.cli.books import QueueBook
from runner.cli.stopping import cancel_in_queue
from runner.cli.submitting import put_job
from runner.cli.target import Target
from runner.errors import BadInput, Refused, RunnerError, Unavailable
from runner.job import Job, Key
from runner.ports import Position
from runner.receipt import Event, Receipt
from tests.cli.closed_queues import closed_target

JOB = Job(id="digits-1", name="digits", user="ada", command=("true",))


def book_of(target: Target) -> QueueBook:
    return QueueBook(target.line, target.backend)


def named(job: str) -> argparse.Namespace:
    return argparse.Namespace(job=job, queue="amqp://h/", credential=None)


async def tell(root: Path, *events: Event, receipt: Receipt | None = None) -> None:
    """Tell of a job as a box does."""
    results = FolderResults(str(root / "results"), box_id="box-1")
    for event in events:
        await results.append(Key(event.key), event.id, (event,), ())
    if receipt is not None:
        await results.put_receipt(receipt)
    await results.close()


def test_a_job_is_known_from_the_moment_it_is_submitted(tmp_path: Path) -> None:
    """By everything that ``ps`` says of it, once, by id and by key; its message has the key that was told."""

    async def main() -> None:
        async with closed_target(tmp_path / "q") as target:
            key = await put_job(JOB, target)
            (row,) = await book_of(target).rows(ended=False)
            assert ("digits-1", "digits", "ada", "q", "waiting", "") == (
                row.id, row.name, row.user, row.queue, row.state, row.box
            )  # fmt: skip
            assert row.submitted_at == pytest.approx(time.time(), abs=60)
            for job in ("digits-1", key):
                receipt, why = await book_of(target).receipt(job), await book_of(target).why(job)
                assert receipt is not None
                assert why is not None
                assert ("digits-1", "waiting") == (receipt.id, why.state)
                assert why.sentence == (
                    "it waits in q for a box to take it; no box has given a sign of life within 30 s"
                )
            delivery = await target.queue.fetch(1)
            assert delivery is not None
            assert key.startswith("digits-1.")
            (told,) = [it async for it in target.results.tail(key, Position(), follow=False) if isinstance(it, Event)]
            assert (key, "waiting") == (told.key, told.state)

    asyncio.run(main())


def test_what_its_box_tells_goes_on_with_it(tmp_path: Path) -> None:
    """One row from submission to end."""

    async def main() -> None:
        async with closed_target(tmp_path / "q") as target:
            key = await put_job(JOB, target)
            now = time.time()
            await tell(tmp_path / "q", Event(key, JOB.id, now + 1, "running", message="on box-1"))
            (row,) = await book_of(target).rows(ended=False)
            assert ("running", "digits", "box-1", now + 1) == (row.state, row.name, row.box, row.started_at)
            end = Event(key, JOB.id, now + 2, "ended", end_reason="succeeded", exit_code=0)
            await tell(tmp_path / "q", end, receipt=Receipt(JOB.id, key=key, state="ended", end_reason="succeeded"))
            assert () == await book_of(target).rows(ended=False)
            assert ["ended"] == [row.state for row in await book_of(target).rows(ended=True)]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("refusal", "state", "sentence"),
    [
        (BadInput("put into q: over 256 KiB"), "ended", "rejected: it was not put: put into q: over 256 KiB"),
        (Unavailable("put into q: no answer"), "waiting", "it is not known whether it was put: put into q: no answer"),
    ],
)
def test_a_job_that_was_not_put_does_not_wait_for_ever(
    tmp_path: Path, refusal: RunnerError, state: str, sentence: str
) -> None:
    """It ends where the service refused it; where nothing was answered it may run after all, and nobody says else."""

    async def main() -> None:
        async with closed_target(tmp_path / "q", refusal=refusal) as target:
            with pytest.raises(type(refusal)):
                await put_job(JOB, target)
            (row,) = await book_of(target).rows(ended=True)
            assert state == row.state
            if state == "waiting":
                why = await book_of(target).why(JOB.id)
                assert why is not None
                assert why.sentence.startswith(sentence)
            else:
                event = [it async for it in target.results.tail(JOB.id, Position(), follow=True)][-1]
                assert isinstance(event, Event)
                assert sentence == f"{event.end_reason}: {event.message}"

    asyncio.run(main())


def test_cancelling_what_waits_leaves_a_mark_for_the_box_that_takes_it(tmp_path: Path) -> None:
    """Said so, since it is not over yet; by its key, too."""

    async def main() -> None:
        async with closed_target(tmp_path / "q") as target:
            key = await put_job(JOB, target)
            for job in (JOB.id, key):
                said = await cancel_in_queue(named(job), target)
                assert said == "digits-1 has a stop mark now: the box that takes it ends it"
            assert {"digits-1"} == await target.results.stops()
            await tell(tmp_path / "q", Event(key, JOB.id, time.time(), "running"))
            assert "the box that has it ends it" in await cancel_in_queue(named(key), target)

    asyncio.run(main())


def test_cancelling_what_ended_or_never_was_leaves_none(tmp_path: Path) -> None:
    """A mark that stays would end the next job of this id."""

    async def main() -> None:
        async with closed_target(tmp_path / "q") as target:
            receipt = Receipt("old", key="old.1", state="ended", end_reason="failed", ended_at=1.0)
            await tell(tmp_path / "q", receipt=receipt)
            assert "old ended already: failed" == await cancel_in_queue(named("old"), target)
            with pytest.raises(Refused, match=r"no job 'nosuch' in amqp://h/"):
                await cancel_in_queue(named("nosuch"), target)
            assert frozenset() == await target.results.stops()

    asyncio.run(main())


def test_without_a_result_backend_it_is_said_what_is_missing(tmp_path: Path) -> None:
    """In one sentence that says what to type; what only puts works all the same."""

    async def main() -> None:
        async with closed_target(tmp_path / "q", with_results=False) as target:
            assert (await put_job(JOB, target)).startswith("digits-1.")
            book = book_of(target)
            for ask in (book.rows(ended=True), book.receipt("x"), book.why("x"), cancel_in_queue(named("x"), target)):
                with pytest.raises(Refused, match=r"queue q has no result backend .*--results URL"):
                    await ask

    asyncio.run(main())
