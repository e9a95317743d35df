"""
Dead letters: in the queue that the redrive policy names, else in ``<queue>-dead``, made when it is needed.

SQS can only be looked at by receiving: what is listed is hidden from other lookers meanwhile, and given back after.
A look ends after half a minute, whatever is left. Two who look at once see a part each, and who is killed meanwhile
leaves them hidden for a minute. A box that was killed between the letter and the deletion of its message writes the
letter once more: those of one submission are one letter.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from adapters.queues.sqs_access import Access
from adapters.queues.sqs_errors import QueueMissing
from adapters.queues.sqs_message import Envelope, Received
from adapters.queues.sqs_places import dead_name
from adapters.queues.sqs_sender import Sender
from runner.ports import DeadLetterRow

BY_SERVICE = "the service gave it up: it was received more often than the queue's redrive policy allows"
_HIDDEN_S = 60
_BATCH = 10


class DeadLetters:
    """The dead letters of one queue."""

    def __init__(self, access: Access, sender: Sender) -> None:
        self._access, self._places, self._place, self._sender = access, access.places, access.place, sender

    async def bury(self, body: bytes, envelope: Envelope, foreign: Mapping[str, Any], *, unique: str) -> None:
        """Send a dead letter to where this queue's lie."""
        name, url = await self._found() or await self._made()
        await self._sender.bury(name, url, body, envelope, foreign, unique=unique)

    async def rows(self) -> tuple[DeadLetterRow, ...]:
        """List them, oldest first."""
        async with self._shown("") as letters:
            rows: dict[str, DeadLetterRow] = {}
            for row in sorted(map(_row, letters), key=lambda row: row.at):
                rows.setdefault(row.submission, row)
        return tuple(rows.values())

    async def retry(self, submission: str) -> bool:
        """Put one as a new submission, then delete it."""
        async with self._shown(submission) as letters:
            copies = tuple(letters)
            if copies:
                first, came = copies[0], copies[0].envelope
                fresh = Envelope(secrets.token_hex(12), job_id=came.job_id, user=came.user, group=first.group)
                await self._sender.copy(first.body, fresh, first.foreign, after_s=0.0, unique=fresh.submission)
            for letter in copies:
                await self._delete(letter, letters)
        return bool(copies)

    async def drop(self, submission: str) -> bool:
        """Delete one."""
        async with self._shown(submission) as letters:
            copies = tuple(letters)
            for letter in copies:
                await self._delete(letter, letters)
        return bool(copies)

    async def prune(self, before: float) -> int:
        """Delete those rejected before an epoch second."""
        async with self._shown("") as letters:
            old = [letter for letter in letters if _rejected_at(letter) < before]
            for letter in old:
                await self._delete(letter, letters)
        return len(old)

    @asynccontextmanager
    async def _shown(self, submission: str) -> AsyncIterator[list[Received]]:
        """Give all letters of this queue, or one by its submission; what is left in the list then is given back."""
        place = await self._found()
        seen: list[Received] = []
        others: list[Received] = []
        try:
            if place is not None:
                await self._receive(place, submission, seen, others)
            yield seen
        finally:
            if place is not None:
                await self._give_back(place[1], seen + others)

    async def _receive(
        self, place: tuple[str, str], submission: str, seen: list[Received], others: list[Received]
    ) -> None:
        name, url = place
        ends = time.monotonic() + _HIDDEN_S / 2
        while time.monotonic() < ends:
            letters = await self._access.receive(name, url, hidden_s=_HIDDEN_S)
            for letter in letters:
                ours = self._is_ours(letter) and submission in {"", letter.submission}
                (seen if ours else others).append(letter)
            if not letters:
                return

    async def _give_back(self, url: str, letters: list[Received]) -> None:
        for start in range(0, len(letters), _BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": letter.handle, "VisibilityTimeout": 0}
                for number, letter in enumerate(letters[start : start + _BATCH])
            ]
            await self._access.service.call(
                "change_message_visibility_batch",
                f"dead letters of queue {self._place.name}",
                QueueUrl=url,
                Entries=entries,
            )

    async def _delete(self, letter: Received, letters: list[Received]) -> None:
        place = await self._found()
        if place is not None:
            await self._access.delete(place[1], letter.handle)
            letters.remove(letter)

    def _is_ours(self, letter: Received) -> bool:
        """Tell letters of this queue from those of others that share its redrive target."""
        return letter.envelope.queue in {"", self._place.name} and letter.source in {"", self._place.arn}

    async def _found(self) -> tuple[str, str] | None:
        owner, _, name = self._place.redrive.rpartition(":")
        try:
            return (name, await self._places.url(name, owner=owner)) if name else await self._own()
        except QueueMissing:
            return await self._own() if name else None

    async def _own(self) -> tuple[str, str] | None:
        name = dead_name(self._place.name)
        try:
            return name, await self._places.url(name)
        except QueueMissing:
            return None

    async def _made(self) -> tuple[str, str]:
        name = dead_name(self._place.name)
        return name, await self._places.made_url(name, MaximumMessageSize=str(self._place.limit_bytes))


def _row(letter: Received) -> DeadLetterRow:
    return DeadLetterRow(
        submission=letter.submission,
        reason=_reason(letter),
        at=_rejected_at(letter),
        note=letter.envelope.note,
        body=letter.body,
        job_id=letter.envelope.job_id,
    )


def _reason(letter: Received) -> str:
    return letter.envelope.reason or ("" if letter.envelope.rejected_at else BY_SERVICE)


def _rejected_at(letter: Received) -> float:
    return letter.envelope.rejected_at or letter.sent_at
