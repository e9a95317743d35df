"""What sinks are told of an attempt that ended: the one end of its job, or that it is tried again."""

from __future__ import annotations

import msgspec

from runner.job import EndReason
from runner.messages import Reported
from runner.receipt import Event
from runner.records import ClaimedJob, StoreRecord
from runner.units import format_duration


def reported_of(claim: ClaimedJob, stored: StoreRecord) -> Reported:
    """Say again how a job ended, from its receipt."""
    receipt = stored.receipt
    reason = EndReason(receipt.end_reason or EndReason.RUNNER_FAULT)
    return Reported(claim, reason, receipt.exit_code, receipt.message, last=True, at=stored.at)


def event_of(reported: Reported) -> Event:
    """Return the end of a job, or what is said of an attempt that will be followed by another."""
    claim, state = reported.claim, "ended" if reported.last else "waiting"
    event = Event(
        claim.key,
        claim.id,
        reported.at,
        state,
        claim.attempt,
        reported.message,
        reported.reason.value,
        reported.exit_code,
    )
    if reported.last:
        return event
    said = f"{ending_of(event)}; tried again after {format_duration(reported.after_s)}"
    return msgspec.structs.replace(event, end_reason=None, message=said)


def ending_of(event: Event) -> str:
    """Return the end reason and the sentence, or one of them where they say the same."""
    reason = event.end_reason or event.state
    return f"{reason}: {event.message}" if event.message not in {"", reason} else reason
