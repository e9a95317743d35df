"""The dead letters of one queue: a queue of their own, through which one walks to look or to change something."""

from __future__ import annotations

from collections.abc import Callable

from adapters.queues.rabbitmq_envelope import Envelope, Message, packed, read_envelope, to_dead_letter
from adapters.queues.rabbitmq_lane import Lane
from adapters.queues.rabbitmq_names import dead_queue, new_submission
from adapters.queues.rabbitmq_own import OwnQueues
from adapters.queues.rabbitmq_session import Session
from adapters.queues.rabbitmq_trouble import QueueMissing
from runner.ports import DeadLetterRow

LOOK_MAX = 10_000
"""So many are looked at in one call, the oldest; while that goes on nobody else sees them."""


class DeadLetters:
    """Those of one queue."""

    def __init__(self, own: OwnQueues, lane: Lane, *, now: Callable[[], float]) -> None:
        self._own, self._lane, self._now = own, lane, now

    async def rows(self) -> tuple[DeadLetterRow, ...]:
        """List them, oldest first."""
        found: list[DeadLetterRow] = []

        def look(session: Session, message: Message) -> bool:
            found.append(to_dead_letter(message))
            session.give_back(message.tag)
            return False

        await self._walk(look)
        return tuple(sorted(found, key=lambda row: row.at))

    async def retry(self, submission: str) -> bool:
        """Let one wait again, as a new submission with a fresh note."""

        def again(session: Session, message: Message) -> None:
            old = read_envelope(message.properties) or Envelope()
            fresh = Envelope(new_submission(), self._now(), old.job_id, old.user, kept=old.kept)
            session.publish(self._own.queue, packed(message.properties, fresh, session.room), message.body)

        await self._own.ready_main()
        await self._own.firm(self._own.queue)
        return await self._take(submission, again)

    async def drop(self, submission: str) -> bool:
        """Delete one."""
        return await self._take(submission, lambda session, message: None)  # noqa: ARG005

    async def prune(self, before: float) -> int:
        """Delete those that were rejected before an epoch second."""
        deleted = 0

        def look(session: Session, message: Message) -> bool:
            nonlocal deleted
            is_old = to_dead_letter(message).at < before
            (session.settle if is_old else session.give_back)(message.tag)
            deleted += is_old
            return False

        await self._walk(look)
        return deleted

    async def _take(self, submission: str, use: Callable[[Session, Message], None]) -> bool:
        found = False

        def look(session: Session, message: Message) -> bool:
            nonlocal found
            found = to_dead_letter(message).submission == submission
            if found:
                use(session, message)
            (session.settle if found else session.give_back)(message.tag)
            return found

        await self._walk(look)
        return found

    async def _walk(self, look: Callable[[Session, Message], bool]) -> None:
        """Show one after the other to ``look``, which says what becomes of it, until it returns true."""
        try:
            async with self._lane.use() as session:
                for _ in range(LOOK_MAX):
                    message = await session.get(dead_queue(self._own.queue))
                    if message is None or look(session, message):
                        break
                if session.took_any:
                    await session.commit()
        except QueueMissing:
            return
