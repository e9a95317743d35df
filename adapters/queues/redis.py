"""
Queues in Redis 6.2 or newer: claims with a lease, priorities, turns between users, dead letters.

``redis://host:6379/0?queue=train`` is one queue, without ``?queue=`` it is all that were opened or made there;
``rediss://`` is TLS, with ``ca_file`` for an authority of one's own. Any producer may add a message, too:

    XADD '{runner:train}' * body '{"command": ["true"]}'

with ``job`` (its id), ``user`` and ``priority`` as further fields if it likes; in the key a queue's name is encoded as
in a URL. What has no ``body``, or is no stream, becomes a dead letter that says so. A body is cut a byte after 1 MiB.

A claim is an entry of its stream's pending list, whose idle time is the lease and whose consumer names the claim: every
renewal and settlement checks that, by the server's clock, within one script. What was settled how is remembered for a
week, at most 100,000 times. A fetch blocks; it looks again once a second for what nobody rings for.

Redis keeps what its configuration says. With ``appendonly yes`` a server that is killed loses at most the last second
(``appendfsync always``: nothing); a message that was acknowledged then may come once more. ``maxmemory-policy`` must be
``noeviction``. In a cluster all of one queue is on one server, whose address the URL must be. For a queue and its
results a user needs:

    ACL SETUSER box on >PASSWORD ~{runner:train}* ~runner:queues -@all +@stream +@sortedset +@hash +@string +@list
        +@connection +eval +evalsha +exists +del +unlink +expire +rename +type +sadd +smembers +scan +time +info
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from adapters.queues.redis_names import QueueNames
from adapters.queues.redis_script import QueueScript, queue_script
from adapters.queues.redis_warnings import server_warning
from adapters.queues.redis_wire import (
    DELAY_MAX_S,
    Nothing,
    clamp_priority,
    encode_served,
    encode_text,
    lost,
    read_dead,
    read_delivery,
    read_queued,
    read_token,
)
from adapters.redis_client import CLOSE_S, RedisClient
from runner.credential import Credential
from runner.errors import NoSuchQueue, RunnerError
from runner.job import MESSAGE_MAX_BYTES, Note, Verdict
from runner.ports import NOBODY, DeadLetterRow, Delivery, QueuedMessage

LOOK_S = 1.0
"""Nobody rings when a lease lapses, or a delay ends: a fetch that waits looks so often."""
BODIES = 16
"""So many bodies of up to 1 MiB come in one answer."""


class RedisBroker:
    """
    The queues behind one ``redis:`` or ``rediss:`` URL.

    ``now`` gives epoch seconds for submission and rejection times; leases and delays go by the server's clock.
    ``box_id`` is shown beside this box's claims, empty for a client.

    Raises:
        ConfigurationError: the URL or the ``ca_file`` cannot be used.
    """

    def __init__(self, credential: Credential, *, box_id: str, now: Callable[[], float]) -> None:
        self._redis = RedisClient(credential.url, credential.secrets, credential.options)
        self._names = QueueNames(self._redis)
        self._script = queue_script()
        self._lease_s = float(credential.lease)
        self._box_id = box_id
        self._now = now

    async def queues(self) -> tuple[str, ...]:
        return await self._names.list()

    async def open(self, name: str, *, make: bool = True) -> RedisQueue:
        """
        Open a queue, made where it is not there.

        Raises:
            NoSuchQueue: it is not there and is not to be made.
            ConfigurationError: the user or password is wrong, or the user may not do something that a queue needs.
            Unavailable: the server does not answer.
        """
        script = QueueScript(self._redis, self._script, name)
        if not make and not await script.is_there():
            raise NoSuchQueue(f"there is no queue {name} at {self._redis.place.url}")
        kept: bytes = await script.run("open", secrets.token_hex(16))
        await self._names.add(name)
        warning = await server_warning(self._redis)
        queue = RedisQueue(name, script, box_id=self._box_id, now=self._now, lease_s=self._lease_s)
        queue.identity, queue.warning = kept.decode(), warning
        return queue

    async def change(self, credential: Credential) -> None:
        await self._redis.change(credential.secrets)

    async def close(self) -> None:
        await self._redis.close()


class RedisQueue:
    """One open queue; its connections are its broker's."""

    by_user = True
    release_costs = ends_claims = False
    identity = ""
    warning = ""

    def __init__(
        self, name: str, script: QueueScript, *, box_id: str, now: Callable[[], float], lease_s: float
    ) -> None:
        self.name = name
        self.lease_s = lease_s
        self._script = script
        self._now = now
        # Tells claims of this life from others: a lapsed one of its own is left alone a lease more.
        self._process = secrets.token_hex(8)
        self._claimant = f".{self._lease_ms}.{self._process}.{box_id or 'client'}"
        # The claim that a fetch asked for and has no answer about: the next one is given the same message.
        self._asked = ""
        # Ends the pause of a waiting fetch.
        self._pausing: asyncio.Timeout | None = None
        self._closed = False

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        while not self._closed:
            found = await self._take(served)
            if isinstance(found, Delivery):
                return found
            left_s = ends_at - clock()
            if left_s <= 0:
                return None
            await self._pause(min(left_s, found.look_s, LOOK_S), found)
        return None

    async def renew(self, token: str) -> None:
        nonce, ref = read_token(token, self.name)
        if not await self._script.run("renew", ref, nonce, nonce + self._claimant, self._lease_ms):
            raise lost(token, self.name)

    def recall(self, token: str, body: bytes, note: Note) -> None:
        """What was claimed lies in Redis."""

    async def settle(self, token: str, verdict: Verdict, *, after_s: float, note: Note, reason: str) -> None:
        nonce, ref = read_token(token, self.name)
        after_ms = round(1000 * max(0.0, min(after_s, DELAY_MAX_S)))
        details = (msgspec.json.encode(note), encode_text(reason), self._at())
        if not await self._script.run("settle", ref, nonce, verdict.value, after_ms, *details):
            raise lost(token, self.name)

    async def put(self, body: bytes, *, job_id: str, user: str = "", priority: int = 0, submission: str = "") -> str:
        submission = submission or secrets.token_hex(12)
        names = (submission, encode_text(job_id), encode_text(user), clamp_priority(priority))
        await self._script.run("put", body[: MESSAGE_MAX_BYTES + 1], *names, self._at())
        return submission

    async def withdraw(self, job_id: str) -> tuple[Delivery, ...]:
        if not job_id:
            return ()
        nonce = secrets.token_hex(6)
        claim = (self._claimant, nonce, self._lease_ms, self._process)
        rows = await self._script.run("withdraw", encode_text(job_id), *claim, self._at())
        return tuple(read_delivery(row) for row in rows)

    async def depth(self) -> int:
        return int(await self._script.run("depth"))

    async def peek(self, limit: int) -> tuple[QueuedMessage, ...] | None:
        seen = await self._script.run("look", limit, self._at())
        found: list[QueuedMessage] = []
        for first in range(0, len(seen), BODIES):
            portion = seen[first : first + BODIES]
            rows = await self._script.run("read", *[ref for ref, _, _ in portion])
            stands = zip(rows, portion, strict=True)
            found += [read_queued(fields, state, ends_ms) for fields, (_, state, ends_ms) in stands if fields]
        return tuple(found)

    async def dead(self) -> tuple[DeadLetterRow, ...]:
        found: list[DeadLetterRow] = []
        after = b"0-0"
        while rows := await self._script.run("dead", after, BODIES):
            found += [read_dead(row) for row in rows]
            after = rows[-1][0]
        return tuple(found)

    async def retry_dead(self, submission: str) -> bool:
        return bool(await self._script.run("retry_dead", encode_text(submission), secrets.token_hex(12), self._at()))

    async def drop_dead(self, submission: str) -> bool:
        return bool(await self._script.run("drop_dead", encode_text(submission)))

    async def prune(self, before: float) -> int:
        pruned = 0
        while count := int(await self._script.run("prune", repr(before))):
            pruned += count
        return pruned

    async def close(self) -> None:
        """End a waiting fetch; what one claimed and never heard of waits again at once, where Redis can be asked."""
        if self._closed:
            return
        self._closed = True
        if self._pausing is not None:
            self._pausing.reschedule(asyncio.get_running_loop().time())
        if self._asked:
            with suppress(RunnerError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._script.run("give_back", self._asked)

    @property
    def _lease_ms(self) -> int:
        return round(self.lease_s * 1000)

    def _at(self) -> str:
        return repr(self._now())

    async def _take(self, served: Mapping[str, float]) -> Delivery | Nothing:
        """Claim what is next, or say how it stands."""
        self._asked = self._asked or secrets.token_hex(8)
        claim = (self._asked + self._claimant, self._asked, self._lease_ms, self._process)
        found = await self._script.run("fetch", *claim, self._at(), encode_served(served))
        self._asked = ""
        match found:
            case [look_ms, rung, added]:
                return Nothing(float(look_ms) / 1000, rung, added)
            case _:
                return read_delivery(found)

    async def _pause(self, wait_s: float, nothing: Nothing) -> None:
        try:
            async with asyncio.timeout(None) as self._pausing:
                await self._script.wait(wait_s, nothing.rung, nothing.added)
        except TimeoutError:
            return  # the queue is closed
        finally:
            self._pausing = None
