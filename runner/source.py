"""
A credential file in use as sources knows it: the queues behind it, and what a listing of them asks for.

Opens and starts nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from runner.credential import Credential, CredentialFile
from runner.pattern import finds
from runner.ports import Broker
from runner.receipt import QueueRow
from runner.secret import Secret

logger = logging.getLogger(__name__)

NAME_MAX_BYTES = 255
ODD_NAMES = f"queues are not served whose names are empty, no text, or over {NAME_MAX_BYTES} bytes"
QUEUES_MAX = 1_000
"""Queues of one file that are read; each costs a task, memory and, on some services, connections."""
TOO_MANY = (
    f"more than {QUEUES_MAX:,} queues are behind it, the most that one file may bring, and the others are not read: "
    "say which are meant with match or mismatch"
)
GONE_AFTER = 2
"""Listings in a row without a queue."""
BACKING_OFF = "backing off: "
"""What a poller says before the reason why it cannot read its queue."""


class StandingPoller(msgspec.Struct, frozen=True):
    """A poller as it stands: whose it is, the file that it reads with, what that opened, and its queue."""

    source: str
    file: CredentialFile
    credential: Credential
    broker: Broker
    queue: str


class Pollers(Protocol):
    """How pollers come and go; the composition root knows what they are made of. They outlive sources that crash."""

    def open(self, credential: Credential) -> Broker:
        """
        Open the service of a credential file.

        Raises:
            ConfigurationError: it cannot be used.
        """
        ...

    async def close_unnamed(self, named: Collection[Broker]) -> None:
        """Close the services that are neither among these nor read by a poller."""
        ...

    def standing(self) -> tuple[StandingPoller, ...]:
        """Return those that were started and not ended."""
        ...

    def ending(self) -> tuple[StandingPoller, ...]:
        """Return those whose end was begun and not completed."""
        ...

    def start(self, poller: StandingPoller) -> None:
        """Start the poller of one queue."""
        ...

    def change(self, poller: StandingPoller) -> None:
        """Let a poller go on with other rights, also where it was finishing."""
        ...

    async def move(self, broker: Broker, credential: Credential) -> None:
        """
        Let what is open behind a file, result backends too, go on with other secrets; what runs is not touched.

        Raises:
            RunnerError: they are refused, or it could not be tried.
        """
        ...

    def finish(self, source: str, queue: str, *, cancel: bool = False) -> None:
        """Let a poller fetch no more; it says when its last claim is settled. ``cancel`` ends what runs of it."""
        ...

    async def end(self, source: str, queue: str) -> None:
        """Stop one, close what it stored with, and forget it; an end that was interrupted is completed."""
        ...


class Steps(msgspec.Struct, frozen=True):
    """What a listing asks for: queues to begin with, to go on with, and to read no more."""

    begin: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


@dataclass
class Source:
    """One content of a credential file in use: while what runs of an earlier one is finished, a file has several."""

    # The file's name, with a number after it where an earlier content has that one. Messages and pollers go by it.
    name: str
    file: CredentialFile
    credential: Credential
    broker: Broker
    # Why its queues could not be listed, "" where they could; and whether the service answered no.
    reason: str = ""
    refused: bool = False
    # By queue: each has a poller.
    rows: dict[str, QueueRow] = field(default_factory=dict)
    # The file is gone or points elsewhere: nothing new is fetched, and what runs is finished, or cancelled.
    finishing: bool = False
    cancelled: bool = False
    # The file says another service now, which is another source.
    replaced: bool = False
    # Queues that are read no more while the file stands, and in how many listings in a row each was missing.
    leaving: set[str] = field(default_factory=set)
    missing: Counter[str] = field(default_factory=Counter)
    # The last listing had more than may be read.
    too_many: bool = False
    # Whose secrets the open connections have; None where that is the credential as it was opened.
    connected: Credential | None = None
    # Set where the queues are to be listed now.
    again: asyncio.Event = field(default_factory=asyncio.Event)
    # What was logged of this content, since it could be listed last.
    _logged: set[str] = field(default_factory=set)

    @classmethod
    def found_again(cls, poller: StandingPoller) -> Source:
        """Return the source of a poller that outlived it: with a content unlike any, and nobody knows whose secrets."""
        unlike_any = msgspec.structs.replace(poller.file, content="")
        source = cls(poller.source, unlike_any, poller.credential, poller.broker)
        source.connected = None
        return source

    def __post_init__(self) -> None:
        """Begin as it was opened."""
        self.connected = self.connected or self.credential

    def serves_as(self, credential: Credential) -> bool:
        """Tell whether a new content of the file means the same service."""
        return _service(credential) == _service(self.credential)

    def is_connected(self) -> bool:
        """Tell whether the open connections have the secrets that the file says now."""
        return self.connected is not None and _login(self.connected) == _login(self.credential)

    def wants(self, queue: str) -> bool:
        """Tell whether the file's own patterns let a queue be read."""
        return finds(self.credential.match, self.credential.mismatch, queue)

    def take(self, file: CredentialFile, credential: Credential) -> None:
        """Go on with a new content of the file."""
        self.file, self.credential = file, credential
        self.finishing = self.cancelled = False
        self._logged.clear()

    def add(self, queue: str) -> StandingPoller:
        """Add a queue, whose poller is about to open it, and return that poller."""
        self.rows[queue] = QueueRow(queue, state="opening")
        return self.poller(queue)

    def poller(self, queue: str) -> StandingPoller:
        """Return the poller of a queue as it is to be now."""
        return StandingPoller(self.name, self.file, self.credential, self.broker, queue)

    def remove(self, queue: str) -> None:
        """Forget a queue whose poller is gone."""
        self.rows.pop(queue, None)
        self.missing.pop(queue, None)
        self.leaving.discard(queue)

    def told(self, queue: str, state: str, depth: int | None, warning: str) -> None:
        """Take in how a queue is; a depth stands until another is told, or the state changes."""
        row = self.rows.get(queue)
        if state == "polling" and (self.finishing or queue in self.leaving):
            state = "finishing"
        if row is not None:
            depth = row.depth if depth is None and state == row.state else depth
            self.rows[queue] = QueueRow(queue, depth, state, warning)
            self._log_trouble()

    def listed(self, queues: Collection[str], wants: Callable[[str], bool]) -> Steps:
        """
        Compare a listing with what is read; a queue that is missing in two listings in a row is gone.

        One listing may come from a service that has just started, or that counts its queues now and then. Of more
        queues than may be read the first are begun with; which are read stays so.
        """
        if self.reason:
            self._logged.clear()
        self.reason, self.refused = "", False
        queues = dict.fromkeys(self._named(queues))
        self._count(filter(wants, queues))
        room = max(0, QUEUES_MAX - len(self.rows))
        self.missing = Counter({queue: self.missing[queue] + 1 for queue in self.rows if queue not in queues})
        return Steps(
            tuple(itertools.islice((queue for queue in queues if queue not in self.rows and wants(queue)), room)),
            tuple(queue for queue in queues if queue in self.leaving and wants(queue)),
            tuple(
                queue
                for queue in self.rows
                if queue not in self.leaving
                and (self.missing[queue] >= GONE_AFTER or (queue in queues and not wants(queue)))
            ),
        )

    def _count(self, wanted: Iterator[str]) -> None:
        """Say so where they are more than may be read."""
        self.too_many = next(itertools.islice(wanted, QUEUES_MAX, None), None) is not None
        if self.too_many:
            self._warn_once(TOO_MANY)

    def _named(self, queues: Collection[str]) -> Collection[str]:
        """Leave out names that nobody could be told; on some services any producer may make a queue of any name."""
        named = [queue for queue in queues if is_name(queue)]
        if len(named) < len(queues):
            self._warn_once(ODD_NAMES, queues=len(queues) - len(named))
        return named

    def _warn_once(self, text: str, **facts: int) -> None:
        if text not in self._logged:
            self._logged.add(text)
            logger.warning(text, extra={"action": "list", "source": self.file.file, **facts})

    def failed(self, reason: str, *, refused: bool) -> None:
        """Take in why the service cannot be used now."""
        self.reason, self.refused = reason, refused
        self._log_trouble()

    def _log_trouble(self) -> None:
        """Log once per content of the file what is wrong: a service may be tried for days."""
        trouble = self.trouble
        if trouble and trouble not in self._logged:
            self._logged.add(trouble)
            facts = {"action": "list", "source": self.file.file, "reason": trouble}
            logger.error("the service of a credential file cannot be used", extra=facts)

    @property
    def trouble(self) -> str:
        """
        Why the service cannot be used now, "" where it can: its queues cannot be listed, or none of them can be read.
        """
        states = [row.state for row in self.rows.values()]
        if self.reason or not states or not all(state.startswith(BACKING_OFF) for state in states):
            return self.reason
        return states[0].removeprefix(BACKING_OFF)

    @property
    def warning(self) -> str:
        """What works and should not stay so, "" for nothing."""
        return "; ".join(filter(None, (self.file.warning, TOO_MANY if self.too_many else "")))

    @property
    def state(self) -> str:
        """One word or two for ``runner sources``."""
        if self.finishing:
            return "finishing"
        if self.refused:
            return "refused"
        return "unreachable" if self.trouble else "in use"


def is_name(queue: str) -> bool:
    """Tell whether a queue's name can stand in messages, tables and logs."""
    try:
        return 0 < len(queue.encode()) <= NAME_MAX_BYTES
    except UnicodeEncodeError:
        return False


def _service(credential: Credential) -> tuple[str, ...]:
    """
    Name what is open behind a file: where its jobs come from, for how long they are claimed, and where what became of
    them is told.
    """
    options = [credential.options.get(name, "") for name in ("endpoint", "queue_type", "ca_file")]
    rights = credential.rights
    return credential.kind, credential.url, rights.results, str(float(credential.lease)), *options, *rights.sinks


def _login(credential: Credential) -> tuple[dict[str, Secret], dict[str, str]]:
    return credential.secrets, credential.options
