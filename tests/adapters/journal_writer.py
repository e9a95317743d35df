"""Takes jobs round the ring in a journal, two at a time, until it is killed; see ``tests/kill_rounds.py``."""

from __future__ import annotations

import asyncio
import itertools

from adapters.journal import SqliteJournal
from tests.conformance.records import ON_THE_WAY, claim, key_of
from tests.kill_rounds import acknowledge


def write(directory: str) -> None:
    """Append, and say ``job stage`` after each append returned."""
    asyncio.run(_write(directory))


async def _write(directory: str) -> None:
    journal = SqliteJournal(f"{directory}/journal.db", f"{directory}/journal.key")
    begun = len(await journal.list(limit=10_000, ended=True))
    numbers = itertools.count(begun)
    await asyncio.gather(*(_work(journal, numbers) for _ in range(2)))


async def _work(journal: SqliteJournal, numbers: itertools.count[int]) -> None:
    for number in numbers:
        job_id = f"job-{number}"
        for stage, record in enumerate((claim(job_id), *ON_THE_WAY)):
            await journal.append(key_of(job_id), record)
            acknowledge(f"{job_id} {stage}")
