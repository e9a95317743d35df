"""
Claims that were lost, taken twice, or outlived by a receipt: one attempt at a time, and nothing twice without need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from adapters.journal import SqliteJournal
from runner.control import RunningControl
from runner.errors import Unavailable
from runner.job import EndReason, Key, Verdict, make_key
from runner.ports import Journal
from runner.receipt import Receipt
from runner.records import ClaimRecord, FaultRecord, SettleRecord, StoreRecord
from tests.fakes.disk import FakeJournal
from tests.fakes.faults import hangs, raises
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual

HALF = {"gpus": 1, "cpus": 0.5}


def receipt_of_another_box(reason: EndReason, verdict: Verdict) -> Receipt:
    key = make_key("fake:shared", "job", "shared-0")
    state = "waiting" if verdict is Verdict.RETRY else "ended"
    return Receipt("job", state=state, end_reason=reason.value, verdict=verdict.value, box="box-0", key=key)


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        (EndReason.SUCCEEDED, Verdict.ACK),
        (EndReason.FAILED, Verdict.ACK),
        (EndReason.INPUT_REFUSED, Verdict.REJECT),
    ],
)
def test_a_job_whose_receipt_stands_is_settled_and_not_run_again(how: EndReason, verdict: Verdict) -> None:
    """Its box died between the receipt and the verdict; whoever gets the message next has only to settle it."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job")
        await world.results.put_receipt(receipt_of_another_box(how, verdict))
        async with alive(world):
            message = world.queues["shared"].messages["shared-0"]
            await until(lambda: message.gone, limit_s=60)
            assert message.gone is verdict
            await until(lambda: world.journal.entries[key_of(world, "job")].settled)
        assert (world.queues["shared"].claims, len(world.containers.starts)) == (1, 0)
        assert len(world.results.receipts) == 1

    run_virtual(main())


def test_a_standing_receipt_that_asks_for_another_attempt_gets_it() -> None:
    """The dead box's attempt counts once, and the next one runs here under the next number."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", retries=1)
        await world.results.put_receipt(receipt_of_another_box(EndReason.FAILED, Verdict.RETRY))
        async with alive(world):
            await until(lambda: ended(world, "job"))
            message = world.queues["shared"].messages["shared-0"]
            await until(lambda: message.gone)
        assert world.containers.starts == {f"{key_of(world, 'job')}.2": 1}
        assert (message.note.attempts, message.gone) == (1, Verdict.ACK)

    run_virtual(main())


def test_a_standing_receipt_that_was_not_seen_in_time_still_counts() -> None:
    """The result backend was away when the message came: the job ran again, but it has one receipt and one end."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["results.get"] = raises(Unavailable("away"), times=1)
        await put(world, "shared", id="job", command=["run", "3", "1", "1"])
        first = receipt_of_another_box(EndReason.SUCCEEDED, Verdict.ACK)
        await world.results.put_receipt(first)
        async with alive(world):
            message = world.queues["shared"].messages["shared-0"]
            await until(lambda: message.gone, limit_s=120)
            assert message.gone is Verdict.ACK
            await asyncio.sleep(5)
        assert [first] == list(world.results.receipts.values())
        ends = [event for event in world.results.events[Key(first.key)] if event.state == "ended"]
        assert [event.end_reason for event in ends] == ["succeeded"]

    run_virtual(main())


def test_a_later_attempt_waits_until_the_earlier_one_is_gone_from_here() -> None:
    """The claim lapsed unseen and another box failed the job: both attempts would share a workspace's GPU."""

    async def main() -> None:
        world = FakeWorld()
        queue = world.queues["shared"]
        await put(world, "shared", id="job", command=["run", "400", "0", "1"], resources=HALF)
        async with alive(world):
            await until(lambda: world.containers.containers)
            message = queue.messages["shared-0"]
            world.troubles["queue.renew"] = raises(Unavailable("away"))
            await until(lambda: message.claimed_until < world.now())
            other = queue.claim(message)
            note = msgspec.structs.replace(other.note, faults=1)
            await queue.settle(other.token, Verdict.RETRY, after_s=0.5, note=note, reason="the other box failed")
            del world.troubles["queue.renew"]
            await until(lambda: ended(world, "job"))
            await until(lambda: message.gone)
        key = key_of(world, "job")
        assert world.containers.starts == {f"{key}.1": 1, f"{key}.2": 1}
        assert world.containers.most_at_once == 1
        assert [receipt.attempt for receipt in world.results.receipts.values()] == [2]
        assert reason(world, "job") == EndReason.SUCCEEDED

    run_virtual(main())


@pytest.mark.slow
@pytest.mark.parametrize("stopping_s", [0.0, 0.3, 5.0])
@pytest.mark.parametrize(("claim_s", "loss_s"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.4, 0.2), (0.2, 0.4)])
@pytest.mark.parametrize("back", ["at once", "when its container is told to stop", "when the loss is written"])
def test_a_lost_job_that_comes_back_while_it_is_being_stopped_is_done(
    stopping_s: float, claim_s: float, loss_s: float, back: str
) -> None:
    """Another box took the lapsed claim up and gave it back: whichever record is written first, the job goes on."""

    async def main() -> None:
        world = FakeWorld()
        queue, written, told = world.queues["shared"], asyncio.Event(), asyncio.Event()

        async def slow(_key: Key, record: object) -> None:
            if isinstance(record, StoreRecord) and record.decision is None:
                written.set()
                await asyncio.sleep(loss_s)
            elif isinstance(record, ClaimRecord):
                await asyncio.sleep(claim_s)

        async def ends(*_args: object, **_kwargs: object) -> None:
            told.set()
            await asyncio.sleep(stopping_s)

        await put(world, "shared", id="job", command=["run", "100", "0", "1"], resources=HALF)
        async with alive(world):
            await until(lambda: world.containers.containers)
            message = queue.messages["shared-0"]
            world.troubles.update({"queue.renew": raises(Unavailable("away")), "journal.append": slow})
            world.troubles.update({"containers.stop": ends, "containers.remove": ends})
            await until(lambda: message.claimed_until < world.now())
            other = queue.claim(message)
            del world.troubles["queue.renew"]
            if back == "when its container is told to stop":
                await told.wait()
            elif back == "when the loss is written":
                await written.wait()
            await queue.settle(other.token, Verdict.RELEASE, after_s=0, note=other.note, reason="no room")
            await until(lambda: ended(world, "job") and message.gone, limit_s=300)
        assert (message.gone, reason(world, "job")) == (Verdict.ACK, EndReason.SUCCEEDED)
        assert world.containers.most_at_once == 1

    run_virtual(main())


def test_a_job_that_is_not_replayed_loses_its_container_first() -> None:
    """What made the runner end twice still runs when the third life begins, and holds a GPU that is not its own."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "own", id="deadly", command=["run", "500", "0", "1"], resources=HALF)
        async with alive(world, killed=True):
            await until(lambda: world.containers.containers)
        key = key_of(world, "deadly")
        await world.journal.append(key, FaultRecord("executor", 2, world.now()))
        async with alive(world) as runner:
            await until(lambda: (key, 1) in world.results.receipts)
            assert f"{key}.1" not in world.containers.containers
            assert [None, None] == [gpu.job for gpu in (await RunningControl(runner).gpus()).gpus]
            await until(lambda: ended(world, "deadly"))
        assert "made the runner end twice" in world.results.receipts[key, 1].message
        assert world.containers.most_at_once == 1
        assert world.containers.starts == {f"{key}.1": 1, f"{key}.2": 1}

    run_virtual(main())


@asynccontextmanager
async def open_journal(kind: str, path: Path) -> AsyncIterator[Journal | FakeJournal]:
    if kind == "in memory":
        yield FakeJournal()
        return
    journal = SqliteJournal(str(path / "journal.db"), str(path / "key"))
    try:
        yield journal
    finally:
        await journal.close()


@pytest.mark.parametrize("kind", ["in memory", "on disk"])
def test_a_job_that_was_lost_and_comes_back_begins_afresh(kind: str, tmp_path: Path) -> None:
    """Killed before the loss was settled, and the other box died too: the old entry must not answer for the new one."""

    async def main() -> None:
        world = FakeWorld()
        queue = world.queues["shared"]
        async with open_journal(kind, tmp_path) as journal:
            world.journal = journal  # type: ignore[assignment]
            await put(world, "shared", id="job", command=["run", "400", "0", "1"])
            message = queue.messages["shared-0"]
            world.troubles["journal.append"] = _hang_at_settling
            async with alive(world, killed=True):
                await until(lambda: world.containers.containers)
                message.token, message.claimed_until = "shared-0#of another box", world.now() + 100
                await _until_lost(journal, "job")
            world.troubles.clear()
            async with alive(world):
                await until(lambda: ended(world, "job"))
                await until(lambda: message.gone, limit_s=60)
        receipt = newest(world, "job")
        assert receipt is not None
        assert (receipt.end_reason, receipt.attempt) == ("succeeded", 1)
        assert {f"{receipt.key}.1": 2} == world.containers.starts

    run_virtual(main())


async def _hang_at_settling(_key: Key, record: object) -> None:
    if isinstance(record, SettleRecord):
        await hangs()


async def _until_lost(journal: Journal | FakeJournal, job_id: str) -> None:
    async with asyncio.timeout(300):
        while (entry := await journal.find(job_id)) is None or entry.stored is None:
            await asyncio.sleep(0.2)
    assert entry.stored.decision is None


@pytest.mark.parametrize("call", ["results.stops", "queue.depth", "results.put_log"])
def test_nothing_that_hangs_keeps_a_claim_from_being_renewed(call: str) -> None:
    """A box that loses its claims whenever a result backend is slow runs everything twice."""

    async def main() -> None:
        world = FakeWorld()
        queue = world.queues["shared"]
        await put(world, "shared", id="job", command=["run", "300", "0", "1"])
        async with alive(world):
            await until(lambda: world.containers.containers)
            world.troubles[call] = hangs
            message = queue.messages["shared-0"]
            while now() < 900 and message.gone is None:
                assert message.claimed_until > world.now(), f"lapsed at {now()} s"
                await asyncio.sleep(1)
        assert (queue.claims, queue.lost) == (1, set())

    run_virtual(main())


def test_a_message_that_cannot_run_is_rejected_also_after_a_kill_right_behind_its_claim() -> None:
    """The journal says that it was claimed, and must say why it is not to be run: else its next life runs nothing."""

    async def main() -> None:
        world = FakeWorld()
        await put(world, "shared", id="job", resources="many")
        world.troubles["results.get"] = hangs
        async with alive(world, killed=True):
            await until(lambda: world.journal.entries)
        world.troubles.clear()
        async with alive(world):
            message = world.queues["shared"].messages["shared-0"]
            await until(lambda: message.gone, limit_s=120)
        assert (message.gone, world.containers.starts) == (Verdict.REJECT, {})

    run_virtual(main())


def test_a_queue_is_told_what_the_journal_has_of_an_earlier_lifes_claims() -> None:
    """A service may have to send the message anew to settle it, and shows it to nobody while it is claimed."""

    async def main() -> None:
        world = FakeWorld()
        queue = world.queues["shared"]
        async with alive(world):
            await put(world, "shared", id="long", command=["run", "5000", "0", "1"])
            await until(lambda: world.containers.containers)
            assert {} == queue.recalled
        (message,) = queue.messages.values()
        async with alive(world):
            await until(lambda: queue.recalled)
            assert {message.token: message.body} == queue.recalled

    run_virtual(main())
