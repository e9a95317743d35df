"""A Docker engine that is restarted while 50,000 lines a second flow: what its runner has, and tells to be gone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.containers.own_engine import OwnEngine, own_engine
from tests.at_work import until
from tests.flow import END_MOST_S, JOB_ID, RATE, Containers, command, differences, spooled_bytes, told_of, written
from tests.services.docker import PYTHON_IMAGE
from tests.shared_queue import SharedQueue, service

pytestmark = [pytest.mark.docker, pytest.mark.integration, pytest.mark.slow]

SECONDS = 3
BEGUN_BYTES = 64 << 10


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as it:
        it.configure('{"live-restore": true}')
        asyncio.run(it.stop())
        it.start()
        yield it


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_flows_while_an_engine_is_restarted_is_kept_or_told_as_missing(
    engine: OwnEngine, tmp_path: Path, how: str
) -> None:
    """The engine keeps the container; what it had taken from it and not handed on is gone with it."""
    shared, runtime = SharedQueue(tmp_path, service("folder")), Containers(engine.url, PYTHON_IMAGE)
    shared.submit({JOB_ID: command(RATE * SECONDS)}, **dict(runtime.fields))
    with shared.box("box", *runtime.options) as box:
        until(lambda: spooled_bytes(box) > BEGUN_BYTES, "its lines flow")
        asyncio.run(engine.stop() if how == "stopped" else engine.kill())
        engine.start()
        until(shared.ended, "it ended", END_MOST_S)
        until(lambda: told_of(shared, JOB_ID).ends, "its end is told", END_MOST_S)
        assert box.stop() == 0
    told, expected = told_of(shared, JOB_ID), written(RATE * SECONDS)
    log = told.receipt.log
    assert ("succeeded", 1, 1) == (told.receipt.end_reason, told.receipt.attempt, told.ends), told.receipt
    assert [] == list(differences(told.archive, sink=told.output))
    if not log.gaps:
        assert [] == list(differences(expected, archive=told.archive))
    assert (log.bytes, log.lines) == (len(told.archive), told.archive.count(b"\n"))
    assert [] == list(out_of_order(told.archive, log.gaps))


def out_of_order(archive: bytes, gaps: int) -> Iterator[bytes]:
    """Yield each line that is none of those written, or not behind the one before; gaps tear as many lines."""
    known, torn = frozenset(written(RATE * SECONDS).splitlines()), gaps
    whole = list[bytes]()
    for line in archive.splitlines():
        if line in known:
            whole.append(line)
        elif torn:
            torn -= 1
        else:
            yield line
    yield from (later for earlier, later in itertools.pairwise(whole) if later <= earlier)
