"""
Fair share between queues: who may fetch next, in seconds of the dominant share. Pure but for the clock it is handed.

Each queue is charged what its jobs hold of the box (GPUs where they hold any, else cores), by the second, over its
weight; the least charged queue goes first. One that was idle starts level with the least charged busy one, so that
nobody saves up.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Account:
    """One queue: its weight, what it was charged, the share it holds now and since when."""

    weight: float = 1.0
    charged: float = 0.0
    holding: float = 0.0
    since: float = 0.0
    # The one fetch that the queue may make: given, and not yet used up or returned.
    credit: bool = False
    # The last fetch found nothing: a credit that stands here may stand for long, and is not counted on.
    idle: bool = True
    # Asked to be left alone until then, in loop seconds.
    rests_until: float = 0.0
    # Had too few messages to stage one ahead; until then it is asked only for a job that can run.
    shallow_until: float = 0.0

    def settle(self, clock: float) -> None:
        """Charge what was held until now."""
        self.charged += self.holding * (clock - self.since) / max(self.weight, 1e-9)
        self.since = clock


class FairShare:
    """Accounts by queue. Times are the loop's clock."""

    def __init__(self) -> None:
        """Begin without queues."""
        self.accounts: dict[str, Account] = {}

    def join(self, queue: str, weight: float, clock: float) -> Account:
        """Add a queue, or take over its new weight."""
        account = self.accounts.get(queue)
        if account is None:
            account = self.accounts[queue] = Account(weight, since=clock)
            self._level(account, clock)
        account.settle(clock)
        account.weight = weight
        return account

    def leave(self, queue: str) -> None:
        """Give a queue no more credit; what its jobs hold goes on being counted nowhere."""
        self.accounts.pop(queue, None)

    def take(self, queue: str, share: float, clock: float) -> None:
        """Begin to charge a queue for a share of the box."""
        account = self.accounts.get(queue)
        if account is not None:
            account.settle(clock)
            if not account.holding:
                self._level(account, clock)
            account.holding += share

    def give_back(self, queue: str, share: float, clock: float) -> None:
        """Stop charging it."""
        account = self.accounts.get(queue)
        if account is not None:
            account.settle(clock)
            account.holding = max(0.0, account.holding - share)

    def order(self, clock: float) -> tuple[str, ...]:
        """Return all queues, the least charged first."""
        for account in self.accounts.values():
            account.settle(clock)
        return tuple(sorted(self.accounts, key=lambda queue: (self.accounts[queue].charged, queue)))

    def _level(self, account: Account, clock: float) -> None:
        busy = [other for other in self.accounts.values() if other.holding and other is not account]
        for other in busy:
            other.settle(clock)
        if busy:
            account.charged = max(account.charged, min(other.charged for other in busy))
