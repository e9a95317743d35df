"""What a job needs before it starts: its inputs, its image, its workspace, filled once and pinned while in use."""

from actors.cache.actor import Cache, CacheMessage

__all__ = ["Cache", "CacheMessage"]
