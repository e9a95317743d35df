"""
All that is done on one open queue: what comes from it, what is held of it, what goes back. Its poller says when.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.poller.claiming import Claiming
from actors.poller.intake import Intake
from actors.poller.leases import Held
from actors.poller.lookout import Lookout
from actors.poller.open_queue import OpenQueue
from actors.poller.settling import Settling
from runner.errors import RunnerError
from runner.job import Key, Verdict
from runner.kernel import Ref
from runner.leaving import WITHDRAWN
from runner.messages import CreditGiven, Ended, Offered, WithdrawAsked
from runner.quiet import Quiet

AHEAD_DEPTH = 2
"""One job is staged ahead only where another waits behind it, so that no idle box goes without."""


class Fetched(msgspec.Struct, frozen=True):
    """
    To its poller: a fetch ended; without an offer where ``found`` is false. ``shallow``: there was too little to stage
    one ahead.
    """

    found: bool
    retry_after_s: float = 0.0
    shallow: bool = False


class QueueWork:
    """
    The hands of one poller.

    ``stopping`` says that nothing new is wanted; ``settle`` is called with a job whose verdict stands;
    ``tell_state`` with how the queue is, and its depth.
    """

    def __init__(
        self,
        opened: OpenQueue,
        stages: tuple[Ref[object], ...],
        tell_state: Callable[[str, int | None], None],
        stopping: Callable[[], bool],
        settle: Callable[[Key], None],
        *,
        quiet: Quiet,
    ) -> None:
        """Begin with nothing held."""
        self.opened, self.queue, self.leases = opened, opened.queue, opened.leases
        self.lookout = Lookout(opened, stages, tell_state, quiet)
        self._settle_soon, self._inventory, self._outputs = settle, stages[0], stages[-1]
        self._settling, self._allowance = Settling(opened), opened.allowance
        self._claiming = Claiming(opened, self._settling, self.lookout, stopping=stopping, settle=settle)

    async def take_up(self) -> None:
        """
        Hold what the journal has of this queue from an earlier life; carry out the verdicts that stand.

        The claims are renewed first: a fetch would take up again what lapsed while no runner ran.
        """
        found = [it for it in await self.opened.trail.in_flight() if it.claimed.claim.queue == self.queue.identity]
        for entry in found:
            claim = entry.claimed.claim
            self.queue.recall(entry.claimed.token, entry.claimed.body, claim.note)
            self.leases.held[entry.key] = Held(entry.claimed.token, claim.id, claim.attempt)
        await self.leases.renew_all()
        for entry in found:
            if entry.stored is not None:
                self._settle_soon(entry.key)
            elif entry.placed is None and entry.exited is None:
                await self._send_on_again(entry.key)

    async def _send_on_again(self, key: Key) -> None:
        """Tell once more of a claim that this poller may have crashed over before it told of it."""
        entry = await self.opened.trail.entry(key)
        if entry is None or entry.stored is not None or entry.placed is not None or entry.exited is not None:
            return
        claim = entry.claimed.claim
        if claim.problem:
            await self._outputs.tell(Ended(claim, claim.ends_as, claim.problem))
        else:
            await self._inventory.tell(Offered(claim))

    async def fetch(self, intake: Intake, credit: CreditGiven) -> Fetched:
        """Wait for one delivery, claim it, and tell of it, where the runner may take one more."""
        if not self._allowance.begin_fetch(self.queue.identity):
            return Fetched(found=False, retry_after_s=self._allowance.rest_s)
        try:
            return await self._fetch(intake, credit)
        finally:
            self._allowance.end_fetch()

    async def _fetch(self, intake: Intake, credit: CreditGiven) -> Fetched:
        if credit.ahead and await self.opened.depth() < AHEAD_DEPTH:
            return Fetched(found=False, shallow=True)
        delivery = await self.opened.fetch(credit.served, brief=self._allowance.is_scarce)
        taken = await self._claiming.take(delivery, intake, ahead=credit.ahead) if delivery is not None else None
        if taken is not None:
            self._allowance.took(taken.claim)
        if isinstance(taken, Offered):
            await self._inventory.tell(taken)
        elif taken is not None:
            await self._outputs.tell(taken)
        return Fetched(found=isinstance(taken, Offered))

    async def withdraw(self, asked: WithdrawAsked, intake: Intake) -> None:
        """End what waits under an id, and answer: it leaves by outputs as every job does, with a receipt."""
        try:
            deliveries = await self.opened.withdraw(asked.job_id)
            for delivery in deliveries:
                if (ended := await self._claiming.take_to_end(delivery, intake)) is not None:
                    await self._outputs.tell(ended)
            asked.reply.answer(f"{asked.job_id} is {WITHDRAWN}" if deliveries else "")
        except RunnerError as error:
            asked.reply.fail(error)

    async def settle(self, key: Key) -> bool:
        """Carry out the verdict that stands in the journal; False where none stood, or it was carried out before."""
        settled = await self._settling.settle(key)
        if settled is None:
            return False
        claim, decision = settled.claimed.claim, settled.stored.decision if settled.stored is not None else None
        self.lookout.forget(claim.id)
        if decision is None or decision.verdict is Verdict.RELEASE:
            self._allowance.gave_back(claim)
        return True
