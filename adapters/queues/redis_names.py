"""
Which queues a Redis has: those that were opened once, and the streams that foreign producers made.

Never looks at all keys in one call: those are gone through in portions, further at each call.
"""

from __future__ import annotations

from urllib.parse import unquote

from adapters.redis_client import RedisClient, key_start
from runner.errors import ConfigurationError, OutOfSpace

STEPS = 10
KEYS_A_STEP = 1000


class QueueNames:
    """The names behind one credential. A queue in its URL is the only one."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        place = redis.place
        self._only, self._prefix = place.queue, place.prefix
        # Where the next portion of keys begins.
        self._cursor = 0

    async def list(self) -> tuple[str, ...]:
        """List them, sorted; a stream in a large database may be found only some calls later."""
        if self._only:
            return (self._only,)
        known = {self._name(name) for name in await self._registered()}
        found = await self._made_elsewhere() - known
        for name in found:
            await self.add(name)
        return tuple(sorted(known | found))

    async def add(self, name: str) -> None:
        """Let a queue be listed from now on; a user who may only use the one queue lists that one anyway."""
        try:
            await self._redis.call("list queue", "SADD", self._registry, self._quoted(name))
        except ConfigurationError:
            if not self._only:
                raise
        except OutOfSpace:
            return  # it is listed when it is opened again; what it holds can be settled now

    @property
    def _registry(self) -> str:
        return f"{self._prefix}:queues"

    def _quoted(self, name: str) -> str:
        return key_start(self._prefix, name)[len(self._prefix) + 2 : -2]

    async def _registered(self) -> set[bytes]:
        members: list[bytes] = await self._redis.call("list queues", "SMEMBERS", self._registry)
        return set(members)

    async def _made_elsewhere(self) -> set[str]:
        found: set[str] = set()
        try:
            for _ in range(STEPS):
                found |= await self._next_portion()
                if self._cursor == 0:
                    break
        except ConfigurationError:
            return found  # a user who may not look through the keys is shown what was opened once
        return found

    async def _next_portion(self) -> set[str]:
        pattern = "".join(f"\\{sign}" if sign in "*?[]\\^" else sign for sign in self._prefix)
        arguments = ("MATCH", f"{{{pattern}:*}}", "COUNT", KEYS_A_STEP, "TYPE", "stream")
        self._cursor, keys = await self._redis.call("look for queues", "SCAN", self._cursor, *arguments)
        names = {key: self._name(key[len(self._prefix) + 2 : -1]) for key in keys}
        return {name for key, name in names.items() if key == self._stream(name)}

    def _name(self, quoted: bytes) -> str:
        return unquote(quoted.decode(errors="replace"), errors="surrogateescape")

    def _stream(self, name: str) -> bytes:
        """Return where foreign producers add; a key that only looks like it is none of ours."""
        return key_start(self._prefix, name)[:-1].encode()
