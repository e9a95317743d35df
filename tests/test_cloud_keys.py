"""A real runner that serves SQS with keys of its surroundings, and goes on with others when they end."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.at_work import AtWork, end_orphans, until
from tests.cloud import Cloud, cloud, surroundings
from tests.shared_queue import WAITS, SharedQueue, service

pytestmark = [pytest.mark.broker, pytest.mark.integration, pytest.mark.timeout(180)]

LIFE_S, LEASE_S = 12.0, 15.0


@pytest.fixture
def surrounding() -> Iterator[Cloud]:
    if "RUNNER_TEST_MOTO" not in os.environ:
        pytest.skip(os.environ.get("RUNNER_TEST_MOTO_ABSENT", "no SQS server: run `make test`"))
    with cloud(os.environ["RUNNER_TEST_MOTO"]) as it:
        yield it


@pytest.fixture
def shared(surrounding: Cloud, tmp_path: Path) -> Iterator[SharedQueue]:
    region = f"test-{secrets.token_hex(6)}"
    yield SharedQueue(tmp_path, service("sqs", url=surrounding.behind).replace("us-east-1", region), lease_s=LEASE_S)
    end_orphans(tmp_path)


def leave_keys_out(shared: SharedQueue, surrounding: Cloud, options: tuple[str, ...]) -> None:
    """Let the credential file name no key and no queue, and the door as where the service is."""
    lines = [line for line in shared.text.splitlines() if not line.startswith(("access_key", "secret_key"))]
    lines += ['{} = "{}"'.format(*option.split("=")) for option in options]
    text = "\n".join(lines).replace(f"/{shared.name}", "/").replace(surrounding.behind, surrounding.url)
    shared.credential.write_text(text)


def succeeded(shared: SharedQueue) -> set[str]:
    return {receipt.id for receipt in shared.ended() if receipt.end_reason == "succeeded"}


def queues(box: AtWork) -> list[str]:
    rows = json.loads(box.type("sources", "--json").out)
    return [queue["name"] for row in rows for queue in row["queues"]]


@pytest.mark.parametrize("where", ["environment", "profile", "web identity", "instance role"])
def test_a_queue_is_found_and_its_job_run_with_keys_from(
    shared: SharedQueue, surrounding: Cloud, tmp_path: Path, where: str
) -> None:
    environment, options = surroundings(where, surrounding, tmp_path)
    leave_keys_out(shared, surrounding, options)
    shared.submit({"job": shared.command("true")})
    with shared.box("first", environ=environment) as box:
        until(lambda: succeeded(shared) == {"job"}, "it has ended")
        assert queues(box) == [shared.name]
        assert box.stop() == 0
        assert "hunter2" not in json.dumps(box.said)
    assert (shared.depth(), surrounding.turned_away) == (0, 0)


def test_keys_that_end_while_a_job_runs_are_replaced_in_time(
    shared: SharedQueue, surrounding: Cloud, tmp_path: Path
) -> None:
    """Nothing is asked with those that have ended, and the token of a web identity is read anew each time."""
    surrounding.life_s = LIFE_S
    environment, options = surroundings("web identity", surrounding, tmp_path)
    leave_keys_out(shared, surrounding, options)
    shared.submit({"long": shared.command(WAITS)})
    with shared.box("first", environ=environment) as box:
        until(lambda: shared.starts("long") == 1, "it runs")
        surrounding.identity = "another-one"
        surroundings("web identity", surrounding, tmp_path)
        held = set(surrounding.used)
        until(lambda: not any(map(surrounding.knows, held)), "the keys that it had have ended")
        shared.go("first")
        shared.submit({"next": shared.command("true")})
        until(lambda: succeeded(shared) == {"long", "next"}, "both have ended")
        assert box.stop() == 0
        assert "hunter2" not in json.dumps(box.said)
    assert (shared.starts("long"), shared.depth(), surrounding.turned_away) == (1, 0, 0)
    assert surrounding.used > held


def test_keys_that_are_withdrawn_while_a_job_runs_cost_it_nothing(
    shared: SharedQueue, surrounding: Cloud, tmp_path: Path
) -> None:
    """A box that is given another role has its keys at once; nobody told when the old ones would end."""
    environment, options = surroundings("instance role", surrounding, tmp_path)
    leave_keys_out(shared, surrounding, options)
    shared.submit({"long": shared.command(WAITS)})
    with shared.box("first", environ=environment) as box:
        until(lambda: shared.starts("long") == 1, "it runs")
        held = set(surrounding.used)
        surrounding.revoke()
        until(lambda: surrounding.turned_away, "they no longer count")
        until(lambda: surrounding.used > held, "it has others")
        shared.go("first")
        until(lambda: succeeded(shared) == {"long"}, "it has ended")
        assert box.stop() == 0
    assert (shared.starts("long"), shared.depth()) == (1, 0)
