"""``kill -9`` on a runner while 50,000 lines a second flow: every byte of them is in the log, once; 4 kills here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow import JOB_ID, Containers, Flowed, Processes, play, written
from tests.shared_queue import SharedQueue, service

LEASE_S = 20.0


@pytest.mark.integration
def test_a_process_that_writes_much_is_heard_whole_over_kills(tmp_path: Path) -> None:
    """A sink that appends to a file goes on where the runner that was killed had come to."""
    log = tmp_path / "logs" / f"{JOB_ID}.log"
    sink = f'sinks = ["file://{log.parent}/{{id}}.log?format=text"]'
    flowed = play(SharedQueue(tmp_path, service("folder"), lease_s=LEASE_S, more=sink), Processes(), seed=1)
    assert Flowed(seed=1, kills=flowed.kills, wrong=()) == flowed
    assert flowed.kills > 1
    records = log.read_bytes().splitlines()
    said = [line for _, found, line in (record.partition(b" stdout ") for record in records) if found]
    assert written().splitlines() == said
    assert 1 == sum(b" event succeeded" in record for record in records)


@pytest.mark.integration
@pytest.mark.docker
def test_a_container_that_writes_much_is_heard_whole_over_kills(tmp_path: Path, docker_url: str) -> None:
    flowed = play(SharedQueue(tmp_path, service("folder"), lease_s=LEASE_S), Containers(), seed=1)
    assert Flowed(seed=1, kills=flowed.kills, wrong=()) == flowed
    assert flowed.kills > 1
