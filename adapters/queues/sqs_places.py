"""
The queues of one account by name: which there are, what each is, and the helpers that stand beside it.

| name | what it is |
| --- | --- |
| ``<queue>-dead``, ``<queue>-dead.fifo`` | its dead letters, where it has no redrive policy that names another |
| ``<queue>-claimed-<box>`` | claims of one box that would outlast the service's twelve hours |
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from adapters.queues.sqs_errors import QueueMissing
from adapters.queues.sqs_service import SqsService
from runner.errors import ConfigurationError, NoSuchQueue, Refused

RETENTION_S = 14 * 86_400
"""The longest that SQS keeps a message."""
NAME_MAX = 80
_TAG = 12
_PAGE = 1000
_HELPER = re.compile(r".*(-dead|-dead\.fifo|-claimed-[0-9a-f]{12})")
_CLAIMED = re.compile(r".*-claimed-[0-9a-f]{12}")
_ASKED_AT_ONCE = 16
_ASKING_S = 8.0
_TARGETS_S = 600.0


@dataclass(frozen=True)
class Place:
    """One queue as it is set up: the largest message, seconds that it keeps one, the redrive target's name if any."""

    name: str
    url: str
    arn: str
    fifo: bool
    limit_bytes: int
    retention_s: int
    redrive: str = ""


def dead_name(queue: str) -> str:
    """Return the name of a queue's own dead letters."""
    stem, fifo = (queue[:-5], ".fifo") if queue.endswith(".fifo") else (queue, "")
    return _fitting(stem, f"-dead{fifo}")


def claim_prefix(queue: str) -> str:
    """Return what the names of a queue's claim queues begin with."""
    return _fitting(queue.removesuffix(".fifo") + ("_fifo" if queue.endswith(".fifo") else ""), "-claimed-", spare=_TAG)


def claim_name(queue: str, box_id: str) -> str:
    """Return the name of the claim queue of one box; always 12 hexadecimal digits at its end."""
    plain = box_id.replace("-", "")[:_TAG]
    readable = re.fullmatch(r"[0-9a-f]{12}", plain) is not None
    return claim_prefix(queue) + (plain if readable else hashlib.sha256(box_id.encode()).hexdigest()[:_TAG])


def _fitting(stem: str, ending: str, *, spare: int = 0) -> str:
    room = NAME_MAX - len(ending) - spare
    if len(stem) <= room:
        return stem + ending
    return f"{stem[: room - 9]}-{hashlib.sha256(stem.encode()).hexdigest()[:8]}{ending}"


class Places:
    """Finds and makes queues."""

    def __init__(self, service: SqsService, prefix: str) -> None:
        self._service, self._prefix = service, prefix
        self._urls: dict[str, str] = {}
        # Names that are, or are not, another queue's redrive target, and when that was asked, in monotonic seconds.
        self._targets: dict[str, tuple[bool, float]] = {}
        # All claim queues, for every queue of the credential, and when they were listed.
        self._claim_queues: tuple[tuple[str, ...], float] = ((), float("-inf"))
        self._listing = asyncio.Lock()

    async def url(self, name: str, *, owner: str = "") -> str:
        """
        Return a queue's URL, which the service takes as its name and never as an address.

        Raises:
            QueueMissing: there is none.
        """
        key = f"{owner}:{name}" if owner else name
        if key not in self._urls:
            account: dict[str, Any] = {"QueueOwnerAWSAccountId": owner} if owner else {}
            answer = await self._service.call("get_queue_url", f"queue {name}", QueueName=name, **account)
            self._urls[key] = answer["QueueUrl"]
        return self._urls[key]

    async def made_url(self, name: str, **attributes: str) -> str:
        """Return a queue's URL; it is made where it is missing."""
        try:
            return await self.url(name)
        except QueueMissing:
            return await self._make(name, attributes)

    async def open(self, name: str, *, make: bool) -> Place:
        """Return how a queue is set up; made where it is missing and ``make`` says so."""
        url = await (self.made_url(name) if make else self._standing_url(name))
        answer = await self._service.call("get_queue_attributes", f"queue {name}", QueueUrl=url, AttributeNames=["All"])
        found = answer["Attributes"]
        return Place(
            name=name,
            url=url,
            arn=found["QueueArn"],
            fifo=name.endswith(".fifo"),
            limit_bytes=int(found.get("MaximumMessageSize", 262_144)),
            retention_s=int(found.get("MessageRetentionPeriod", RETENTION_S)),
            redrive=_redrive_target(found.get("RedrivePolicy", "")),
        )

    async def _standing_url(self, name: str) -> str:
        try:
            return await self.url(name)
        except QueueMissing as error:
            raise NoSuchQueue(f"there is no queue {name} at {self._service.where}") from error

    def forget(self, name: str) -> None:
        """Look a queue up again at its next use."""
        self._urls.pop(name, None)

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        """List the names that begin with a prefix, sorted, however many."""
        found: list[str] = []
        asked: dict[str, Any] = {"QueueNamePrefix": prefix} if prefix else {}
        while True:
            answer = await self._service.call(
                "list_queues", f"queues {prefix}*" if prefix else "queues", MaxResults=_PAGE, **asked
            )
            for url in answer.get("QueueUrls") or ():
                name = url.rstrip("/").rpartition("/")[2]
                self._urls[name] = url
                found.append(name)
            if not answer.get("NextToken"):
                return tuple(sorted(found))
            asked["NextToken"] = answer["NextToken"]

    async def claim_queues(self, queue: str, at_most_s: float) -> tuple[str, ...]:
        """List the claim queues of all boxes beside one queue, as they were so many seconds ago at most."""
        async with self._listing:
            if time.monotonic() - self._claim_queues[1] >= at_most_s:
                found = [name for name in await self.names(self._prefix) if _CLAIMED.fullmatch(name)]
                self._claim_queues = tuple(found), time.monotonic()
        prefix = claim_prefix(queue)
        return tuple(name for name in self._claim_queues[0] if name[:-_TAG] == prefix)

    async def served(self) -> tuple[str, ...]:
        """
        List the queues that hold jobs: neither helpers nor dead letters of other queues.

        A queue of which the service has not said yet whether it holds another's dead letters is left out until it has.
        """
        names = [name for name in await self.names(self._prefix) if not _HELPER.fullmatch(name)]
        await self._ask_targets(names)
        return tuple(name for name in names if not self._targets.get(name, (True, 0.0))[0])

    async def _ask_targets(self, names: list[str]) -> None:
        """Ask within bounds: what was never asked first, then what was asked long ago."""
        old = time.monotonic() - _TARGETS_S
        asked = sorted((self._targets.get(name, (True, 0.0))[1], name) for name in names)
        waiting = [name for at, name in asked if at < old or name not in self._targets]
        self._targets = {name: self._targets[name] for name in names if name in self._targets}
        try:
            async with asyncio.timeout(_ASKING_S), asyncio.TaskGroup() as group:
                for start in range(_ASKED_AT_ONCE):
                    group.create_task(self._ask_each(waiting[start::_ASKED_AT_ONCE]))
        except TimeoutError:
            return

    async def _ask_each(self, names: list[str]) -> None:
        for name in names:
            self._targets[name] = (await self._is_target(name), time.monotonic())

    async def _is_target(self, name: str) -> bool:
        try:
            answer = await self._service.call(
                "list_dead_letter_source_queues", f"queue {name}", QueueUrl=self._urls[name]
            )
        except Refused:
            return False
        except QueueMissing:
            return True
        return bool(answer.get("queueUrls"))

    async def _make(self, name: str, attributes: dict[str, str]) -> str:
        wanted = {"MessageRetentionPeriod": str(RETENTION_S), **attributes}
        if name.endswith(".fifo"):
            wanted["FifoQueue"] = "true"
        try:
            answer = await self._service.call("create_queue", f"queue {name}", QueueName=name, Attributes=wanted)
        except Refused as error:
            raise ConfigurationError(
                f"there is no queue {name}, and it may not be made: make it, or: {error}"
            ) from error
        self._urls[name] = answer["QueueUrl"]
        return self._urls[name]


def _redrive_target(policy: str) -> str:
    """Return ``account:name`` of the queue that a redrive policy names, "" for none."""
    if not policy:
        return ""
    return ":".join(str(json.loads(policy).get("deadLetterTargetArn", "")).split(":")[-2:])
