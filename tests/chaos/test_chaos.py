"""Five rounds over each service; ``make chaos`` plays hundreds."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import CONTAINERS, SERVICES, lines_of, rounds

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
PLAYED = [
    *(pytest.param(name, marks=pytest.mark.broker) for name in SERVICES),
    pytest.param(CONTAINERS, marks=pytest.mark.docker),
]


@pytest.mark.parametrize("name", PLAYED)
def test_a_runner_that_is_killed_at_any_stage_loses_and_doubles_nothing(name: str) -> None:
    try:
        lines = lines_of(name)
    except KeyError as missing:
        pytest.skip(f"no {name}: {missing.args[0]} is not set; run `make test`")
    accounts = rounds({name: lines}, range(5), at_once=3)[name]
    assert [] == [account for account in accounts if not account.clean]
    assert sum(len(account.kills) for account in accounts) >= 5
