"""One open SQS queue, as the port wants it: fetching is here, all else in the modules named after it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any

from adapters.queues.sqs_access import Access
from adapters.queues.sqs_claims import Claims
from adapters.queues.sqs_dead import DeadLetters
from adapters.queues.sqs_home import Home
from adapters.queues.sqs_message import Envelope, Received
from adapters.queues.sqs_places import Place
from adapters.queues.sqs_sender import Sender
from adapters.queues.sqs_service import LONG_POLL_S
from adapters.queues.sqs_settling import Settling
from adapters.queues.sqs_sweep import Sweep
from runner.errors import LeaseLost, RunnerError
from runner.job import Note, Verdict
from runner.ports import NOBODY, DeadLetterRow, Delivery, QueuedMessage

log = logging.getLogger(__name__)

_CLOSE_S = 5.0
_PUT_OFF_MOST_S = 86_400.0
"""No box puts a message off for longer; one that says so was written by somebody else, and is due."""
# The service waits whole seconds: 20 s are 20 also a moment after they began.
_ROUNDING_S = 0.1
_SHORT_S = 3 * 86_400


class SqsQueue:
    """One open queue."""

    by_user = ends_claims = False

    def __init__(self, access: Access) -> None:
        place = access.place
        self.name, self.identity = place.name, place.arn
        self.lease_s = access.lease_s
        self.release_costs = bool(place.redrive)
        self.warning = _warning(place)
        self._access, self._place, self._now, self._clock = access, place, access.now, access.clock
        # Shorter than a lease, so that an answer tells in time of a claim that began while it was waited for.
        self._poll_max_s = max(1, min(LONG_POLL_S, int(self.lease_s / 2)))
        self._claims = Claims(access, Home(access))
        self._sender = Sender(access)
        self._dead = DeadLetters(access, self._sender)
        self._settling = Settling(access, self._claims, self._sender, self._dead)
        self._sweep = Sweep(access, self._sender)
        # Polls that outlive the call that began them, and what gives back what they brought.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:  # noqa: ARG002
        handover = _Handover()
        poll = self._start(self._poll(handover, wait_s))
        try:
            return await asyncio.shield(poll)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if poll.cancelled() and not (caller and caller.cancelling()):
                return None
            handover.leave()
            if poll.done() and not poll.cancelled() and poll.exception() is None and poll.result() is not None:
                self._start(self._give_back(poll.result()))
            raise

    async def renew(self, token: str) -> None:
        await self._claims.renew(token)

    def recall(self, token: str, body: bytes, note: Note) -> None:
        self._claims.recall(token, body, note)

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        await self._settling.settle(token, verdict, after_s=after_s, note=note, reason=reason)

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0, submission: str = "") -> str:  # noqa: ARG002
        submission = submission or secrets.token_hex(12)
        await self._sender.put(body, Envelope(submission=submission, job_id=job_id, user=user))
        return submission

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:  # noqa: ARG002
        """SQS finds no message by what is in it."""
        return ()

    async def depth(self) -> int:
        answer = await self._access.service.call(
            "get_queue_attributes",
            f"queue {self.name}",
            QueueUrl=self._place.url,
            AttributeNames=["ApproximateNumberOfMessages"],
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    async def peek(self, limit: int) -> tuple[QueuedMessage, ...] | None:  # noqa: ARG002
        """SQS shows a message to nobody but who receives it."""
        return None

    async def dead(self) -> tuple[DeadLetterRow, ...]:
        return await self._dead.rows()

    async def retry_dead(self, submission: str) -> bool:
        return await self._dead.retry(submission)

    async def drop_dead(self, submission: str) -> bool:
        return await self._dead.drop(submission)

    async def prune(self, before: float) -> int:
        return await self._dead.prune(before)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _poll(self, handover: _Handover, wait_s: float) -> Delivery | None:
        """Receive until there is something to deliver; what comes once the caller is gone is given back."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + wait_s
        await self._sweep.look()
        while not (self._closed or handover.is_over()):
            delivery = await self._receive(min(self._poll_max_s, max(0, int(ends - loop.time() + _ROUNDING_S))))
            if delivery is not None and handover.is_over():
                await self._give_back(delivery)
                return None
            if delivery is not None or ends - loop.time() + _ROUNDING_S < 1:
                return delivery
        return None

    async def _receive(self, wait_s: int) -> Delivery | None:
        asked_s = self._clock()
        messages = await self._access.receive(self.name, self._place.url, wait_s=wait_s, most=1)
        # An answer that took so long, as while the box was frozen, may be of a claim that is another's by now.
        if not messages or self._clock() - asked_s >= self.lease_s:
            return None
        return await self._taken(messages[0], asked_s)

    async def _taken(self, message: Received, asked_s: float) -> Delivery | None:
        """Claim what was received, unless it is a claim already, not due yet, or received in vain too often."""
        if await self._claims.take_back(message, asked_s):
            return None
        claim = self._claims.make(message, asked_s)
        left_s = message.envelope.due_at - self._now()
        if 0 < left_s <= _PUT_OFF_MOST_S:
            await self._settling.put_off(claim, left_s)
            return None
        if message.receives > self._access.limits.receives and not self._place.redrive:
            reason = f"received {message.receives} times and never settled"
            note = message.envelope.note
            await self._settling.settle(claim.token, Verdict.REJECT, after_s=0, note=note, reason=reason)
            return None
        # The service hid it at any moment since it was asked; where that may be long ago, this makes it sure.
        if self._clock() - asked_s > self.lease_s / 2:
            try:
                await self._claims.extend(claim)
            except LeaseLost:
                return None
        return Delivery(claim.token, message.body, message.submission, message.enqueued_at, message.envelope.note)

    async def _give_back(self, delivery: Delivery) -> None:
        """Show a message again at once that nobody waits for any more; where that fails its claim lapses."""
        try:
            await self._claims.show(await self._claims.standing(delivery.token))
        except RunnerError as error:
            extra = {"action": "give_back", "queue": self.name, "reason": str(error)}
            log.info("a message that nobody waits for stays hidden for a lease", extra=extra)


class _Handover:
    """Tells a poll whether its caller is still there."""

    def __init__(self) -> None:
        self._over = False

    def leave(self) -> None:
        """Say that nobody waits any more."""
        self._over = True

    def is_over(self) -> bool:
        """Tell whether nobody waits any more."""
        return self._over


def _warning(place: Place) -> str:
    if place.retention_s >= _SHORT_S:
        return ""
    hours = place.retention_s / 3600
    return (
        f"the queue forgets every message {hours:g} h after it was sent, also while its job runs:"
        " set MessageRetentionPeriod to 14 days"
    )
