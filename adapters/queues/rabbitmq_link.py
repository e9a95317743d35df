"""
One connection to a RabbitMQ broker, made when it is needed and again once it broke, and the sessions on it.

It never connects again behind the back of a caller: a call that finds a dead connection makes one new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import cast

from aiormq.abc import AbstractConnection
from aiormq.connection import Connection
from aiormq.exceptions import ConnectionNotAllowed, InvalidFrameError
from pamqp.common import FieldTable

from adapters.queues.rabbitmq_address import HEARTBEAT_S, Address
from adapters.queues.rabbitmq_session import CALL_S, Session
from adapters.queues.rabbitmq_transport import Transport
from adapters.queues.rabbitmq_trouble import QueueMissing, explained

log = logging.getLogger(__name__)

CLOSE_S = 3.0
NOT_ALLOWED = "NOT_ALLOWED"
TOLD_S = 2.0
SILENT_S = 3.0 * HEARTBEAT_S
"""A broker may hold what a broken connection had for so long: after it said that it closed, and after mere silence."""


class Link:
    """
    A connection as one user.

    ``patient`` ones wait for a broker that does not answer until the heartbeat tells, since what they hold is lost with
    the connection; others are given up at the first call that took too long.
    """

    def __init__(self, address: Address, name: str, *, patient: bool = False) -> None:
        self.address = address
        self.retired = False
        self._name, self._patient = name, patient
        self._connection: Connection | None = None
        self._transport: Transport | None = None
        self._lock = asyncio.Lock()
        self._sessions: set[Session] = set()
        self._closing: set[asyncio.Task[None]] = set()
        # Until when, in loop seconds, what is not found may be held by a connection that broke.
        self._unsure_until = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it to close."""
        return self.retired and self._connection is None and not self._closing

    async def session(self, *, prefetch: int = 0) -> Session:
        """Open a session, on a new connection where there is none."""
        with explained("connect to", str(self.address)):
            async with asyncio.timeout(CALL_S):
                connection, returned = await self._connected()
                channel = await connection.channel(publisher_confirms=False)
                session = Session(channel, connection, returned)
                await session.begin(prefetch)
        self._sessions.add(session)
        return session

    async def server(self) -> Mapping[str, object]:
        """Return what the broker says of itself."""
        with explained("connect to", str(self.address)):
            async with asyncio.timeout(CALL_S):
                connection, _ = await self._connected()
        return cast("Mapping[str, object]", connection.server_properties)

    def is_sure(self) -> bool:
        """Tell whether what is not found is not there, rather than with a connection of ours that broke."""
        return asyncio.get_running_loop().time() >= self._unsure_until

    async def count(self, queue: str) -> int:
        """Count the messages that wait in a queue; QueueMissing where there is none."""
        return await self._declared(queue, None)

    async def ensure(self, queue: str, arguments: Mapping[str, object]) -> bool:
        """
        Declare a queue unless there is one, which stays as it is; tell whether it was made.

        Raises:
            NotAllowed: the user may not.
        """
        try:
            await self._declared(queue, None)
        except QueueMissing:
            await self._declared(queue, arguments)
            return True
        return False

    async def _declared(self, queue: str, arguments: Mapping[str, object] | None) -> int:
        """Ask in a channel of its own, since the broker closes one in which it says no."""
        with explained("look for queue" if arguments is None else "make queue", f"{queue} at {self.address}"):
            async with asyncio.timeout(CALL_S):
                connection, _ = await self._connected()
                channel = await connection.channel(publisher_confirms=False)
                table = cast("FieldTable | None", arguments and dict(arguments))
                passive = arguments is None
                declared = await channel.queue_declare(queue, passive=passive, durable=True, arguments=table)
                await channel.close()
        return declared.message_count or 0

    def ended(self, session: Session, error: BaseException | None) -> None:
        """Take back a session that is over; ``error`` says how, where it was not by choice."""
        self._sessions.discard(session)
        if error is not None:
            self._doubt(session, error)
        if self.retired and not self._sessions:
            self._let_go()

    def retire(self) -> None:
        """Close the connection once its last session is over."""
        self.retired = True
        if not self._sessions:
            self._let_go()

    async def close(self) -> None:
        """Close the connection now."""
        self.retired = True
        self._let_go()
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_S)

    def _doubt(self, session: Session, error: BaseException) -> None:
        silent = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        if session.took_any and (silent or session.is_cut):
            wait_s = SILENT_S if silent or session.was_stuck else TOLD_S
            self._unsure_until = max(self._unsure_until, asyncio.get_running_loop().time() + wait_s)
        if silent and not self._patient:
            self._let_go()

    async def _connected(self) -> tuple[AbstractConnection, set[int]]:
        async with self._lock:
            if self._connection is not None and not self._connection.is_opened:
                self._let_go()
            if self._connection is None or self._transport is None:
                self._transport = Transport(await asyncio.to_thread(self.address.tls))
                self._connection = await self._connect(self._transport)
            return self._connection, self._transport.told.returned

    async def _connect(self, transport: Transport) -> Connection:
        connection = Connection(self.address.url(self._name), transport_factory=transport)
        connection.vhost = self.address.vhost
        try:
            await connection.connect()
        except InvalidFrameError as error:
            if transport.told.goodbye.startswith(NOT_ALLOWED):
                raise ConnectionNotAllowed(transport.told.goodbye) from error
            raise
        return connection

    def _let_go(self) -> None:
        """Close the connection beside everything else: a broker that hangs does not hold up the next one."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        task = asyncio.get_running_loop().create_task(_closed(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _closed(connection: Connection) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await connection.close()
