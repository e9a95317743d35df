"""
Queues in RabbitMQ, classic and quorum ones, whoever made them: their flags, bodies, properties and headers stay.

``amqp://host:5672/vhost?queue=train`` is one queue, without ``?queue=`` all of that virtual host, as its management API
lists them. Beside each stand up to three kinds of queues of ours: ``train.claimed.<box>.<lease>`` for what a box
holds, ``train.later.<seconds>`` for what waits for a retry, ``train.dead`` for what was rejected: there also where the
queue has a dead-letter exchange, which gets what the broker itself gives up, so that reason and history are kept.

Everything that moves a message is one transaction of the broker's, confirmed and mandatory. They hold against
connections that are cut and processes that are killed. A broker that is killed in the middle of one may carry out a
part of it; quorum queues narrow that to the moment between two lines of one log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from urllib.parse import quote

from adapters.queues.rabbitmq_address import Address, read_address
from adapters.queues.rabbitmq_claims import Claims
from adapters.queues.rabbitmq_dead import DeadLetters
from adapters.queues.rabbitmq_envelope import Envelope, packed
from adapters.queues.rabbitmq_fields import Properties, short_text
from adapters.queues.rabbitmq_held import HeldDeliveries
from adapters.queues.rabbitmq_lane import Lane
from adapters.queues.rabbitmq_link import Link
from adapters.queues.rabbitmq_management import listed_queues
from adapters.queues.rabbitmq_names import checked_name, new_submission
from adapters.queues.rabbitmq_own import OwnQueues
from adapters.queues.rabbitmq_trouble import NotAllowed
from runner.credential import Credential
from runner.errors import BadInput, NoSuchQueue, Refused, Unavailable
from runner.job import Note, Verdict
from runner.ports import NOBODY, DeadLetterRow, Delivery, QueuedMessage

WORDS_MAX_BYTES = 8 << 10
"""Id and user of a job travel in the properties of its message."""


class RabbitBroker:
    """One virtual host of a RabbitMQ broker. ``box_id`` names this box's claims, empty for a client."""

    def __init__(self, credential: Credential, *, box_id: str, now: Callable[[], float]) -> None:
        """
        Connect later.

        Raises:
            ConfigurationError: the credential cannot be read.
        """
        self._box_id, self._now, self._lease_s = box_id, now, float(credential.lease)
        self._address = read_address(credential)
        self._links = [self._new_link()]
        self._open: list[RabbitQueue] = []

    async def queues(self) -> tuple[str, ...]:
        """List the queue that the URL names, else those of the management API."""
        return (self._address.queue,) if self._address.queue else await listed_queues(self._address)

    async def open(self, name: str, *, make: bool = True) -> RabbitQueue:
        """
        Open a queue, made where there is none and the user may make it.

        Raises:
            NoSuchQueue: it is not there and is not to be made.
            ConfigurationError: wrong password, no such virtual host, no rights.
            Unavailable: the broker is away.
        """
        link = self._links[-1]
        own = OwnQueues(checked_name(name), link, box_id=self._box_id, lease_s=self._lease_s)
        if make:
            await own.ready_main()
        elif await own.is_missing(name):
            raise NoSuchQueue(f"there is no queue {name} at {self._address}")
        warning = await self._warning(own)
        server = await link.server()
        cluster = str(server.get("cluster_name") or f"{self._address.host}:{self._address.port}")
        identity = "/".join(quote(part, safe="") for part in (cluster, self._address.vhost, name))
        if warning:
            link = self._new_link(patient=True)
            self._links.insert(0, link)
        queue = RabbitQueue(
            own, link, now=self._now, lease_s=self._lease_s, identity=f"rabbitmq:{identity}", warning=warning
        )
        self._open = [it for it in self._open if not it.is_closed] + [queue]
        return queue

    async def change(self, credential: Credential) -> None:
        """Connect anew with the next call; what is held with the old connection keeps it until it is settled."""
        self._address = read_address(credential)
        old, self._links = self._links, [self._new_link()]
        for queue in self._open:
            if not queue.is_closed:
                link = self._links[-1]
                if queue.warning:
                    link = self._new_link(patient=True)
                    self._links.insert(0, link)
                queue.move(link)
        for link in old:
            link.retire()
        self._links = [*(link for link in old if not link.is_over), *self._links]

    async def close(self) -> None:
        async with asyncio.TaskGroup() as group:
            for link in self._links:
                group.create_task(link.close())

    def _new_link(self, *, patient: bool = False) -> Link:
        return Link(self._address, f"runner {self._box_id or 'client'}", patient=patient)

    async def _warning(self, own: OwnQueues) -> str:
        """Try whether claims can be had as they should be."""
        if not self._box_id:
            return ""
        try:
            await own.ready_claimed()
        except NotAllowed as error:
            return held_warning(self._address, own.queue, str(error))
        return ""


def held_warning(address: Address, queue: str, refusal: str) -> str:
    """Say what it means that our own queues cannot be made."""
    return (
        f"deliveries of {queue} are held unacknowledged, so a job may run twice where the connection breaks or "
        f"it runs longer than the broker's consumer_timeout (30 min unless set otherwise), and what is rejected is "
        f"gone unless the queue has a dead-letter exchange: {refusal}; give user "
        f"{address.username!r} configure, write and read on '^{queue}[.]' and write on '^amq[.]default$' in virtual "
        f"host {address.vhost!r}"
    )


class RabbitQueue:
    """One open queue."""

    by_user = False
    release_costs = False

    def __init__(
        self, own: OwnQueues, link: Link, *, now: Callable[[], float], lease_s: float, identity: str, warning: str
    ) -> None:
        self.name, self.identity, self.lease_s, self.warning = own.queue, identity, lease_s, warning
        self.is_closed, self.ends_claims = False, bool(warning)
        self._own, self._now = own, now
        self._fetching = Lane(link, f"fetch from queue {own.queue}", prefetch=1)
        self._claiming = Lane(link, f"renew or settle claims of queue {own.queue}")
        self._calling = Lane(link, f"use queue {own.queue}")
        self._held = HeldDeliveries(own, self._fetching, lease_s=lease_s, now=now)
        self._claims = Claims(own, self._claiming, lease_s=lease_s, now=now)
        self._dead = DeadLetters(own, self._calling, now=now)
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:  # noqa: ARG002
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        while not self.is_closed:
            await self._held.put_back_due()
            left_s = max(0.0, min(ends_at - clock(), self._held.next_s()))
            delivery, found = await self._fetch_once(left_s)
            if delivery is not None or (not found and clock() >= ends_at):
                return delivery
        return None

    async def _fetch_once(self, wait_s: float) -> tuple[Delivery | None, bool]:
        """Return what was claimed, and whether there was a message at all."""
        async with self._fetching.use() as session:
            message = await session.get(self.name)
            if message is None and wait_s > 0:
                message = await session.wait(self.name, wait_s, self._stop)
            if message is None:
                return None, False
            claims = self._held if self.warning else self._claims
            return await claims.claim(session, message), True

    async def renew(self, token: str) -> None:
        await (self._held if self.warning else self._claims).renew(token)

    def recall(self, token: str, body: bytes, note: Note) -> None:
        """What was claimed lies in the box's own queue."""

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        claims = self._held if self.warning else self._claims
        await claims.settle(token, verdict, after_s=after_s, note=note, reason=reason)

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0, submission: str = "") -> str:
        submission = submission or new_submission()
        at = self._now()
        envelope = Envelope(submission, at, job_id, user)
        if not _is_carried(job_id + user):
            raise BadInput(f"put into queue {self.name}: id and user of job {job_id[:80]!r} are too long, or no text")
        fields = {
            "priority": bytes([min(255, max(0, priority))]),
            "message_id": short_text(submission),
            "timestamp": int(at).to_bytes(8, "big"),
        }
        try:
            await self._put(Properties(fields), envelope, body)
        except Refused as error:
            raise BadInput(f"put into queue {self.name}: the broker takes no message like this: {error}") from error
        return submission

    async def _put(self, properties: Properties, envelope: Envelope, body: bytes) -> None:
        await self._own.firm(self.name)
        async with self._calling.use() as session:
            session.publish(self.name, packed(properties, envelope, session.room), body)
            if not await session.commit():
                raise Unavailable(f"put into queue {self.name}: it was deleted; open it anew")

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:  # noqa: ARG002
        return ()

    async def depth(self) -> int:
        return await self._own.link.count(self.name)

    async def peek(self, limit: int) -> tuple[QueuedMessage, ...] | None:  # noqa: ARG002
        return None

    async def dead(self) -> tuple[DeadLetterRow, ...]:
        return await self._dead.rows()

    async def retry_dead(self, submission: str) -> bool:
        return await self._dead.retry(submission)

    async def drop_dead(self, submission: str) -> bool:
        return await self._dead.drop(submission)

    async def prune(self, before: float) -> int:
        return await self._dead.prune(before)

    def move(self, link: Link) -> None:
        """Go on over another connection; what is under way ends with the old one."""
        self._own.link = link
        for lane in (self._fetching, self._claiming, self._calling):
            lane.move(link)

    async def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._stop.set_result(None)
        for lane in (self._fetching, self._claiming, self._calling):
            await lane.close()
        await self._held.close()


def _is_carried(words: str) -> bool:
    try:
        return len(words.encode()) <= WORDS_MAX_BYTES
    except UnicodeEncodeError:
        return False
