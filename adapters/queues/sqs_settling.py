"""
Verdicts carried out in SQS: a copy with the new note is sent first, then the claimed message is deleted.

So a kill in between leaves two messages of one submission, never none. A verdict that was carried out in this life is
known when it comes again; one of an earlier life shows as a lost claim, since SQS cannot tell the two apart.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

import msgspec

from adapters.queues.sqs_access import Access
from adapters.queues.sqs_claims import Claims
from adapters.queues.sqs_dead import DeadLetters
from adapters.queues.sqs_sender import Sender
from adapters.queues.sqs_token import Claim
from runner.errors import BadInput, LeaseLost
from runner.job import Note, Verdict

log = logging.getLogger(__name__)

_REMEMBERED = 1000
_LOOKS = 5


class Settling:
    """Settles the claims of one queue."""

    def __init__(self, access: Access, claims: Claims, sender: Sender, dead: DeadLetters) -> None:
        self._access, self._place, self._now = access, access.place, access.now
        self._claims, self._sender, self._dead = claims, sender, dead
        self._done: OrderedDict[str, Verdict] = OrderedDict()

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        """Carry out a verdict, once."""
        if self._is_done(token, verdict):
            return
        claim = await self._claims.standing(token)
        async with claim.lock:
            if self._is_done(token, verdict):
                return
            self._claims.check(claim)
            await self._claims.keep_fresh(claim)
            await self._carry_out(claim, verdict, after_s, note, reason)
        self._done[token] = verdict
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)

    async def put_off(self, claim: Claim, left_s: float) -> None:
        """Let a message wait on that is not due yet, without a trace of its having been received."""
        if self._place.fifo:
            await self._claims.show(claim, left_s)
            return
        await self._wait_again(claim, claim.body or b"", left_s, claim.envelope.note)

    def _is_done(self, token: str, verdict: Verdict) -> bool:
        done = self._done.get(token)
        if done not in {None, verdict}:
            raise LeaseLost(f"claim on queue {self._place.name}: it was settled with {done}, not with {verdict}")
        return done is verdict

    async def _carry_out(self, claim: Claim, verdict: Verdict, after_s: float, note: Note, reason: str) -> None:
        if verdict is Verdict.ACK:
            await self._end(claim)
        elif claim.body is None and not await self._reread(claim):
            extra = {"action": "settle", "queue": self._place.name, "message_id": claim.name.message_id}
            log.warning("a message waits again without its note: its body was not to be had", extra=extra)
        elif verdict is Verdict.REJECT:
            await self._reject(claim, claim.body or b"", note, reason)
        elif verdict is Verdict.RELEASE and after_s == 0 and self._can_stay(claim, note):
            await self._claims.show(claim)
        else:
            await self._wait_again(claim, claim.body or b"", after_s, note)

    def _can_stay(self, claim: Claim, note: Note) -> bool:
        """Tell whether a message may be shown again as it is: nothing new is to be said, and nobody counts it."""
        here = claim.url == self._place.url
        return here and note == claim.envelope.note and not self._place.redrive

    async def _wait_again(self, claim: Claim, body: bytes, after_s: float, note: Note) -> None:
        told = msgspec.structs.replace(claim.envelope, note=note)
        try:
            if not claim.copied:
                unique = f"{claim.name.claim}-again"
                await self._sender.copy(body, told, claim.foreign, after_s=after_s, unique=unique)
                claim.copied = True
        except BadInput as error:
            log.warning("a message waits again without its note", extra={"action": "settle", "reason": str(error)})
            await self._claims.show(claim, after_s)
            return
        await self._end(claim)

    async def _reject(self, claim: Claim, body: bytes, note: Note, reason: str) -> None:
        if not claim.copied:
            told = msgspec.structs.replace(
                claim.envelope, note=note, queue=self._place.name, reason=reason, rejected_at=self._now()
            )
            await self._dead.bury(body, told, claim.foreign, unique=claim.name.claim)
            claim.copied = True
        await self._end(claim)

    async def _end(self, claim: Claim) -> None:
        self._claims.check(claim)
        await self._access.delete(claim.url, claim.handle)
        if claim.leftover is not None:
            await self._access.delete(*claim.leftover)
        self._claims.forget(claim)

    async def _reread(self, claim: Claim) -> bool:
        """Show a message of an earlier life and receive it again, for its body; another box may be faster."""
        await self._claims.show(claim)
        for _ in range(_LOOKS):
            asked_s = self._access.clock()
            for message in await self._access.receive(self._place.name, claim.url):
                if message.message_id == claim.message_id:
                    claim.arrive(message, claim.url, asked_s=asked_s, lease_s=self._access.lease_s)
                    self._claims.hold(claim)
                else:
                    await self._access.hide(claim.url, message.handle, 0)
            if claim.body is not None:
                return True
        return False
