"""
Credential files as sources knows them: those in use with the queues behind each, and those that cannot be used.

Holds what is known, and the rows of ``runner sources`` made of it; opens and starts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from runner.credential import Credential, CredentialFile
from runner.ports import Broker
from runner.receipt import QueueRow, SourceRow

logger = logging.getLogger(__name__)


class StandingPoller(msgspec.Struct, frozen=True):
    """A poller as it stands: the file that it reads with, what that opened, and its queue."""

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

    def change(self, file: CredentialFile, credential: Credential, queue: str) -> None:
        """Let a poller go on with other rights, also where it was finishing."""
        ...

    def finish(self, source: str, queue: str) -> None:
        """Let a poller fetch no more; it says when its last claim is settled."""
        ...

    async def end(self, source: str, queue: str) -> None:
        """Stop one, close what it stored with, and forget it; an end that was interrupted is completed."""
        ...


@dataclass
class Source:
    """One credential file in use."""

    file: CredentialFile
    credential: Credential
    broker: Broker
    # Why its queues could not be listed, "" where they could.
    reason: str = ""
    # By queue: each has a poller.
    rows: dict[str, QueueRow] = field(default_factory=dict)
    # The file is gone or points elsewhere: nothing new is fetched, and what runs is finished.
    finishing: bool = False

    def serves_as(self, credential: Credential) -> bool:
        """Tell whether a new content of the file means the same service."""
        return _service(credential) == _service(self.credential)

    def add(self, queue: str) -> StandingPoller:
        """Add a queue, whose poller is about to open it, and return that poller."""
        self.rows[queue] = QueueRow(queue, state="opening")
        return StandingPoller(self.file, self.credential, self.broker, queue)

    def told(self, queue: str, state: str, depth: int | None) -> None:
        """Take in how a queue is; a depth stands until another is told, or the state changes."""
        row = self.rows.get(queue)
        if row is not None:
            depth = row.depth if depth is None and state == row.state else depth
            self.rows[queue] = QueueRow(queue, depth, state)

    @property
    def state(self) -> str:
        """One word or two for ``runner sources``."""
        if self.finishing:
            return "finishing"
        return "unreachable" if self.reason else "in use"


def _service(credential: Credential) -> tuple[str, str, str]:
    """Name what is open behind a file: where its jobs come from, and where what became of them is told."""
    return credential.kind, credential.url, credential.rights.results


class BrokenFiles:
    """Files that cannot be used, by name; each reason is logged once per content."""

    def __init__(self) -> None:
        """Begin without any."""
        self._files: dict[str, CredentialFile] = {}

    def report(self, file: CredentialFile, reason: str) -> None:
        """Remember why a file cannot be used."""
        known = self._files.get(file.file)
        if known is None or (known.content, known.reason) != (file.content, reason):
            facts = {"action": "scan", "source": file.file, "reason": reason}
            logger.error("a credential file cannot be used", extra=facts)
        self._files[file.file] = msgspec.structs.replace(file, reason=reason)

    def mended(self, name: str) -> None:
        """Forget a file that can be used."""
        self._files.pop(name, None)

    def keep_only(self, names: Container[str]) -> None:
        """Forget the files that are gone."""
        self._files = {name: file for name, file in self._files.items() if name in names}

    def table(self, sources: Iterable[Source]) -> tuple[SourceRow, ...]:
        """Return the rows of ``runner sources``, by file: those in use, and the broken ones that are not."""
        rows = {
            source.file.file: SourceRow(
                source.file.file, source.credential.kind, source.state, self._why(source), tuple(source.rows.values())
            )
            for source in sources
        }
        for name, file in self._files.items():
            rows.setdefault(name, SourceRow(name, "", "unusable", file.reason))
        return tuple(rows[name] for name in sorted(rows))

    def _why(self, source: Source) -> str:
        """Say what is wrong with a file in use: now unusable, or its service does not answer."""
        broken = self._files.get(source.file.file)
        return f"as it was before: {broken.reason}" if broken is not None else source.reason
