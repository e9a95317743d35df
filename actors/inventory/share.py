"""
Fair share: between queues by their weights, and between the users of one queue alike. Pure; the clock is the loop's.

What a queue or user has waiting elsewhere is not seen from here. A queue has work until a fetch finds nothing; a user
of it has until a fetch, told what each was served, brings the job of somebody who was served more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from actors.inventory.accounts import Accounts


class FairShare:
    """Accounts of queues, and of users by queue."""

    def __init__(self) -> None:
        """Begin without queues."""
        self._queues = Accounts()
        self._users: dict[str, Accounts] = {}

    def join(self, queue: str, weight: float, clock: float) -> None:
        """Add a queue, or take over its new weight."""
        self._queues.join(queue, weight, clock)

    def leave(self, queue: str, clock: float) -> None:
        """Take a queue for idle that is read no more."""
        self._queues.leave(queue, clock)
        self._of(queue).rest(self._of(queue).busy(), clock)
        self._forget(queue)

    def arrived(self, queue: str, user: str, clock: float) -> None:
        """Account for a job that came from a queue."""
        self._queues.arrive(queue, clock)
        self._users.setdefault(queue, Accounts()).arrive(user, clock)

    def emptied(self, queue: str, waiting: Collection[str], *, passed_over: Collection[str], clock: float) -> None:
        """
        Account for a fetch that found nothing.

        ``waiting`` are the users of whom jobs wait on this box, ``passed_over`` those whose messages were not wanted.
        """
        if not waiting:
            self._queues.rest((queue,), clock)
        users = self._of(queue)
        users.rest([user for user in users.busy() if user not in waiting and user not in passed_over], clock)

    def passed_over(
        self, queue: str, user: str, served: Mapping[str, float], *, waiting: Collection[str], clock: float
    ) -> None:
        """
        Account for a fetch that brought a job of ``user``: who was ``served`` less had nothing there.

        Not seen: who waits with a lower priority. Turns go round within one priority.
        """
        users, his = self._of(queue), served.get(user, 0.0)
        less = (name for name in users.busy() if name != user and served.get(name, 0.0) < his)
        users.rest([name for name in less if name not in waiting], clock)

    def take(self, queue: str, user: str, job: str, share: float, clock: float) -> None:
        """Begin to count a job that holds a share of the box."""
        self._queues.take(queue, job, share, clock)
        self._users.setdefault(queue, Accounts()).take(user, job, share, clock)

    def give_back(self, queue: str, user: str, job: str, clock: float) -> None:
        """Stop counting it."""
        self._queues.give_back(queue, job, clock)
        self._of(queue).give_back(user, job, clock)
        self._forget(queue)

    def turns(self, clock: float) -> dict[str, float]:
        """Return how far each queue is served: the least is next, and 0 where nothing is said."""
        return self._queues.turns(clock)

    def step(self, queue: str, share: float, clock: float) -> float:
        """Return by how much a queue's turn moves when it is given a share of the box."""
        return self._queues.step(queue, share, clock)

    def users(self, queue: str, clock: float, soon: Mapping[str, float] | None = None) -> dict[str, float]:
        """
        Return how far each user of a queue is served, those left out who are level.

        ``soon`` are the shares that users will hold once what waits here has begun.
        """
        return {user: turn for user, turn in self._of(queue).turns(clock, soon).items() if turn > 0}

    def behind(self, queue: str, user: str, clock: float) -> bool:
        """Tell whether a queue, or a user within it, is so far behind that room is kept for the next job."""
        return self._queues.behind(queue, clock) or self._of(queue).behind(user, clock)

    def _of(self, queue: str) -> Accounts:
        return self._users.get(queue) or Accounts()

    def _forget(self, queue: str) -> None:
        """Drop the users of a queue that is read no more, once nothing of it runs."""
        if not self._queues.joined(queue) and not self._of(queue).active():
            self._users.pop(queue, None)
