"""One queue: what it may fetch, from the claim to the confirmed settlement."""

from actors.poller.actor import Poller, PollerMessage

__all__ = ["Poller", "PollerMessage"]
