"""A result directory through kills at any instant: what was taken is there, once and whole."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from adapters.results.folder import FolderResults
from runner.ports import LogLine, Position
from tests.adapters.results.folder_writer import end_of, lines_of, write
from tests.kill_rounds import writer

ROUNDS, ROUNDS_MAX = 60, 600
JOBS = 5


@pytest.mark.integration
def test_kills_at_random_instants_lose_and_double_nothing(tmp_path: Path) -> None:
    said: dict[str, dict[int, int]] = defaultdict(dict)
    with writer(write.__module__) as process:
        for seed in range(ROUNDS_MAX):
            if seed >= ROUNDS and len(said["ended"]) >= JOBS:
                break
            for line in process.round(tmp_path, seed):
                step, number, *count = line.split()
                assert (step, int(number)) not in {("receipt", stored) for stored in said["receipt"]}, "stored twice"
                said[step][int(number)] = int(count[0]) if count else 1

    async def check() -> None:
        results = FolderResults(str(tmp_path / "results"))
        for number, count in said["lines"].items():
            items = [item async for item in results.tail(f"job-{number}", Position(), follow=False)]
            lines = [item for item in items if isinstance(item, LogLine)]
            assert lines_of(number)[: max(count, len(lines))] == lines
            assert [end_of(number)] * (number in said["ended"]) == items[len(lines) :]
        for number in said["receipt"] | said["again"]:
            receipt = await results.get(f"job-{number}")
            assert receipt is not None
            assert "x" * 3000 == receipt.message
        await results.close()

    asyncio.run(check())
    assert len(said["ended"]) >= JOBS, "too little was done to show anything"
