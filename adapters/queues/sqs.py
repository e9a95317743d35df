"""
Queues in Amazon SQS, and in whatever speaks its protocol.

``sqs://region/queue`` is one queue, made at its first use where that is allowed; ``sqs://region/`` stands for all
queues of the account in that region, ``sqs://region/train-*`` for those whose names begin so. Options: ``endpoint``
(another address of the service, such as a VPC endpoint), ``profile`` and ``ca_file``. Where the file names no
``access_key``, keys come from where AWS's own tools find them: environment, profile, web identity, instance role; they
are looked for anew where those that were found end or no longer count.

What a key must be allowed on its queues and on ``<queue>-dead*`` and ``<queue>-claimed-*`` beside them:

    sqs:GetQueueUrl sqs:GetQueueAttributes sqs:ReceiveMessage sqs:SendMessage sqs:DeleteMessage
    sqs:ChangeMessageVisibility

and beyond that, where it is wanted: ``sqs:CreateQueue`` (queues made at their first use, dead letters without a redrive
policy, claims that outlast twelve hours), ``sqs:ListQueues`` and ``sqs:ListDeadLetterSourceQueues`` (a URL without one
queue's name; claims of boxes that died).

Messages wait in no order, except in a FIFO queue; priorities and users count for nothing. A verdict whose answer was
lost is carried out again: then a message may be there twice, under one submission, and the second is known by it.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from adapters.queues.sqs_access import Access, Limits
from adapters.queues.sqs_places import Places
from adapters.queues.sqs_queue import SqsQueue
from adapters.queues.sqs_service import SqsService
from adapters.queues.sqs_token import awake_clock
from runner.credential import Credential
from runner.errors import ConfigurationError


class SqsBroker:
    """The queues behind one ``sqs:`` URL."""

    def __init__(
        self,
        credential: Credential,
        *,
        box_id: str,
        now: Callable[[], float],
        clock: Callable[[], float] = awake_clock,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
    ) -> None:
        region, self._name = _read_url(credential.url)
        self._single = bool(self._name) and not self._name.endswith("*")
        self._box_id, self._now, self._clock, self._limits = box_id, now, clock, limits
        self._lease_s = float(credential.lease)
        self._service = SqsService(credential, region)
        self._places = Places(self._service, self._name.removesuffix("*"))

    async def queues(self) -> tuple[str, ...]:
        """List the one that is named, or all that hold jobs."""
        return (self._name,) if self._single else await self._places.served()

    async def open(self, name: str, *, make: bool = True) -> SqsQueue:
        """
        Open a queue; made where it is missing and that is allowed.

        Raises:
            NoSuchQueue: it is not there and is not to be made.
            ConfigurationError: the keys are wrong, or it is missing and may not be made.
            Refused: something else is not allowed; the text names the permission.
        """
        place = await self._places.open(name, make=make)
        access = Access(
            service=self._service,
            places=self._places,
            place=place,
            box_id=self._box_id,
            now=self._now,
            clock=self._clock,
            lease_s=self._lease_s,
            limits=self._limits,
        )
        return SqsQueue(access)

    async def change(self, credential: Credential) -> None:
        await self._service.change(credential)

    async def close(self) -> None:
        await self._service.close()


def _read_url(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    name = unquote(parts.path.strip("/"))
    if parts.scheme != "sqs" or "/" in name:
        raise ConfigurationError(f"{url}: write sqs://region/queue, or sqs://region/ for all queues there")
    return parts.hostname or "", name
