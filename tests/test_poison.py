"""A thousand messages that nobody should send, through each kind of queue: none goes away without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BadInput
from runner.ports import Queue, Results
from tests.at_work import end_orphans, until
from tests.poison import poison
from tests.shared_queue import SharedQueue, service

pytestmark = [pytest.mark.broker, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

MESSAGES = 1000


@pytest.fixture(params=["folder", "redis", "rabbitmq", "sqs"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SharedQueue]:
    try:
        lines = service(request.param)
    except KeyError as missing:
        pytest.skip(f"no {request.param}: {missing.args[0]} is not set; run `make test`")
    yield SharedQueue(tmp_path, lines, lease_s=20.0)
    end_orphans(tmp_path)


def test_a_thousand_bad_messages_each_leave_a_receipt(shared: SharedQueue) -> None:
    """And what was rejected is a dead letter, whose bytes are those that came."""
    bodies = [poison(seed) for seed in range(MESSAGES)]

    async def put(queue: Queue, _: Results) -> int:
        taken = 0
        for number, body in enumerate(bodies):
            try:
                await queue.put(body, job_id=f"poison-{number}")
                taken += 1
            except BadInput:
                continue  # said at once to whoever sends it
        return taken

    taken = shared.ask(put)
    assert taken > MESSAGES * 0.95
    with shared.box("first") as box:
        until(lambda: sum(line.get("action") == "ended" for line in box.said) >= taken, "each has ended", 300)
        until(lambda: len(shared.ended_rows()) == taken and shared.depth() == 0, "each has a receipt", 300)
        assert "Traceback" not in str(box.said)
        assert box.stop() == 0
    rejected = [row for row in shared.ended_rows() if row.end_reason == "rejected"]
    dead = shared.dead_bodies()
    assert len(rejected) == len(dead) > MESSAGES / 2
    assert not set(dead) - set(bodies)
