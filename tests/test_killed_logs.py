"""``kill -9`` on a runner while 50,000 lines a second flow: every byte of them is in the log, once; 4 kills here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow import Containers, Flowed, Processes, play
from tests.shared_queue import SharedQueue, service

LEASE_S = 20.0


@pytest.mark.integration
def test_a_process_that_writes_much_is_heard_whole_over_kills(tmp_path: Path) -> None:
    flowed = play(SharedQueue(tmp_path, service("folder"), lease_s=LEASE_S), Processes(), seed=1)
    assert Flowed(seed=1, kills=flowed.kills, wrong=()) == flowed
    assert flowed.kills > 1


@pytest.mark.integration
@pytest.mark.docker
def test_a_container_that_writes_much_is_heard_whole_over_kills(tmp_path: Path, docker_url: str) -> None:
    flowed = play(SharedQueue(tmp_path, service("folder"), lease_s=LEASE_S), Containers(), seed=1)
    assert Flowed(seed=1, kills=flowed.kills, wrong=()) == flowed
    assert flowed.kills > 1
