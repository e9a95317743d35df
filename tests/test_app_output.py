"""What a job prints on its way into its log: joined into lines, never lost or doubled, and within its limits."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec

from runner.config import Config
from runner.credential import Credential, CredentialFile, Rights
from runner.errors import OutOfSpace, Unavailable
from runner.image_name import whole_name
from runner.job import Key
from runner.ports import Gap, LogLine
from runner.receipt import Receipt
from runner.units import Duration, Size
from tests.fakes.faults import raises
from tests.fakes.scenes import alive, newest, put, until
from tests.fakes.world import FakeWorld, configuration, key_of
from tests.virtual_time import run_virtual

SPOKEN = ["run", "30", "0", "0"]


def limits(overflow: Literal["kill", "truncate", "pause"], *, log_max: int = 0, log_rate: int = 0) -> Config:
    return configuration(log_overflow=overflow, log_max=Size(log_max), log_rate=log_rate)


def printed(
    script: list[tuple[float, str, bytes]], config: Config | None = None, world: FakeWorld | None = None
) -> tuple[FakeWorld, Receipt, list[LogLine]]:
    """Run one job that prints this, each at seconds from its start, and return its log."""
    world = world or FakeWorld()
    world.containers.script = script

    async def main() -> None:
        await put(world, "shared", id="job", command=SPOKEN)
        async with alive(world, config):
            await until(lambda: newest(world, "job"))

    run_virtual(main())
    receipt = newest(world, "job")
    assert receipt is not None
    return world, receipt, world.spool.lines[key_of(world, "job")]


def of(lines: list[LogLine], *streams: str) -> list[tuple[str, bytes]]:
    return [(line.stream, line.data) for line in lines if line.stream in streams]


def gaps(lines: list[LogLine]) -> list[Gap]:
    return [msgspec.json.decode(line.data, type=Gap) for line in lines if line.stream == "gap"]


def said(lines: list[LogLine]) -> str:
    return b"".join(line.data for line in lines if line.stream == "runner").decode()


def test_a_line_that_comes_in_bits_is_one_record() -> None:
    """Byte by byte, with lines of the other stream between them."""
    bits = [(1.0, "stdout", bytes([byte])) for byte in b"word by word\n"]
    _, _, lines = printed([*bits[:5], (1.0, "stderr", b"other\n"), *bits[5:]])
    assert [("stderr", b"other\n"), ("stdout", b"word by word\n")] == of(lines, "stdout", "stderr")


def test_a_prompt_is_seen_though_its_line_never_ends() -> None:
    async def main() -> float:
        world = FakeWorld()
        world.containers.script = [(10.0, "stdout", b"sure? ")]
        await put(world, "shared", id="job", command=SPOKEN)
        async with alive(world):
            await until(lambda: world.containers.containers)
            began = next(iter(world.containers.containers.values())).started_at
            while not of(world.spool.lines[key_of(world, "job")], "stdout"):
                await asyncio.sleep(0.001)
            return world.true_now() - began

    assert 10.015 <= run_virtual(main()) <= 10.03


def test_bytes_at_short_intervals_are_few_records() -> None:
    """A bar of dots, one every millisecond for two seconds."""
    _, _, lines = printed([(1 + n / 1000, "stdout", b".") for n in range(2000)])
    records = of(lines, "stdout")
    assert b"".join(data for _, data in records) == b"." * 2000
    assert 50 <= len(records) <= 110


def test_lines_without_end_and_floods_pass_in_large_records() -> None:
    long, many = b"x" * 10_000_000 + b"\n", b"one line of many\n" * 500_000
    script = [(1.0, "stdout", text[at : at + 65536]) for text in (long, many) for at in range(0, len(text), 65536)]
    _, _, lines = printed(script)
    records = [data for _, data in of(lines, "stdout")]
    assert b"".join(records) == long + many
    assert max(map(len, records)) <= 256 << 10
    assert len(records) < len(long + many) // (60 << 10)


def test_what_was_held_while_writing_failed_is_read_again() -> None:
    """Nothing is lost and nothing stands twice, also in the middle of a line."""
    world = FakeWorld()
    failing = raises(Unavailable("the disk is away"), times=3)

    async def trouble(_key: object, _attempt: int, stream: str, _data: bytes) -> None:
        if stream == "stdout":
            await failing()

    world.troubles["spool.append"] = trouble
    script = [(1 + n / 100, "stdout", b"%d " % n + b"\n" * (n % 3 == 0)) for n in range(100)]
    _, _, lines = printed(script, world=world)
    assert b"".join(data for _, _, data in script) == b"".join(data for _, data in of(lines, "stdout"))


def test_a_spool_disk_that_fills_up_ends_the_job_and_what_stood_stays() -> None:
    world = FakeWorld()

    async def trouble(key: Key, _attempt: int, stream: str, _data: bytes) -> None:
        if stream == "stdout" and sum(len(data) for _, data in of(world.spool.lines[key], "stdout")) > 200:
            raise OutOfSpace("no space")

    world.troubles["spool.append"] = trouble
    _, receipt, lines = printed([(1 + n / 10, "stdout", b"line %d\n" % n) for n in range(100)], world=world)
    kept = b"".join(data for _, data in of(lines, "stdout"))
    assert "disk_full" == receipt.end_reason
    assert b"".join(b"line %d\n" % n for n in range(100)).startswith(kept)
    assert len(kept) > 200


FLOOD = [(1 + n / 10, "stdout", b"".join(b"line %07d\n" % (100 * n + k) for k in range(100))) for n in range(200)]
"""A thousand lines a second for twenty seconds; 260 kB."""
WHOLE = b"".join(data for _, _, data in FLOOD)


def test_a_log_that_is_full_loses_its_middle() -> None:
    config = limits("truncate", log_max=40_000)
    world, receipt, lines = printed(FLOOD, config)
    kept = [data for _, data in of(lines, "stdout")]
    assert "succeeded" == receipt.end_reason
    assert sum(map(len, kept)) <= 40_000
    assert WHOLE.startswith(kept[0])
    assert WHOLE.endswith(kept[-1])
    assert 1 == said(lines).count("its log was full: beyond 39.1 KiB (log_max), its middle was left out")
    key = key_of(world, "job")
    assert world.spool.dropped[key, 1]["stdout"] == len(WHOLE) - sum(map(len, kept))
    assert len(WHOLE) == receipt.log.bytes + world.spool.dropped[key, 1]["stdout"]


def test_lines_beyond_the_rate_are_counted_once_a_stretch() -> None:
    """Ten seconds' worth may come at once; then so many a second."""
    config = limits("truncate", log_rate=100)
    _, receipt, lines = printed([*FLOOD, (25.0, "stdout", b"the end\n")], config)
    kept = b"".join(data for _, data in of(lines, "stdout"))
    told = gaps(lines)
    assert "succeeded" == receipt.end_reason
    assert len(WHOLE) + len(b"the end\n") == len(kept) + sum(gap.bytes or 0 for gap in told)
    assert 20_001 == kept.count(b"\n") + sum(gap.lines or 0 for gap in told)
    assert 1000 <= kept.count(b"\n") <= 3200
    assert len(told) <= 22
    assert {"stdout"} == {gap.stream for gap in told}
    assert all(line.startswith((b"line ", b"the end")) for line in kept.splitlines())
    assert 1 == said(lines).count("100 lines a second (log_rate)")


def test_what_was_left_out_is_not_read_again_by_the_next_life() -> None:
    config = limits("truncate", log_rate=100)

    async def main() -> FakeWorld:
        world = FakeWorld()
        world.containers.script = [*FLOOD, (25.0, "stdout", b"the end\n")]
        await put(world, "shared", id="job", command=SPOKEN)
        async with alive(world, config, killed=True):
            await until(lambda: world.containers.containers)
            await asyncio.sleep(8)
        async with alive(world, config):
            await until(lambda: newest(world, "job"))
        return world

    world = run_virtual(main())
    lines = world.spool.lines[key_of(world, "job")]
    kept = b"".join(data for _, data in of(lines, "stdout")).splitlines()
    assert len(kept) == len(set(kept))
    assert kept == [*sorted(kept[:-1]), b"the end"]
    assert 20_001 == len(kept) + sum(gap.lines or 0 for gap in gaps(lines))


def test_a_rate_can_end_a_job() -> None:
    config = limits("kill", log_rate=100)
    _, receipt, lines = printed(FLOOD, config)
    assert ("log_flood", True) == (receipt.end_reason, "100 lines a second (log_rate)" in receipt.message)
    assert 1 == said(lines).count("the log was cut off")
    assert b"".join(data for _, data in of(lines, "stdout")).count(b"\n") < 1500


def test_lines_within_the_rate_are_no_flood() -> None:
    config = limits("kill", log_rate=1100)
    _, receipt, lines = printed(FLOOD, config)
    assert "succeeded" == receipt.end_reason
    assert b"".join(data for _, data in of(lines, "stdout")) == WHOLE


def test_a_job_that_ran_unread_is_not_taken_for_one_that_floods() -> None:
    """What it printed while the runner was away comes all at once, and was printed slowly."""
    config = limits("kill", log_rate=20)
    world = FakeWorld()
    world.containers.script = [(n / 10, "stdout", b"line %d\n" % n) for n in range(5000)]

    async def main() -> None:
        await put(world, "shared", id="job", command=["run", "500", "0", "0"])
        async with alive(world, config, killed=True):
            await until(lambda: world.containers.containers)
        await asyncio.sleep(400)
        async with alive(world, config):
            await until(lambda: newest(world, "job"))

    run_virtual(main())
    receipt = newest(world, "job")
    assert receipt is not None
    assert "succeeded" == receipt.end_reason
    assert b"".join(data for _, data in of(world.spool.lines[key_of(world, "job")], "stdout")).count(b"\n") == 5000


def test_a_container_whose_rate_makes_it_wait_loses_nothing() -> None:
    """Not read, it waits; once it ended, what is left is read at once."""
    world = FakeWorld()
    credential = Credential("folder", "fake:shared", Rights(runtime="container"), lease=Duration(60))
    world.shown = [CredentialFile("shared", "shared", credential)]
    world.images.registry[whole_name("busybox")] = "sha256:1"
    world.containers.script = FLOOD

    def output() -> bytes:
        return b"".join(data for _, data in of(world.spool.lines[key_of(world, "job")], "stdout"))

    async def main() -> None:
        await put(world, "shared", id="job", command=["run", "60", "0", "0"], image="busybox")
        async with alive(world, limits("pause", log_rate=400)):
            await until(lambda: world.containers.containers)
            await asyncio.sleep(16)
            assert output().count(b"\n") < 11_000
            await until(lambda: newest(world, "job"))

    run_virtual(main())
    assert output() == WHOLE
    paused = "paused: it prints more than 400 lines a second (log_rate)"
    assert 1 == said(world.spool.lines[key_of(world, "job")]).count(paused)


def test_a_job_that_its_rate_makes_wait_is_not_silent() -> None:
    """What it printed is there, and is only not read yet."""
    world = FakeWorld()
    credential = Credential("folder", "fake:shared", Rights(runtime="container"), lease=Duration(60))
    world.shown = [CredentialFile("shared", "shared", credential)]
    world.images.registry[whole_name("busybox")] = "sha256:1"
    line = b"." * 4096 + b"\n"
    world.containers.script = [(1.0 + n / 10, "stdout", line) for n in range(1000)]

    async def main() -> None:
        command = ["run", "120", "0", "0"]
        await put(world, "shared", id="job", command=command, image="busybox", silent_for="20s")
        async with alive(world, limits("pause", log_rate=1)):
            await until(lambda: newest(world, "job"))

    run_virtual(main())
    receipt = newest(world, "job")
    assert receipt is not None
    assert "succeeded" == receipt.end_reason


def test_what_a_runtime_lost_is_a_gap_where_it_was_and_said() -> None:
    gap = Gap(reason="the engine's log of it is damaged")
    script = [(1.0, "stdout", b"before"), (2.0, "gap", msgspec.json.encode(gap) + b"\n"), (2.0, "stdout", b"after")]
    _, receipt, lines = printed(script)
    assert [("stdout", b"before"), ("gap", msgspec.json.encode(gap)), ("stdout", b"after")] == of(
        lines, "stdout", "gap"
    )
    assert 1 == said(lines).count(gap.reason)
    assert 11 == receipt.log.bytes


def test_what_went_down_with_an_engine_is_a_gap_at_the_end() -> None:
    world = FakeWorld()
    world.containers.log_gap = "the beginning of a line may be missing"
    _, _, lines = printed([(1.0, "stdout", b"before\n")], world=world)
    assert [Gap(reason="the beginning of a line may be missing")] == gaps(lines)
    assert 1 == said(lines).count("the beginning of a line may be missing")


def test_the_log_counts_as_the_jobs_disk() -> None:
    world = FakeWorld()
    world.workspaces.used = 900_000
    world.containers.script = [(1.0, "stdout", b"x" * 200_000 + b"\n")]

    async def main() -> None:
        await put(world, "shared", id="job", command=SPOKEN, resources={"disk": "1MB"})
        async with alive(world):
            await until(lambda: newest(world, "job"))

    run_virtual(main())
    receipt = newest(world, "job")
    assert receipt is not None
    assert "disk_exceeded" == receipt.end_reason
