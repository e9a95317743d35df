"""What a person should know of a Redis that keeps queues."""

from __future__ import annotations

from adapters.redis_client import RedisClient
from runner.errors import ConfigurationError

FORGETS = "this Redis may forget messages when its memory is full: set maxmemory-policy noeviction"
KEEPS_NOTHING = "this Redis loses its last messages when it is killed: set appendonly yes"


async def server_warning(redis: RedisClient) -> str:
    """Look at how the server is configured; "" where all is well, or it does not tell this user."""
    try:
        facts = await redis.call("ask how it keeps queues", "INFO")
    except ConfigurationError:
        return ""
    if facts.get("maxmemory", 0) and facts.get("maxmemory_policy", "noeviction") != "noeviction":
        return FORGETS
    return "" if facts.get("aof_enabled", 1) else KEEPS_NOTHING
