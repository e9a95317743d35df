"""
The messages about everything but one job: credits, queues and their files, devices, quiet, questions from outside.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runner.credential import CredentialFile
from runner.job import Key
from runner.kernel import Reply
from runner.ports.queues import NOBODY
from runner.receipt import BoxBeat, GpuTable, SourceRow


class CreditReturned(msgspec.Struct, frozen=True):
    """
    poller ⇢ inventory: found nothing, or begins.
    A new poller introduces itself by returning the credit that it never had; ``gone`` says that it fetches no more.
    ``retry_after_s`` asks to be left alone for so long; ``shallow`` says that nothing is there to be staged ahead.
    """

    queue: str
    weight: float = 1.0
    retry_after_s: float = 0.0
    shallow: bool = False
    gone: bool = False


class GpusAsked(msgspec.Struct, frozen=True):
    """control ⇢ inventory: the table of ``runner gpus``, answered at once."""

    reply: Reply[GpuTable]


class StopCredits(msgspec.Struct, frozen=True):
    """app ⇢ inventory: the runner drains; give no more credit, and give back what was not placed yet. Idempotent."""


class ProbeReported(msgspec.Struct, frozen=True):
    """
    The probe's own task ⇢ inventory: what the devices look like now.

    ``known`` is false where the driver did not answer: nothing is handed out then, and nothing refused for want of it.
    ``withheld`` says why containers get none.
    """

    table: GpuTable
    known: bool = True
    withheld: str = ""


class PulseAsked(msgspec.Struct, frozen=True):
    """app ⇢ inventory, cache, executor, outputs: answered at once; else the service manager ends the runner."""

    reply: Reply[None]


class QuietChanged(msgspec.Struct, frozen=True):
    """inventory ⇢ cache, outputs: this job has the box for itself, or nobody. Latest wins."""

    alone: Key | None


class StopAnnounced(msgspec.Struct, frozen=True):
    """app ⇢ executor: what runs then (epoch s) is stopped; None: not any more. Answered once the jobs know."""

    at: float | None
    reply: Reply[None]


class CreditGiven(msgspec.Struct, frozen=True):
    """
    inventory ⇢ poller: may fetch one; ``ahead``: only where the queue is deeper than that one job. One a queue.
    ``served`` is how far each user of the queue is ahead of the one served least, in seconds of the box; who is not
    named is not ahead, and infinity stands for one who has as much running here as the queue allows. At most 10,000.
    """

    ahead: bool = False
    served: Mapping[str, float] = NOBODY


class SendBeat(msgspec.Struct, frozen=True):
    """inventory ⇢ poller: give this sign of life to those who watch the queue. Latest wins; one may be lost."""

    beat: BoxBeat


class CredentialChanged(msgspec.Struct, frozen=True):
    """sources ⇢ poller: new content behind the same name. Latest wins."""

    file: CredentialFile


class TakenOver(msgspec.Struct, frozen=True):
    """poller ⇢ poller: the queue that you finished is mine now, with all that you hold of it; close it. One."""


class WithdrawAsked(msgspec.Struct, frozen=True):
    """control ⇢ poller: end what waits under this job id and no box holds; answers what was done, "" if nothing."""

    job_id: str
    reply: Reply[str]


class StopFetching(msgspec.Struct, frozen=True):
    """
    sources, app ⇢ poller, sources: fetch no more; what runs is settled still. Idempotent.
    ``cancel`` ends what runs, too, as if its user had asked for it.
    """

    cancel: bool = False


class SourcesAsked(msgspec.Struct, frozen=True):
    """control ⇢ sources: the table of ``runner sources``."""

    reply: Reply[tuple[SourceRow, ...]]


class QueueStateTold(msgspec.Struct, frozen=True):
    """
    poller ⇢ sources: how its queue is (``polling``, ``backing off: reason``), and its depth where known. Latest wins.
    ``warning``: what a person should know of how the queue is served.
    """

    source: str
    queue: str
    state: str
    depth: int | None = None
    warning: str = ""


class QueueClosed(msgspec.Struct, frozen=True):
    """poller ⇢ sources: told to stop; all is settled and told to the end, or another poller of the queue has it now."""

    source: str
    queue: str
    taken_over: bool = False
