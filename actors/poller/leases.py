"""
The claims of one queue that are ours, from the fetch to the confirmed settlement, and their renewal.

A lease that is lost is told once; a broker that is away is asked again and again while jobs run on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from runner.calls import Caller, Patience
from runner.errors import LeaseLost, RunnerError
from runner.job import Key
from runner.ports import Queue

FRESH_S = 1.0


class Held(msgspec.Struct, frozen=True):
    """A claim of ours: its current token, the job's id, and its attempt."""

    token: str
    job_id: str
    attempt: int


class Leases:
    """
    ``lost`` is called with a claim that another box may have, or that a newer delivery replaced; ``trouble`` with why a
    renewal did not go through. ``ends_unrenewed`` tells whether a claim that could not be renewed for a whole lease
    counts as lost, though nobody said so: of a queue whose jobs must never run twice at once.
    """

    def __init__(
        self,
        queue: Queue,
        caller: Caller,
        *,
        lost: Callable[[Key, Held], None],
        trouble: Callable[[str], None],
        ends_unrenewed: Callable[[], bool],
    ) -> None:
        """Begin without claims."""
        self._queue, self._caller, self._lost, self._trouble = queue, caller, lost, trouble
        self._ends_unrenewed = ends_unrenewed
        self.held: dict[Key, Held] = {}
        # Jobs whose claim was lost and which are being ended for it: nothing brings such an attempt back.
        self._given_up: set[Key] = set()
        # When each token was claimed or renewed last, in loop seconds.
        self._renewed_at: dict[str, float] = {}

    def hold(self, key: Key, held: Held, *, age_s: float) -> None:
        """Take in a claim that the broker gave so many seconds ago."""
        self.held[key] = held
        self._given_up.discard(key)
        self._renewed_at[held.token] = asyncio.get_running_loop().time() - age_s

    def take_back(self, key: Key, held: Held) -> bool:
        """Go on under a newer delivery of a claimed message; False where the attempt is being ended for its loss."""
        if key in self._given_up:
            return False
        self.held[key] = held
        return True

    def give_up(self, key: Key, held: Held | None) -> bool:
        """Count a claim as lost for good; False where a newer delivery of the same message came meanwhile."""
        if self.held.get(key) != held:
            return False
        self._given_up.add(key)
        return True

    def forget(self, key: Key) -> None:
        """Let go of a claim that is settled, or lost and done with."""
        self.held.pop(key, None)
        self._given_up.discard(key)

    async def renew_regularly(self) -> None:
        """Renew every third of the lease, first a third from now; end what could not be renewed, where that is said."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_every_third())
            group.create_task(self._end_unrenewed())

    async def _end_unrenewed(self) -> None:
        """Look at each claim when its lease is over by the clock of this box, at least every third of a lease."""
        clock = asyncio.get_running_loop().time
        while True:
            began = {key: self._renewed_at.setdefault(held.token, clock()) for key, held in self.held.items()}
            tokens = {held.token for held in self.held.values()}
            self._renewed_at = {token: at for token, at in self._renewed_at.items() if token in tokens}
            for key, at in began.items():
                if at + self._queue.lease_s <= clock() and self._ends_unrenewed():
                    self._lost(key, self.held[key])
            ends = (at + self._queue.lease_s - clock() for at in began.values())
            third = self._queue.lease_s / 3
            await asyncio.sleep(min((left for left in ends if left > 0), default=third))

    async def _renew_every_third(self) -> None:
        clock = asyncio.get_running_loop().time
        next_at = clock()
        while True:
            next_at = max(next_at + self._queue.lease_s / 3, clock())
            await asyncio.sleep(next_at - clock())
            await self.renew_all()

    async def renew_all(self) -> None:
        """Renew every claim at once; takes at most a third of the lease."""
        async with asyncio.TaskGroup() as group:
            for key, held in tuple(self.held.items()):
                group.create_task(self._renew(key, held))

    async def _renew(self, key: Key, held: Held) -> None:
        third = self._queue.lease_s / 3
        patience = Patience(try_s=min(third / 2, self._caller.patience.try_s), all_s=third)
        try:
            await self._caller.until_done(lambda: self._queue.renew(held.token), f"renewal of {key}", patience)
            self._renewed_at[held.token] = asyncio.get_running_loop().time()
        except LeaseLost:
            self._lost(key, held)
        except RunnerError as error:
            self._trouble(str(error))

    async def is_held(self, key: Key) -> bool:
        """
        Renew one claim, however long the broker is away, and tell whether it is still ours.

        One that was claimed or renewed within a second is not renewed again: a lease is many times as long.

        Raises:
            RunnerError: the service refuses to say.
        """
        held = self.held.get(key)
        if held is None:
            return not self.give_up(key, None)
        if self._is_fresh(held.token):
            return True
        try:
            await self._caller.until_done(lambda: self._queue.renew(held.token), f"renewal of {key}")
        except LeaseLost:
            return not self.give_up(key, held)
        self._renewed_at[held.token] = asyncio.get_running_loop().time()
        return True

    def _is_fresh(self, token: str) -> bool:
        since = asyncio.get_running_loop().time() - min(FRESH_S, self._queue.lease_s / 10)
        return self._renewed_at.get(token, since) > since

    async def age_s(self, token: str, claimed_s: float) -> float | None:
        """
        Return how old a claim is that is not held yet, None where it is lost.

        One that grew old while it was looked at, in ``claimed_s`` seconds, is renewed.
        """
        if claimed_s < self._queue.lease_s / 3:
            return claimed_s
        try:
            await self._caller.once(lambda: self._queue.renew(token), "renewal of a new claim")
        except LeaseLost:
            return None
        return 0.0

    def other_with_id(self, job_id: str, key: Key) -> bool:
        """Tell whether another submission of the same id is held."""
        return any(held.job_id == job_id and other != key for other, held in self.held.items())
