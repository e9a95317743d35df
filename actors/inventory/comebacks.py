"""
When messages come back that are released since their user has enough running. Pure; ``clock`` is the loop's.

One after the other: if all came back at once, a user with thousands of them would have each claimed and given back
every minute for as long as the cap holds, and few would meet the moment when it does not.
"""

from __future__ import annotations

from runner.records import ClaimedJob

EVERY_S = 0.25
MOST_S = 900.0
"""The longest that any service delays a message at once (SQS)."""


class Comebacks:
    """By queue and user; ``least_s`` is how long a message is away at least."""

    def __init__(self, least_s: float) -> None:
        """Begin with none away."""
        self._least_s = least_s
        # When the last message of each that is away comes back.
        self._last: dict[tuple[str, str], float] = {}

    def after_s(self, claim: ClaimedJob, clock: float) -> float:
        """Return for how long the next message is released."""
        self._last = {whose: at for whose, at in self._last.items() if at > clock}
        whose = claim.queue, claim.job.user
        after_s = max(self._least_s, min(MOST_S, self._last.get(whose, clock) + EVERY_S - clock))
        self._last[whose] = clock + after_s
        return after_s
