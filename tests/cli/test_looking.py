"""Commands that look at real services: they make nothing, and do not wait for what does not answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.cli.typed import started
from tests.conformance.rabbit_harness import RabbitHost, rabbit_host
from tests.private_brokers import PrivateRedis
from tests.private_brokers import started as begun

pytestmark = [pytest.mark.broker, pytest.mark.integration]

LOOK_S = 3.0
PROCESS_S = 5.0
"""For the interpreter to start and end, on a machine that is busy."""


@pytest.fixture
def host() -> RabbitHost:
    return rabbit_host()


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[PrivateRedis]:
    """Give a Redis that takes connections and answers nothing."""
    with begun(PrivateRedis(tmp_path / "redis")) as broker:
        broker.freeze()
        yield broker


def queues_of(host: RabbitHost) -> set[str]:
    return {row["name"] for row in msgspec.json.decode(host.ask("GET", f"queues/{host.path}"))}


def url_of(host: RabbitHost, queue: str) -> str:
    """Name a queue as a client does to whom the management API is closed."""
    return host.url_with_secret() + f"?queue={queue}"


@pytest.mark.parametrize(
    "command", [("ps",), ("boxes",), ("why", "a"), ("cancel", "a"), ("logs", "a"), ("dead", "list")]
)
def test_a_mistyped_queue_is_not_made_where_nobody_lists_queues(
    host: RabbitHost, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Every box that serves the whole virtual host would read it from then on."""
    said = started(*command, "--queue", url_of(host, "nosuch"), "--results", f"folder://{tmp_path}/results")
    assert (1, "", 1) == (said.status, said.out, len(said.err.splitlines()))
    assert (
        f"there is no queue nosuch at amqp://127.0.0.1:{host.port}/{host.path}; `runner submit` makes one" in said.err
    )
    assert f"{host.username}:{host.password}" not in said.err
    assert set() == queues_of(host)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--follow",), "queue train has no result backend"),
        (("--follow", "--results", "redis://127.0.0.1:1/0"), "redis://127.0.0.1:1/0"),
        (("--results", "redis://127.0.0.1:1/0"), "redis://127.0.0.1:1/0"),
    ],
)
def test_a_submission_that_is_refused_makes_no_queue(host: RabbitHost, options: tuple[str, ...], sentence: str) -> None:
    said = started("submit", "--queue", url_of(host, "train"), *options, "--", "true")
    assert (True, "", 1) == (said.status in {1, 69}, said.out, len(said.err.splitlines()))
    assert sentence in said.err
    assert set() == queues_of(host)


def test_a_submission_that_is_accepted_makes_its_queue(host: RabbitHost) -> None:
    assert 0 == started("submit", "--queue", url_of(host, "train"), "--", "true").status
    assert {"train"} == queues_of(host)


@pytest.mark.parametrize("command", [("ps",), ("boxes",), ("why", "a"), ("dead", "list")])
def test_a_service_that_stands_still_is_named_soon(frozen: PrivateRedis, command: tuple[str, ...]) -> None:
    began = time.monotonic()
    said = started(*command, "--queue", f"{frozen.url(frozen.port)}/0?queue=train")
    assert time.monotonic() - began < LOOK_S + PROCESS_S
    assert (69, "", 1) == (said.status, said.out, len(said.err.splitlines()))
    assert f"{frozen.url(frozen.port)}/0?queue=train: no answer within 3 s: check that it runs" in said.err


def test_each_service_that_stands_still_is_named_in_the_time_of_one(frozen: PrivateRedis) -> None:
    """A queue and its results may be two services; both are asked at once."""
    queue, results = f"{frozen.url(frozen.port)}/0?queue=train", f"{frozen.url(frozen.port)}/1"
    began = time.monotonic()
    said = started("ps", "--queue", queue, "--results", results)
    assert time.monotonic() - began < LOOK_S + PROCESS_S
    assert f"open queue {queue}: no answer" in said.err
    assert f"read results in {results}: no answer" in said.err


def test_results_that_stand_still_are_named_where_the_queue_answers(frozen: PrivateRedis, tmp_path: Path) -> None:
    queue, results = f"folder://{tmp_path}/train", f"{frozen.url(frozen.port)}/1"
    assert 0 == started("submit", "--queue", queue, "--", "true").status
    began = time.monotonic()
    said = started("ps", "--queue", queue, "--results", results)
    assert time.monotonic() - began < LOOK_S + PROCESS_S
    assert (69, "") == (said.status, said.out)
    assert f"read results in {results}: no answer within 3 s" in said.err
