"""A queue in memory with leases, and the ledger of how often each message was settled."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from runner.credential import Credential
from runner.errors import LeaseLost
from runner.job import Note, Verdict
from runner.ports import NOBODY, DeadLetterRow, Delivery, QueuedMessage


@dataclass
class Message:
    submission: str
    body: bytes
    enqueued_at: float
    visible_at: float
    user: str = ""
    note: Note = field(default_factory=Note)
    token: str = ""
    claimed_until: float = 0.0
    gone: Verdict | None = None


class FakeQueue:
    """Settling is idempotent by claim; what became of each claim is kept for ever."""

    lease_s = 60.0
    # What a test says of this service.
    by_user = False
    release_costs = ends_claims = False
    warning = ""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.name, self.identity, self._now = name, f"fake:{name}", now
        self.messages: dict[str, Message] = {}
        self.settled: dict[str, Verdict] = {}
        self.final: Counter[str] = Counter()
        self.claims = 0
        # What a later life was told of an earlier one's claims, by token.
        self.recalled: dict[str, bytes] = {}
        # Claims that this opening of the queue made, or was told of; and those that it was asked about all the same.
        self._known: set[str] = set()
        self.unknown: set[str] = set()
        # Submissions whose claim lapsed and was seen to be lost.
        self.lost: set[str] = set()
        self.closed = 0
        # How long a test makes closing take, and whether one is under way.
        self.closing_s, self.closing = 0.0, False

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:
        ends = self._now() + wait_s
        while True:
            message = self._next(served)
            if message is not None:
                return self.claim(message)
            if self._now() >= ends:
                return None
            await asyncio.sleep(0.1)

    def _next(self, served: Mapping[str, float]) -> Message | None:
        visible = [message for message in self.messages.values() if self._visible(message)]
        if not self.by_user:
            return next(iter(visible), None)
        wanted = [message for message in visible if served.get(message.user, 0.0) < math.inf]
        return min(wanted, key=lambda message: served.get(message.user, 0.0), default=None)

    def _visible(self, message: Message) -> bool:
        free = not message.token or message.claimed_until < self._now()
        return message.gone is None and free and message.visible_at <= self._now()

    def claim(self, message: Message) -> Delivery:
        self.claims += 1
        message.token = f"{message.submission}#{self.claims}"
        message.claimed_until = self._now() + self.lease_s
        self._known.add(message.token)
        return Delivery(
            message.token,
            message.body,
            message.submission,
            message.enqueued_at,
            message.note,
            anonymous=not message.user,
        )

    def _held(self, token: str) -> Message:
        if token not in self._known:
            self.unknown.add(token)
        message = self.messages[token.partition("#")[0]]
        if message.token != token:
            self.lost.add(message.submission)
            raise LeaseLost(token)
        return message

    def recall(self, token: str, body: bytes, note: Note) -> None:
        self.recalled[token] = body
        self._known.add(token)

    def opened(self) -> FakeQueue:
        """Forget what an earlier opening knew: it may have been another process."""
        self._known.clear()
        return self

    async def renew(self, token: str) -> None:
        message = self._held(token)
        if message.gone is not None:
            raise LeaseLost(token)
        message.claimed_until = self._now() + self.lease_s

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        if self.settled.get(token) is verdict:
            return
        if token in self.settled:
            raise LeaseLost(f"{token} was settled as {self.settled[token]}")
        message = self._held(token)
        self.settled[token] = verdict
        message.token, message.note = "", note
        if verdict in {Verdict.ACK, Verdict.REJECT}:
            self.final[message.submission] += 1
            message.gone = verdict
        else:
            message.visible_at = self._now() + after_s

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0, submission: str = "") -> str:
        submission = submission or f"{self.name}-{len(self.messages)}"
        self.messages[submission] = Message(submission, body, self._now(), self._now(), user)
        return submission

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        return tuple(self.claim(message) for message in self.messages.values() if self._waits(message, job_id))

    def _waits(self, message: Message, job_id: str) -> bool:
        free = message.gone is None and (not message.token or message.claimed_until < self._now())
        return free and bool(msgspec.json.decode(message.body).get("id") == job_id)

    async def depth(self) -> int:
        return sum(1 for message in self.messages.values() if self._visible(message))

    async def peek(self, limit: int) -> tuple[QueuedMessage, ...] | None:
        return None

    async def dead(self) -> tuple[DeadLetterRow, ...]:
        return ()

    async def prune(self, before: float) -> int:
        return 0

    async def close(self) -> None:
        self.closing = True
        await asyncio.sleep(self.closing_s)
        self.closing = False
        self.closed += 1
        for message in self.messages.values() if self.ends_claims else ():
            message.token = ""


class FakeBroker:
    """``behind`` lists the queues now, ``changed`` gets every credential that it is told."""

    def __init__(
        self, behind: Callable[[], tuple[str, ...]], open_queue: Callable[[str], object], changed: list[Credential]
    ) -> None:
        self._behind, self._open_queue, self._changed = behind, open_queue, changed

    async def queues(self) -> tuple[str, ...]:
        return self._behind()

    async def open(self, name: str, *, make: bool = True) -> object:
        return self._open_queue(name)

    async def change(self, credential: Credential) -> None:
        self._changed.append(credential)

    async def close(self) -> None:
        return None
