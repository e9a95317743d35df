"""
Fair share between queues: whose turn it is, in seconds of the dominant share. Pure but for the clock it is handed.

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

    def settle(self, clock: float) -> None:
        """Charge what was held until now."""
        self.charged += self.holding * (clock - self.since) / max(self.weight, 1e-9)
        self.since = clock


class FairShare:
    """Accounts by queue. Times are the loop's clock."""

    def __init__(self) -> None:
        """Begin without queues."""
        self._accounts: dict[str, Account] = {}

    def join(self, queue: str, weight: float, clock: float) -> None:
        """Add a queue, or take over its new weight."""
        account = self._accounts.get(queue)
        if account is None:
            account = self._accounts[queue] = Account(weight, since=clock)
            self._level(account, clock)
        account.settle(clock)
        account.weight = weight

    def leave(self, queue: str) -> None:
        """Forget a queue; what its jobs hold goes on being counted nowhere."""
        self._accounts.pop(queue, None)

    def take(self, queue: str, share: float, clock: float) -> None:
        """Begin to charge a queue for a share of the box."""
        account = self._accounts.get(queue)
        if account is not None:
            account.settle(clock)
            if not account.holding:
                self._level(account, clock)
            account.holding += share

    def give_back(self, queue: str, share: float, clock: float) -> None:
        """Stop charging it."""
        account = self._accounts.get(queue)
        if account is not None:
            account.settle(clock)
            account.holding = max(0.0, account.holding - share)

    def order(self, clock: float) -> tuple[str, ...]:
        """Return all queues, the least charged first."""
        for account in self._accounts.values():
            account.settle(clock)
        return tuple(sorted(self._accounts, key=lambda queue: (self._accounts[queue].charged, queue)))

    def _level(self, account: Account, clock: float) -> None:
        busy = [other for other in self._accounts.values() if other.holding and other is not account]
        for other in busy:
            other.settle(clock)
        if busy:
            account.charged = max(account.charged, min(other.charged for other in busy))
