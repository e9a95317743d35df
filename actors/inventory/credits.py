"""
Credits: how much room each queue may still fetch for, and who is told. ``clock`` is the loop's clock in seconds.

A queue has at most one. It is used up by an offer, or comes back.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from actors.inventory.floor import Due, Floor
from actors.inventory.standing import Standing
from runner.config import Config
from runner.directory import Directory
from runner.messages import CreditGiven, CreditReturned
from runner.placement import Room
from runner.records import ClaimedJob

SHALLOW_S = 1.0
COMING_S = 1.0
"""A fetch that brought nothing for so long waits for a message that is not there yet."""
ROUNDING = 1e-9
ASIDE_MAX = 64
"""So many jobs of one queue may wait here for their users' caps, where they cannot be given back."""


@dataclass
class Credit:
    """The one fetch that a queue may make."""

    # Given, and not yet used up or returned.
    given: bool = False
    given_at: float = 0.0
    # What it said of the users.
    served: Mapping[str, float] = field(default_factory=dict)
    # The last fetch found nothing, or this one has not for a while: no job of it is counted on.
    idle: bool = True
    # Asked to be left alone until then.
    rests_until: float = 0.0
    # Had too few messages to stage one ahead; until then it is asked only for a job that can run.
    shallow_until: float = 0.0


class Credits:
    """Credits by queue."""

    def __init__(self, floor: Floor, config: Config, directory: Directory) -> None:
        """Begin without queues; ``directory`` says who fetches from each."""
        self._floor, self._config, self._directory = floor, config, directory
        self._of: dict[str, Credit] = {}

    def returned(self, message: CreditReturned, clock: float) -> None:
        """Take back a credit, or meet a queue that begins; one that is gone gets no more."""
        if message.gone:
            self._of.pop(message.queue, None)
            self._floor.share.leave(message.queue, clock)
            return
        before = self._of.get(message.queue)
        self._floor.share.join(message.queue, message.weight, clock)
        if before is not None and not message.shallow:
            self._found_nothing(message.queue, before, clock)
        shallow_until = clock + (SHALLOW_S if message.shallow else 0.0)
        # One that was given back meanwhile asked for a rest, too; who begins anew may fetch at once.
        rests_until = before.rests_until if before is not None and before.given else 0.0
        rests_until = max(rests_until, clock + message.retry_after_s)
        self._of[message.queue] = Credit(rests_until=rests_until, shallow_until=shallow_until)

    def used_up(self, claim: ClaimedJob, clock: float) -> None:
        """Account for an offer; of a queue that is read no more nobody would hear that it has no work left."""
        credit, share = self._of.get(claim.queue), self._floor.share
        if credit is None:
            return
        waiting = self._floor.waiting_users(claim.queue)
        share.passed_over(claim.queue, claim.user, credit.served, waiting=waiting, clock=clock)
        credit.given = credit.idle = False
        share.arrived(claim.queue, claim.user, clock)

    def look(self, clock: float) -> None:
        """Take the queues for idle whose fetch has been waiting for a while."""
        for queue, credit in self._of.items():
            if credit.given and not credit.idle and clock - credit.given_at >= COMING_S:
                self._found_nothing(queue, credit, clock)

    def _found_nothing(self, queue: str, credit: Credit, clock: float) -> None:
        credit.idle = True
        full = {user for user, served in credit.served.items() if served == math.inf}
        here = self._floor.waiting_users(queue)
        self._floor.share.emptied(queue, here, passed_over=full, clock=clock)

    def rest(self, queue: str, until: float) -> None:
        """Leave a queue alone, so that what it got back goes to another box."""
        credit = self._of.get(queue)
        if credit is not None:
            credit.rests_until = until

    def in_turn(self, free: Room, total: Room, clock: float) -> Iterator[tuple[str, list[Standing], Due]]:
        """
        Go through the queues, the one served least first: its waiting jobs, and those of the queues before it.

        While a job is being fetched a queue counts as if that had begun; where the next is its turn again, that counts,
        too: the queues behind leave room for all of them.
        """
        share = self._floor.share
        turns, waiting, before = share.turns(clock), self._floor.waiting_in_turn(clock), Due()
        line = [(turns.get(queue, 0.0), queue) for queue in {*self._of, *waiting}]
        heapq.heapify(line)
        seen: set[str] = set()
        while line:
            turn, queue = heapq.heappop(line)
            if queue not in seen:
                seen.add(queue)
                of_queue = waiting.get(queue, [])
                yield queue, of_queue, before
                before = Due(before.waiting + len(of_queue) - self._floor.aside(queue), before.coming)
            if before.coming < free.cpus and self._coming(queue, clock):
                before = Due(before.waiting, before.coming + 1)
                heapq.heappush(line, (turn + share.step(queue, 1 / total.cpus, clock), queue))

    def send(self, queue: str, before: Due, free: Room, total: Room, *, clock: float) -> None:
        """Give a queue the credit that it is due now, if any; ``before`` are the jobs of those whose turn is first."""
        entry = self._directory.find(queue)
        if entry is not None and (credit := self._give(queue, before, free, total, clock)):
            entry.poller.urgent(credit)

    def _give(self, queue: str, before: Due, free: Room, total: Room, clock: float) -> CreditGiven | None:
        credit = self._of.get(queue)
        if credit is None or credit.given or credit.rests_until > clock:
            return None
        room = self._has_room(queue, free, before)
        if not room and (credit.shallow_until > clock or not self._stages_ahead(clock)):
            return None
        credit.given, credit.given_at = True, clock
        credit.served = self._floor.served(queue, total, clock)
        return CreditGiven(ahead=not room, served=credit.served)

    def _coming(self, queue: str, clock: float) -> bool:
        """Tell whether a job of this queue is counted on: it is busy, and is fetching."""
        credit = self._of.get(queue)
        return credit is not None and credit.given and not credit.idle and clock - credit.given_at < COMING_S

    def _has_room(self, queue: str, free: Room, before: Due) -> bool:
        """Tell whether a job more of this queue may run or wait here."""
        aside = self._floor.aside(queue)
        of_queue, most = len(self._floor.of_queue(queue)) - aside, self._config.max_jobs
        under_most = not most or len(self._floor.running()) + before.waiting + of_queue + before.coming < most
        may_wait = of_queue < self._config.max_waiting and aside < ASIDE_MAX
        return free.cpus - before.coming > ROUNDING and under_most and may_wait

    def _stages_ahead(self, clock: float) -> bool:
        coming = any(self._coming(queue, clock) for queue in self._of)
        return bool(self._config.ahead) and not self._floor.waiting() and not coming
