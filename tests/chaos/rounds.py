"""
One round: a few jobs of every kind, a runner that is killed in the middle of them a few times, and then one that lives.

The instant of a kill is when the journal first holds a record of some stage for some job, or a random one. Every life
begins within the lease of the last one, so each attempt must be started exactly once.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from runner.ports import Queue, QueuedMessage, Results
from runner.receipt import Receipt
from tests.at_work import AtWork, until
from tests.chaos.cast import EXPECTED, Runtime
from tests.shared_queue import SharedQueue

STAGES = ("claimed", "placed", "granted", "staged", "starting", "exited", "uploaded", "stored", "settled")
LEASE_S = 20.0
LIFE_MOST_S = 4.0
END_MOST_S = 120.0
LOOK_S = 0.001
HIDDEN_MOST_S = 70.0
SAID_AT_LAST = 12


class Account(msgspec.Struct, frozen=True):
    """What went wrong in one round, by job; all empty where nothing did. ``kills`` says when it was killed."""

    seed: int
    kills: tuple[str, ...]
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    double_settled: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not (self.lost or self.doubled or self.double_settled or self.wrong)


def play(runtime: Runtime, seed: int) -> Account:
    """Play one round on a queue that nobody else uses."""
    shared, seeded, kills, said = runtime.shared, random.Random(seed), list[str](), list[dict[str, object]]()
    try:
        runtime.submit()
        for _ in range(seeded.randint(1, 3)):
            kills.append(_life(runtime, seeded))
        with shared.box("box", *runtime.options) as last:
            said = last.said
            names = set(EXPECTED)
            until(lambda: names <= {receipt.id for receipt in shared.ended()}, f"seed {seed}: all end", END_MOST_S)
            until(lambda: _in_flight(shared.directory / "box") == 0, f"seed {seed}: all are settled", END_MOST_S)
            # Who is killed between the two halves of a retry on SQS sends its copy twice; the second is dropped unrun.
            until(lambda: not shared.ask(_left), f"seed {seed}: the queue is empty", END_MOST_S)
            last.stop()
    except AssertionError as error:
        ended = {receipt.id for receipt in shared.ended()}
        lost = tuple(sorted(set(EXPECTED) - ended))
        return Account(
            seed, tuple(kills), lost=lost, wrong=(str(error), *_stand(shared), *map(str, said[-SAID_AT_LAST:]))
        )
    finally:
        starts = runtime.starts()
        runtime.clear()
    return _account(shared, seed, tuple(kills), starts)


def _life(runtime: Runtime, seeded: random.Random) -> str:
    """Let a runner live until its kill, and say when that was."""
    shared = runtime.shared
    stage = seeded.choice((*STAGES, "at random"))
    count, pause_s = seeded.randint(1, len(EXPECTED)), seeded.uniform(0.0, 2.0)
    with shared.box("box", *runtime.options) as it:
        if stage == "at random":
            threading.Event().wait(pause_s)
        else:
            _await_stage(it, shared.directory / "box", stage, count)
        it.end()
    threading.Event().wait(seeded.uniform(0.0, 0.3))
    return stage if stage == "at random" else f"{stage} {count}"


def _await_stage(it: AtWork, state: Path, stage: str, count: int) -> None:
    """Return as soon as the journal holds so many records of a stage, or none more will come."""
    ends = time.monotonic() + LIFE_MOST_S
    with closing(_journal(state)) as journal:
        sql = f"SELECT count({stage}) FROM entry"  # noqa: S608 - a name from the table above
        while time.monotonic() < ends and it.process.poll() is None:
            if journal.execute(sql).fetchone()[0] >= count:
                return
            threading.Event().wait(LOOK_S)


def _journal(state: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True, timeout=5.0)


def _in_flight(state: Path) -> int:
    with closing(_journal(state)) as journal:
        return int(journal.execute("SELECT count(*) FROM entry WHERE in_flight").fetchone()[0])


def _stand(shared: SharedQueue) -> Iterator[str]:
    """Say of each job that the journal has in flight which of its stages stand there."""
    with closing(_journal(shared.directory / "box")) as journal:
        for key, *found in journal.execute(f"SELECT key, {', '.join(STAGES)} FROM entry WHERE in_flight"):  # noqa: S608
            yield f"{key}: {' '.join(stage for stage, record in zip(STAGES, found, strict=True) if record is not None)}"


def _account(shared: SharedQueue, seed: int, kills: tuple[str, ...], starts: Counter[str]) -> Account:
    dead, left = _dead_and_left(shared)
    ended = {receipt.id: receipt for receipt in shared.ended()}
    settled_twice = [f"{name}: {dead[name]} dead letters" for name, how in EXPECTED.items() if dead[name] != how.dead]
    return Account(
        seed,
        kills,
        lost=tuple(sorted(set(EXPECTED) - set(ended))),
        doubled=tuple(f"{name}: {count} starts" for name, count in starts.items() if count != 1),
        double_settled=(*settled_twice, *(f"{left} messages left over",) * bool(left)),
        wrong=tuple(_wrong(shared, ended, starts)),
    )


def _wrong(shared: SharedQueue, ended: dict[str, Receipt], starts: Counter[str]) -> Iterator[str]:
    for name, receipt in ended.items():
        expected = EXPECTED[name]
        if (receipt.end_reason, receipt.attempt) != (expected.reason, expected.attempts):
            yield f"{name}: {receipt.end_reason} in attempt {receipt.attempt}"
        if (receipt.log.bytes, receipt.log.sha256 if receipt.log.bytes else "") != expected.log or receipt.log.gaps:
            yield f"{name}: its log is another: {receipt.log}"
        attempts = range(1, expected.attempts + 1) if expected.reason != "rejected" else ()
        yield from (f"{name}: attempt {it} never started" for it in attempts if not starts[f"{name}.{it}"])
    if (shared.marks / "out" / "stores" / "made").read_text() != "kept\n":
        yield "stores: its output is another"


def _dead_and_left(shared: SharedQueue) -> tuple[Counter[str], int]:
    """Look until no dead letter is missing: who is killed while it looks at those of SQS leaves them hidden."""
    ends = time.monotonic() + HIDDEN_MOST_S
    while True:
        dead, left = _in_queue(shared)
        if time.monotonic() > ends or all(dead[name] >= how.dead for name, how in EXPECTED.items()):
            return dead, left
        threading.Event().wait(1.0)


def _in_queue(shared: SharedQueue) -> tuple[Counter[str], int]:
    """Return the dead letters by job, and how many messages are in the queue still."""

    async def look(queue: Queue, results: Results) -> tuple[Counter[str], int]:
        dead = Counter(str(msgspec.json.decode(row.body)["id"]) for row in await queue.dead())
        return dead, await _left(queue, results)

    return shared.ask(look)


async def _left(queue: Queue, _: Results) -> int:
    """Count the messages that are in the queue still."""
    shown: tuple[QueuedMessage, ...] | None = await queue.peek(100)
    return await queue.depth() if shown is None else len(shown)
