"""Five rounds over each service; ``make chaos`` plays hundreds."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import SERVICES, rounds
from tests.shared_queue import service

pytestmark = [pytest.mark.broker, pytest.mark.integration, pytest.mark.timeout(400)]


@pytest.mark.parametrize("name", SERVICES)
def test_a_runner_that_is_killed_at_any_stage_loses_and_doubles_nothing(name: str) -> None:
    try:
        lines = service(name)
    except KeyError as missing:
        pytest.skip(f"no {name}: {missing.args[0]} is not set; run `make test`")
    accounts = rounds({name: lines}, range(5), at_once=3)[name]
    assert [] == [account for account in accounts if not account.clean]
    assert sum(len(account.kills) for account in accounts) >= 5
