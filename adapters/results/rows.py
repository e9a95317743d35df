"""What a list tells of a job: its newest receipt joined with what boxes told since."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from runner.receipt import Event, JobRow

ToldBy = tuple[Event, str]
"""An event, and the box that told it."""
CLIENT = "client"
"""Stands for a box where none told: who submits or withdraws a job tells of it, too."""


def is_final(event: Event) -> bool:
    """Tell whether a job ended for good with this."""
    return event.state == "ended" and event.end_reason is not None


def row_within(receipt: JobRow) -> JobRow:
    """Return the row that a receipt contains."""
    fields: dict[str, Any] = {name: getattr(receipt, name) for name in JobRow.__struct_fields__}
    return JobRow(**fields)


def dated_row(told: Iterable[ToldBy], receipt: JobRow | None) -> tuple[float, JobRow] | None:
    """
    Return when a job was first heard of, and its row; None where nothing is known of it.

    An attempt that ended without a reason is tried again.
    """
    events = sorted(told, key=lambda item: (item[0].attempt, item[0].at))
    if not events and receipt is None:
        return None
    first = [event.at for event, _ in events[:1]] or [receipt.submitted_at or 0.0 if receipt else 0.0]
    return first[0], _joined(events, receipt)


def _joined(events: list[ToldBy], receipt: JobRow | None) -> JobRow:
    row = _first_row(events) if receipt is None else row_within(receipt)
    final = next((told for told in events if is_final(told[0])), None)
    if final is not None:
        return _ended(row, *final)
    if not events or row.state == "ended":
        return row
    event, box = events[-1]
    started = [past.at for past, _ in events if past.state == "running" and past.attempt == event.attempt]
    return msgspec.structs.replace(
        row,
        state="waiting" if event.state == "ended" else event.state,
        attempt=event.attempt,
        end_reason=None,
        exit_code=None,
        started_at=started[-1] if started else None,
        ended_at=None,
        box=_named(box),
    )


def _first_row(events: list[ToldBy]) -> JobRow:
    """Return what was said of a job when it was told of first."""
    said = (event.row for event, _ in events if event.row is not None)
    return next(said, None) or JobRow(events[0][0].id)


def _named(box: str) -> str:
    return "" if box == CLIENT else box


def _ended(row: JobRow, event: Event, box: str) -> JobRow:
    return msgspec.structs.replace(
        row,
        state="ended",
        attempt=event.attempt,
        end_reason=event.end_reason,
        exit_code=event.exit_code if event.exit_code is not None else row.exit_code,
        ended_at=row.ended_at or event.at,
        box=row.box or _named(box),
    )
