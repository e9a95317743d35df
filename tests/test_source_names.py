"""Queues that any producer may make, of any name and as many as they like: the rest goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from adapters.queues.folder import FolderBroker
from runner.credential import Credential, CredentialFile
from runner.source import ODD_NAMES, QUEUES_MAX, TOO_MANY, Source, Steps
from tests.fakes.files import behind, done, pollers, say
from tests.fakes.scenes import alive, until
from tests.fakes.world import FakeWorld
from tests.virtual_time import run_virtual

A_LONG_TIME_S = 3.0


def test_a_queue_whose_name_nobody_could_be_told_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It would stand in events, receipts and lists, which then could not be written, of other queues, too."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "a", "\udcff", "", "x" * 256, "ü" * 128, "y" * 255)
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"a", "y" * 255}, limit_s=6)
            await done(world, "a", "first", limit_s=12)
            await asyncio.sleep(60)
            assert pollers(runner) == {"a", "y" * 255}

    run_virtual(main())
    assert [ODD_NAMES] == [it.message for it in caplog.records if it.message == ODD_NAMES], "once"


def test_no_name_takes_longer_to_look_at_than_its_length_asks_for() -> None:
    """Whoever may name a queue stopped a box for minutes whose pattern can go back and forth over a name."""

    async def main() -> None:
        world = FakeWorld()
        behind(world, "train", "a" * 28 + "!")
        say(world, "first", match="^(a+)+$|^t")
        async with alive(world) as runner:
            await until(lambda: pollers(runner) == {"train"}, limit_s=6)

    began = time.process_time()
    run_virtual(main())
    assert time.process_time() - began < A_LONG_TIME_S


def test_of_queues_without_end_some_are_read_and_the_others_told(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Each costs memory and connections; a pattern says which are meant, and those that are read stay the same."""
    names = [f"q{number:05}" for number in range(50_000)]
    credential = Credential("folder", f"folder://{tmp_path}", match="q")
    broker = FolderBroker(str(tmp_path), box_id="", now=time.time, lease_s=60.0, single=False)
    source = Source("shared.toml", CredentialFile("shared.toml", "", credential), credential, broker)
    for queue in (steps := source.listed(names, source.wants)).begin:
        source.add(queue)
    assert names[:QUEUES_MAX] == list(steps.begin)
    assert TOO_MANY == source.warning
    assert Steps() == source.listed(["q", *names], source.wants)
    source.remove("q00007")
    assert Steps(begin=("q",)) == source.listed(["q", *names], source.wants)
    source.take(source.file, msgspec.structs.replace(credential, match="^q4999.$"))
    for queue in source.listed(names, source.wants).leave:
        source.remove(queue)
    assert names[49_990:] == list(source.listed(names, source.wants).begin)
    assert "" == source.warning
    assert [TOO_MANY] == [it.message for it in caplog.records], "once"
