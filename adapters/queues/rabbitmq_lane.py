"""A session that is kept from one use to the next, by one user at a time; left behind where a use did not end well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.queues.rabbitmq_link import Link
from adapters.queues.rabbitmq_session import Session
from adapters.queues.rabbitmq_trouble import explained

CLOSE_S = 2.0


class Lane:
    """
    One session over all reconnections. ``doing`` says in errors what it is for.
    """

    def __init__(self, link: Link, doing: str, *, prefetch: int = 0) -> None:
        self.link = link
        self._doing, self._prefetch = doing, prefetch
        self._session: Session | None = None
        self._session_link = link
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Session]:
        """Give the session to one user; RunnerError where the broker does not play along."""
        async with self._lock:
            with explained(self._doing, f"at {self.link.address}"):
                session = await self._open()
                try:
                    yield session
                except BaseException as error:
                    self._leave(error)
                    raise
            if self._session_link is not self.link:
                self._leave(None)

    def detach(self, session: Session) -> Link:
        """Leave the session to its user, who ends it by the link that is returned."""
        if session is self._session:
            self._session = None
        return self._session_link

    def move(self, link: Link) -> None:
        """Go on over another connection; a use that is under way ends with the old one."""
        self.link = link
        if not self._lock.locked():
            self._leave(None)

    async def close(self) -> None:
        """End the session, once its user is done."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S), self._lock:
                pass
        self._leave(None)

    async def _open(self) -> Session:
        if self._session is not None and not self._session.is_open:
            self._leave(None)
        if self._session is None:
            self._session_link = self.link
            self._session = await self.link.session(prefetch=self._prefetch)
        return self._session

    def _leave(self, error: BaseException | None) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.abandon()
            self._session_link.ended(session, error)
