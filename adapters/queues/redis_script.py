"""The operations on one queue, as one script; see ``redis_lua/lanes.lua`` for what stands in which key."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from adapters.redis_client import RedisClient, Script, key_start

PARTS = ("lanes", "dead", "added", "claims", "settling", "looking", "opening")


def queue_script() -> Script:
    """Read the parts, in their order."""
    directory = files("adapters.queues") / "redis_lua"
    return Script("\n".join((directory / f"{part}.lua").read_text(encoding="utf-8") for part in PARTS))


class QueueScript:
    """Runs operations on one queue; each happens as a whole or not at all."""

    def __init__(self, redis: RedisClient, script: Script, queue: str) -> None:
        self._redis = redis
        self._script = script
        self._queue = queue
        self._start = key_start(redis.place.prefix, queue)

    async def run(self, operation: str, *arguments: Any) -> Any:
        """Run one; raises what :meth:`RedisClient.call` does."""
        doing = f"{operation.replace('_', ' ')} in queue {self._queue}"
        return await self._redis.run(doing, self._script, (self._start,), (operation, *arguments))

    async def is_there(self) -> bool:
        """Tell whether the queue was opened once, or a foreign producer added to it."""
        keys = f"{self._start}identity", self._start[:-1]
        return bool(await self._redis.call(f"look for queue {self._queue}", "EXISTS", *keys))

    async def wait(self, wait_s: float, rung: bytes, added: bytes) -> None:
        """Wait until something arrives that was not there when a fetch said how far the streams were."""
        arguments = ("COUNT", 1, "BLOCK", max(1, round(wait_s * 1000)), "STREAMS")
        keys = (f"{self._start}bell", self._start[:-1], rung, added)
        await self._redis.wait(f"wait in queue {self._queue}", "XREAD", *arguments, *keys, wait_s=wait_s)
