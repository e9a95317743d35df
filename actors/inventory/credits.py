"""
Credits: how much room each queue may still fetch for. Pure; ``clock`` is the loop's clock in seconds.

A queue has at most one. It is used up by an offer, or comes back.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.inventory.floor import Floor
from runner.config import Config
from runner.messages import CreditGiven, CreditReturned

SHALLOW_S = 1.0
COMING_S = 1.0
"""A fetch that brought nothing for so long waits for a message that is not there yet."""
ROUNDING = 1e-9


@dataclass
class Credit:
    """The one fetch that a queue may make."""

    # Given, and not yet used up or returned.
    given: bool = False
    given_at: float = 0.0
    # The last fetch found nothing: the next one is not counted on, either.
    idle: bool = True
    # Asked to be left alone until then.
    rests_until: float = 0.0
    # Had too few messages to stage one ahead; until then it is asked only for a job that can run.
    shallow_until: float = 0.0


class Credits:
    """Credits by queue."""

    def __init__(self, floor: Floor, config: Config) -> None:
        """Begin without queues."""
        self._floor, self._config = floor, config
        self._of: dict[str, Credit] = {}

    def returned(self, message: CreditReturned, clock: float) -> None:
        """Take back a credit, or meet a queue that begins; one that is gone gets no more."""
        if message.gone:
            self._of.pop(message.queue, None)
            self._floor.share.leave(message.queue)
            return
        self._floor.share.join(message.queue, message.weight, clock)
        shallow_until = clock + (SHALLOW_S if message.shallow else 0.0)
        self._of[message.queue] = Credit(rests_until=clock + message.retry_after_s, shallow_until=shallow_until)

    def used_up(self, queue: str) -> None:
        """Account for an offer."""
        credit = self._of.get(queue)
        if credit is not None:
            credit.given = credit.idle = False

    def rest(self, queue: str, until: float) -> None:
        """Leave a queue alone, so that what it got back goes to another box."""
        credit = self._of.get(queue)
        if credit is not None:
            credit.rests_until = until

    def give(self, queue: str, free_cpus: float, clock: float) -> CreditGiven | None:
        """Return the credit that a queue is due now, given from here on; None where it is due none."""
        credit = self._of.get(queue)
        if credit is None or credit.given or credit.rests_until > clock:
            return None
        room = self._has_room(queue, free_cpus, clock)
        if not room and (credit.shallow_until > clock or not self._stages_ahead(clock)):
            return None
        credit.given, credit.given_at = True, clock
        return CreditGiven(ahead=not room)

    def _has_room(self, queue: str, free_cpus: float, clock: float) -> bool:
        """
        Tell whether a job more of this queue may run or wait here.

        Credits that busy queues hold count as jobs to come, so that the next room goes to the queue whose turn it is.
        """
        waiting, coming, most = self._floor.waiting(), self._coming(clock), self._config.max_jobs
        under_most = not most or len(self._floor.running()) + len(waiting) + coming < most
        of_queue = sum(1 for job in waiting if job.claim.queue == queue)
        return free_cpus - coming > ROUNDING and under_most and of_queue < self._config.max_waiting

    def _stages_ahead(self, clock: float) -> bool:
        return bool(self._config.ahead) and not self._floor.waiting() and not self._coming(clock)

    def _coming(self, clock: float) -> int:
        busy = (credit for credit in self._of.values() if credit.given and not credit.idle)
        return sum(1 for credit in busy if clock - credit.given_at < COMING_S)
