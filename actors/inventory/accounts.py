"""
What members of a group (the queues of a box, the users of a queue) were served, and whose turn it is. Pure.

Served is what jobs hold of the box (GPUs where they hold any, else cores), by the second, over the member's weight.
How long a job will run is not known, so what a member holds now counts for as long as the longest job seen: else one
that is behind by a second would be given the whole box at once. For members that always have work and jobs of one
size, served seconds so differ from the weighted share by at most one largest job for each member.

Who was idle starts level with the least served busy one, so that nobody saves up. Times are the loop's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ACCOUNTS_MAX = 10_000
SHORTEST_S = 1.0
"""What is held counts for at least so long, before any job's length is known."""


@dataclass
class Account:
    """One member."""

    weight: float = 1.0
    # Seconds of the whole box, over the weight, until ``since``.
    served: float = 0.0
    since: float = 0.0
    # Whether it has work that waits, here or in its queue, as far as is known.
    busy: bool = False
    # Its running jobs: the share that each holds, and since when.
    running: dict[str, tuple[float, float]] = field(default_factory=dict)
    # The largest job that ended, in seconds of the whole box, and the longest one, in seconds.
    largest: float = 0.0
    longest_s: float = 0.0

    @property
    def holding(self) -> float:
        """The share of the box that it holds now."""
        return sum(share for share, _ in self.running.values())

    def settle(self, clock: float) -> None:
        """Count what was held until now."""
        self.served += self.holding * (clock - self.since) / self.weight
        self.since = clock

    def measure(self, job: str, clock: float) -> None:
        """Remember how large a job is by now."""
        share, since = self.running[job]
        self.longest_s = max(self.longest_s, clock - since)
        self.largest = max(self.largest, share * (clock - since))


class Accounts:
    """The accounts of one group, by name."""

    def __init__(self) -> None:
        """Begin without members."""
        self._of: dict[str, Account] = {}
        # Where it is not 1, and of all that joined.
        self._weights: dict[str, float] = {}
        # What the least served busy member was served; kept while nobody is busy.
        self._level = 0.0

    def join(self, name: str, weight: float, clock: float) -> None:
        """Add a member, or take over its new weight: by how much it is ahead counts with that from now on."""
        self._weights[name] = max(weight, 1e-9)
        account = self._account(name, clock)
        self._settle(clock)
        ahead = (account.served - self._level) * account.weight
        account.weight = self._weights[name]
        account.served = self._level + ahead / account.weight

    def leave(self, name: str, clock: float) -> None:
        """Take a member for idle; it is forgotten once it runs nothing and is not ahead of the others."""
        self._weights.pop(name, None)
        self.rest((name,), clock)
        self._forget()

    def joined(self, name: str) -> bool:
        """Tell whether a member was added and did not leave."""
        return name in self._weights

    def active(self) -> bool:
        """Tell whether anybody has work that waits or runs."""
        return any(account.busy or account.running for account in self._of.values())

    def arrive(self, name: str, clock: float) -> None:
        """Note that a member has work."""
        account = self._account(name, clock)
        if not account.busy:
            self._settle(clock)
            account.served = max(account.served, self._level)
            account.busy = True

    def rest(self, names: Iterable[str], clock: float) -> None:
        """Note that members have no work left that waits."""
        self._settle(clock)
        for name in names:
            if name in self._of:
                self._of[name].busy = False
        self._settle(clock)
        if not any(account.busy for account in self._of.values()):
            self._forget_lengths()

    def busy(self) -> tuple[str, ...]:
        """Return who has work."""
        return tuple(name for name, account in self._of.items() if account.busy)

    def take(self, name: str, job: str, share: float, clock: float) -> None:
        """Begin to count a job that holds a share of the box."""
        account = self._account(name, clock)
        account.settle(clock)
        account.running[job] = (share, clock)

    def give_back(self, name: str, job: str, clock: float) -> None:
        """Stop counting it."""
        account = self._of.get(name)
        if account is None or job not in account.running:
            return
        self._settle(clock)
        account.measure(job, clock)
        del account.running[job]

    def turns(self, clock: float, more: Mapping[str, float] | None = None) -> dict[str, float]:
        """
        Return how far each member is served, over the level, at least 0: the least is next.

        ``more`` are shares that members will hold soon.
        """
        self._settle(clock)
        longest_s = self._longest_s(clock)
        soon = more or {}
        return {name: self._turn(it, soon.get(name, 0.0), longest_s) for name, it in self._of.items()}

    def step(self, name: str, share: float, clock: float) -> float:
        """Return by how much a member's turn moves when it is given a share more."""
        account = self._of.get(name)
        return share * self._longest_s(clock) / (account.weight if account else 1.0)

    def behind(self, name: str, clock: float) -> bool:
        """
        Tell whether a busy member is behind its weighted share by half of what it may be.

        Then what its next job needs is no longer given to smaller ones of others.
        """
        self._settle(clock)
        busy = [account for account in self._of.values() if account.busy]
        account = self._of.get(name)
        if account is None or not account.busy or len(busy) < 2:  # noqa: PLR2004 - nobody to be behind of
            return False
        for other in busy:
            for job in other.running:
                other.measure(job, clock)
        mean = sum(it.weight * it.served for it in busy) / sum(it.weight for it in busy)
        return account.weight * (mean - account.served) > sum(it.largest for it in busy) / 2

    def _turn(self, account: Account, soon: float, longest_s: float) -> float:
        held = account.holding + soon if account.running else soon
        return max(0.0, account.served - self._level) + held * longest_s / account.weight

    def _account(self, name: str, clock: float) -> Account:
        account = self._of.get(name)
        if account is None:
            self._settle(clock)
            self._forget()
            account = self._of[name] = Account(self._weights.get(name, 1.0), self._level, clock)
        return account

    def _settle(self, clock: float) -> None:
        for account in self._of.values():
            if account.running:
                account.settle(clock)
        self._level = max(self._level, min((it.served for it in self._of.values() if it.busy), default=self._level))

    def _longest_s(self, clock: float) -> float:
        ended = (account.longest_s for account in self._of.values())
        running = (clock - since for account in self._of.values() for _, since in account.running.values())
        return max(SHORTEST_S, max(ended, default=0.0), max(running, default=0.0))

    def _forget(self) -> None:
        """Drop who would begin anew at the same level; beyond a bound also those that are least ahead of it."""
        idle = {name: it for name, it in self._of.items() if not it.busy and not it.running}
        for name, account in idle.items():
            if account.served <= self._level:
                del self._of[name]
        if len(self._of) >= ACCOUNTS_MAX:
            ahead = sorted((name for name in idle if name in self._of), key=lambda name: self._of[name].served)
            for name in ahead[: len(self._of) - ACCOUNTS_MAX + 1]:
                del self._of[name]

    def _forget_lengths(self) -> None:
        """Let the next rush begin without the memory of one job that took days."""
        for account in self._of.values():
            account.largest = account.longest_s = 0.0
