"""How an attempt ended: one reason of the closed list, and a sentence that says what, where, and what to do."""

from __future__ import annotations

import signal

from actors.executor.attempt import Attempt
from actors.executor.log_room import LINE_LEAST_BYTES
from runner.job import EndReason
from runner.ports import Exit
from runner.records import Outcome
from runner.units import format_size

SIGNALS_FROM = 128
"""Exit codes above it stand for signals."""

_KILLED, _FILE_TOO_LARGE = SIGNALS_FROM + signal.SIGKILL, SIGNALS_FROM + signal.SIGXFSZ
_WAITS = (EndReason.TIMEOUT, EndReason.SILENT)


def outcome_of(attempt: Attempt, ended: Exit) -> Outcome:
    """Judge the end of what ran."""
    reason, message = _stopped(attempt, ended) or _by_itself(attempt, ended)
    return Outcome(
        reason,
        message,
        exit_code=ended.code,
        started_at=attempt.started_at,
        ended_at=ended.ended_at,
        usage=ended.usage,
        isolation=attempt.isolation,
        steps=ended.steps[: len(attempt.claim.job.steps)],
    )


def _stopped(attempt: Attempt, ended: Exit) -> tuple[EndReason, str] | None:
    """Tell why it was stopped; None where it ended before anybody could."""
    if attempt.log.is_flooded and (not attempt.stop.done() or attempt.stop.result()[0] is EndReason.LOG_FLOOD):
        return EndReason.LOG_FLOOD, _flood_words(attempt)
    if not attempt.stop.done():
        return None
    reason, message = attempt.stop.result()
    if attempt.stopping_at is not None and ended.ended_at + ended.coarse_s >= attempt.stopping_at:
        return _explained(reason, message, ended)
    # The full disk that cut its log off may well have been what it died of.
    return (reason, message) if ended.code != 0 and reason is EndReason.DISK_FULL else None


def _explained(reason: EndReason, message: str, ended: Exit) -> tuple[EndReason, str]:
    """Add what else is known; a job that others kept from running did not take its time by itself."""
    if reason in _WAITS and ended.held_up:
        return EndReason.RUNNER_FAULT, f"{message}, but {ended.held_up}"
    return reason, f"{message}; {ended.message}" if ended.code is None and ended.message else message


def _by_itself(attempt: Attempt, ended: Exit) -> tuple[EndReason, str]:
    if attempt.booted_at is not None and ended.ended_at + ended.coarse_s >= attempt.booted_at:
        return EndReason.RUNNER_FAULT, "the box went down while it ran, and started again"
    if ended.by_others:
        return EndReason.RUNNER_FAULT, f"{ended.by_others} ({_exit_words(attempt, ended)})"
    if ended.code is None:
        return EndReason.RUNNER_FAULT, ended.message or "the container vanished, and nobody knows how it ended"
    if ended.oom and ended.code == _KILLED:
        return EndReason.OOM, f"out of memory: killed at its limit of {_memory_words(attempt, ended)}"
    if ended.code == 0:
        return EndReason.SUCCEEDED, "succeeded" + _oom_words(attempt, ended)
    if ended.code == _FILE_TOO_LARGE:
        return _too_large(attempt)
    return EndReason.FAILED, _exit_words(attempt, ended) + _oom_words(attempt, ended)


def _too_large(attempt: Attempt) -> tuple[EndReason, str]:
    """Tell a log from another file: where output is a file too, the kernel stops it at the very limit."""
    log, disk = attempt.log, attempt.grant.here.disk
    if 0 < log.limit_bytes <= log.printed_bytes:
        return EndReason.LOG_FLOOD, _flood_words(attempt)
    return EndReason.DISK_EXCEEDED, f"a file grew beyond its disk of {format_size(disk)}: ask for more resources.disk"


def _flood_words(attempt: Attempt) -> str:
    log = attempt.log
    if log.is_too_fast:
        return f"it printed more than the {log.limit_words} that it may: print less, or into files, or have that raised"
    printed, limit = format_size(log.printed_bytes), format_size(log.limit_bytes)
    if log.printed_bytes < log.lines * LINE_LEAST_BYTES:
        printed += f" in {log.lines} lines, each of which counts {LINE_LEAST_BYTES} bytes at least"
    return f"it printed {printed}, and its log may have {limit}: print less, or into files, or have log_max raised"


def _memory_words(attempt: Attempt, ended: Exit) -> str:
    limit, peak = attempt.grant.here.memory, ended.usage.memory_peak
    return format_size(limit) + (f" (peak {format_size(peak)})" if peak is not None else "")


def _oom_words(attempt: Attempt, ended: Exit) -> str:
    """Mention processes that the memory limit killed while the first one went on and ended by itself."""
    if not ended.oom:
        return ""
    return f"; before that a process of it was killed at its memory limit of {_memory_words(attempt, ended)}"


def _exit_words(attempt: Attempt, ended: Exit) -> str:
    if ended.not_started:
        return f"its command could not be started: {ended.message}"
    if ended.message:
        return ended.message
    words = _code_words(ended.code or 0)
    failed = [number for number, code in enumerate(ended.steps, 1) if code != 0]
    if not failed or ended.steps[failed[0] - 1] != ended.code:
        return words
    steps, count = attempt.claim.job.steps, len(failed)
    more = f"; {count - 1} more failed" if count > 1 else ""
    return f"step {failed[0]} of {len(steps)} failed: {words}{more}"


def _code_words(code: int) -> str:
    number = code - SIGNALS_FROM
    if number not in signal.valid_signals():
        return f"exit code {code}"
    name = signal.Signals(number).name if number in set(signal.Signals) else "a real-time signal"
    whose = "; neither this runner nor a limit of the job sent it" if number == signal.SIGKILL else ""
    return f"ended by signal {number} ({name}){whose}"
