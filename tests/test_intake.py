"""How a delivery is read: what its sender says beside the job is believed as far as it can be."""

from __future__ import annotations

import pytest

from actors.poller.intake import Intake
from adapters.wire.native import NativeDialect
from runner.credential import Rights
from runner.ports import Delivery

NOW = 1_750_000_000.0
DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        (NOW - 30 * DAY_S, NOW - 30 * DAY_S),
        (0.0, 0.0),
        (NOW + 60, NOW + 60),
        (NOW + 2 * DAY_S, NOW),
        (253_402_300_800.0, NOW),
        (1e308, NOW),
        (-1.0, NOW),
        (-1e308, NOW),
        (float("nan"), NOW),
    ],
)
def test_a_time_of_submission_that_cannot_be_is_now(said: float, believed: float) -> None:
    """A forged one would let a job never expire, or at once, and stands in receipts that nobody could print."""
    intake = Intake(NativeDialect(), Rights(runtime="process"), "q.toml", "queue", "queue", "")
    delivery = Delivery("token", b'{"command": ["true"]}', "submission", said)
    assert intake.claim(delivery, NOW).submitted_at == believed
