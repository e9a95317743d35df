"""
Credential files that cannot be used, and the table of ``runner sources`` made of them and of those in use.

Opens and starts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable

import msgspec

from runner.credential import CredentialFile
from runner.receipt import SourceRow
from runner.source import Source

logger = logging.getLogger(__name__)

FINISHING = "what ran when it said something else is being finished"


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

    def table(self, sources: Iterable[Source], others: Iterable[CredentialFile] = ()) -> tuple[SourceRow, ...]:
        """
        Return the rows of ``runner sources``, by file: those in use, and the broken ones that are not; ``others`` can
        be used and name no queues.
        """
        rows = {file.file: _queueless(file) for file in others}
        for source in sorted(sources, key=lambda source: source.replaced):
            name = source.file.file
            rows[name] = _beside(rows[name]) if name in rows else self._row(source)
        for name, file in self._files.items():
            rows.setdefault(name, SourceRow(name, "", "unusable", file.reason))
        return tuple(rows[name] for name in sorted(rows))

    def _row(self, source: Source) -> SourceRow:
        return SourceRow(
            source.file.file,
            source.credential.kind,
            source.state,
            self._why(source),
            tuple(source.rows.values()),
            source.warning,
        )

    def _why(self, source: Source) -> str:
        """Say what is wrong with a file in use: now unusable, or its service does not answer."""
        broken = self._files.get(source.file.file)
        return f"as it was before: {broken.reason}" if broken is not None else source.trouble


def _queueless(file: CredentialFile) -> SourceRow:
    kind = file.credential.kind if file.credential is not None else ""
    return SourceRow(file.file, kind, "in use", warning=file.warning, note=file.note)


def _beside(row: SourceRow) -> SourceRow:
    """Return the row of a file that is not done with what it said before."""
    warnings = (row.warning, "" if FINISHING in row.warning else FINISHING)
    return msgspec.structs.replace(row, warning="; ".join(text for text in warnings if text))
