"""The world that the app's tests hand to ``build``: one box, two queues, and lives of the runner that come and go."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec

from runner.config import Config
from runner.credential import Credential, CredentialFile, Rights
from runner.errors import RunnerError, Unavailable
from runner.job import Job, Key
from runner.ports import Box, Decoded, World
from runner.units import Duration, decode_hook
from tests.fakes.containers import FakeContainers, FakeProbe
from tests.fakes.disk import (
    FakeBlobs,
    FakeCredentials,
    FakeJournal,
    FakeResults,
    FakeSink,
    FakeSpool,
    FakeStore,
    FakeWorkspaces,
)
from tests.fakes.faults import Flaky, Life, Trouble
from tests.fakes.images import FakeImageRecords, FakeImages
from tests.fakes.ledger import Ledger
from tests.fakes.places import FakePlace
from tests.fakes.queue import FakeBroker, FakeQueue

EPOCH = 1_700_000_000.0
BOX = Box("box-1", (0, 1), 8 << 30, 100 << 30, spare=(0,))
GPUS = 2


def _two_files() -> tuple[CredentialFile, ...]:
    own = Rights(runtime="process", own=True, sole_reader=True)
    shared = Rights(runtime="process", weight=2.0)
    return tuple(
        CredentialFile(name, name, Credential("folder", f"fake:{name}", rights, lease=Duration(60)))
        for name, rights in (("own", own), ("shared", shared))
    )


class PlainDialect:
    def decode(self, body: bytes) -> Decoded:
        try:
            return Decoded(msgspec.json.decode(body, type=Job, dec_hook=decode_hook))
        except (msgspec.MsgspecError, ValueError) as error:
            return Decoded(Job(), f"cannot be read: {error}")

    def encode(self, told: object) -> bytes | None:
        return None


class FakeWorld:
    """What stands when the runner is killed. ``open`` gives the view of it that one life of the runner has."""

    def __init__(self) -> None:
        # How far this box's wall clock is off; the queues have a clock of their own.
        self.clock_off_s = 0.0
        self.queues = {name: FakeQueue(name, self.true_now) for name in ("own", "shared")}
        self.journal, self.spool, self.results = FakeJournal(), FakeSpool(), FakeResults()
        self.workspaces, self.blobs, self.store = FakeWorkspaces(), FakeBlobs(), FakeStore()
        self.containers = FakeContainers(BOX, GPUS, self.true_now, lambda: self.clock_off_s)
        self.probe = FakeProbe(GPUS)
        self.images, self.image_records = FakeImages(), FakeImageRecords()
        self.shown = list(_two_files())
        # What a test arranged to fail: calls by ``port.method``, result backends that cannot be opened by queue; queues
        # that have none.
        self.troubles: dict[str, Trouble] = {}
        self.unopenable: dict[str, RunnerError] = {}
        self.without_results: set[str] = set()
        # Endpoints at which nothing listens, and those of credentials that cannot be used.
        self.nowhere: set[str] = set()
        self.unusable: dict[str, RunnerError] = {}
        # By service, the queues behind it; one of its own name where nothing is said. What brokers were told to use.
        self.behind: dict[str, list[str]] = {}
        self.changed: list[Credential] = []
        self.opened_with: dict[str, Credential] = {}
        self.sinks: list[FakeSink] = []
        # Where logs go besides, by the sink's name.
        self.places: dict[str, FakePlace] = {}
        # What the latest life called, by ``port.method``.
        self.calls: Counter[str] = Counter()
        # The cores that the runner was told to keep off, one entry a telling; goes with its process.
        self.kept_off: list[tuple[int, ...]] = []
        self.ledger = Ledger()
        self.failed: Counter[str] = Counter()
        self.hung: Counter[str] = Counter()
        # Why containers get no GPU.
        self.withheld = ""
        # A secret of the box, "" for none.
        self.secret = ""

    def true_now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def now(self) -> float:
        return self.true_now() + self.clock_off_s

    def files(self) -> tuple[CredentialFile, ...]:
        return tuple(self.shown)

    def usable(self, credential: Credential) -> Credential:
        if (error := self.unusable.get(credential.options.get("endpoint", ""))) is not None:
            raise error
        return credential

    def results_of(self, queue: str, credential: Credential) -> FakeResults | None:
        if queue in self.unopenable:
            raise self.unopenable[queue]
        self.opened_with[queue] = credential
        return None if queue in self.without_results else self.results

    def new_sinks(self, results: FakeResults | None) -> dict[str, FakeSink]:
        new = {} if results is None else {"results": FakeSink(self.results, results)}
        self.ledger.opened["sinks"] += len(new)
        self.sinks += new.values()
        return new

    def reached(self, credential: Credential, queue: str) -> FakeQueue:
        if credential.options.get("endpoint") in self.nowhere:
            raise Unavailable("nothing listens there")
        return self.queues[queue]

    def open(self, life: Life) -> World:
        def flaky(name: str, port: object) -> Any:
            return Flaky(name, port, life, self.troubles)

        def opened(name: str, port: object, of: str) -> Any:
            return flaky(name, self.ledger.enter(f"{name} {of}", port))

        def open_broker(credential: Credential) -> Any:
            name = self.usable(credential).url.removeprefix("fake:")
            behind = lambda: tuple(sorted(self.behind.get(name, [name])))  # noqa: E731 - one view
            open_queue = lambda it: opened("queue", self.reached(credential, it).opened(), it)  # noqa: E731 - one view
            return opened("broker", FakeBroker(behind, open_queue, self.changed), name)

        def open_results(credential: Credential, queue: str) -> Any:
            results = self.results_of(queue, credential)
            return results and opened("results", results, queue)

        def open_sinks(_credential: Credential, _queue: str, results: Any) -> Any:
            sinks = {name: flaky("sink", sink) for name, sink in self.new_sinks(results).items()}
            return sinks | {name: flaky(name, place.connection()) for name, place in self.places.items()}

        self.probe.locked.clear()
        self.kept_off.clear()
        self.calls = life.calls
        self.spool._news = asyncio.Event()  # noqa: SLF001 - waiters of an earlier life are gone
        return World(
            box=BOX,
            now=self.now,
            up_s=lambda: asyncio.get_running_loop().time(),
            random=life.seeded.random,
            keep_off=self.kept_off.append,
            journal=flaky("journal", self.journal),
            credentials=flaky("credentials", FakeCredentials(self.files)),
            spool=flaky("spool", self.spool),
            workspaces=flaky("workspaces", self.workspaces),
            blobs=flaky("blobs", self.blobs),
            probe=flaky("probe", self.probe),
            containers={kind: flaky("containers", self.containers) for kind in ("process", "container")},
            images=flaky("images", self.images),
            image_records=flaky("image_records", self.image_records),
            dialects={"native": PlainDialect()},
            open_broker=open_broker,
            open_store=lambda _url, _rights: opened("store", self.store, ""),
            open_results=open_results,
            open_sinks=open_sinks,
            why_no_gpus=self.why_no_gpus,
            redact=self.redact,
        )

    async def redact(self, text: str) -> str:
        return text.replace(self.secret, "*" * len(self.secret))

    async def why_no_gpus(self) -> str:
        return self.withheld

    def count(self, life: Life) -> None:
        self.failed += life.failed
        self.hung += life.hung

    def waiting(self) -> list[str]:
        """Submissions that nobody settled for good."""
        return [
            message.submission
            for queue in self.queues.values()
            for message in queue.messages.values()
            if message.gone is None
        ]


def configuration(**changes: object) -> Config:
    small = Config(own_queue=False, mailbox=1, patience=Duration(20), transfer_timeout=Duration(300))
    return msgspec.structs.replace(small, **changes)


def job_bytes(**fields: object) -> bytes:
    return msgspec.json.encode(fields)


def new_life(seed: int, *, fail: float = 0.0, hang: float = 0.0, calls_left: int | None = None) -> Life:
    return Life(random.Random(seed), fail=fail, hang=hang, calls_left=calls_left)


def key_of(world: FakeWorld, job_id: str) -> Key:
    return next(entry.key for entry in world.journal.entries.values() if entry.claimed.claim.id == job_id)
