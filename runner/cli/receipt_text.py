"""A receipt as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.cli.gap_text import gaps_text
from runner.cli.output import clock
from runner.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.receipt import GrantAccount, Isolation, LogAccount, Receipt, Usage

    Fact = tuple[str, object]


def facts(receipt: Receipt) -> Sequence[Fact]:
    """Return names and values in the order in which people ask; empty values are left out when printed."""
    return (
        ("job", receipt.id),
        ("name", receipt.name),
        ("user", receipt.user),
        ("queue", receipt.queue),
        ("state", _state(receipt)),
        ("message", receipt.message),
        ("attempt", receipt.attempt),
        *((f"attempt {number}", f"{past.reason} after {format_duration(past.seconds)} on {past.box}")
          for number, past in enumerate(receipt.attempts, 1)),
        ("submitted", clock(receipt.submitted_at)),
        ("started", clock(receipt.started_at)),
        ("ended", clock(receipt.ended_at)),
        ("stages", ", ".join(f"{name} {format_duration(spent)}" for name, spent in receipt.stages.items())),
        *_given(receipt),
        *_isolation(receipt.isolation),
        ("used", _usage(receipt.usage)),
        ("image", f"{receipt.image.name} {receipt.image.digest}".strip() if receipt.image else ""),
        ("steps", ", ".join(f"{number}: exit {code}" for number, code in enumerate(receipt.steps, 1))),
        *_files(receipt),
        ("log", _log(receipt.log)),
        ("key", receipt.key),
        ("box", receipt.box),
    )  # fmt: skip


def _state(receipt: Receipt) -> str:
    ended = receipt.end_reason or receipt.state
    told = ended if receipt.exit_code is None else f"{ended}, exit {receipt.exit_code}"
    if receipt.end_reason and receipt.state == "waiting":
        return f"waiting for its next attempt; attempt {receipt.attempt}: {told}"
    return told


def _given(receipt: Receipt) -> Iterator[Fact]:
    grant = receipt.grant
    yield "gpus", ", ".join(grant.gpus or receipt.gpus)
    yield "cores", _cores(grant)
    yield "memory", format_size(grant.memory) if grant.memory else ""


def _cores(grant: GrantAccount) -> str:
    """Say how many, and which: ``2 on cores 0, 1``, ``0.5 on core 0``."""
    if not grant.cores:
        return ""
    many = f"{grant.cpus:g} " if grant.cpus else ""
    return f"{many}on core{'s' * (len(grant.cores) > 1)} {', '.join(map(str, grant.cores))}"


def _isolation(isolation: Isolation) -> Iterator[Fact]:
    if isolation.runtime:
        yield "runtime", f"{isolation.runtime}, user {isolation.user or '?'}, network {isolation.network}"
        yield "not isolated", ", ".join(isolation.missing)


def _usage(usage: Usage) -> str:
    told = []
    if usage.memory_peak is not None:
        told.append(f"memory up to {format_size(usage.memory_peak)}")
    if usage.cpu_seconds is not None:
        told.append(f"cpu {format_duration(usage.cpu_seconds)}")
    if usage.gpu_memory_peak is not None:
        told.append(f"GPU memory up to {format_size(usage.gpu_memory_peak)}")
    if usage.gpu_utilisation is not None:
        told.append(f"GPU {usage.gpu_utilisation:.0%} busy")
    if usage.joules is not None:
        told.append(f"{usage.joules:.0f} J")
    return ", ".join(told)


def _files(receipt: Receipt) -> Iterator[Fact]:
    for item in receipt.inputs:
        yield "input", f"{item.url}  {format_size(item.bytes)}{', cached' if item.cached else ''}  {item.digest}"
    for output in receipt.outputs:
        stored = f"{output.url}  {format_size(output.bytes)}  {output.digest}"
        yield "output", f"{output.path}: {output.problem}" if output.problem else f"{output.path} -> {stored}"


def _log(log: LogAccount) -> str:
    if not log.lines and not log.bytes and not log.gaps:
        return ""
    gaps = f", {gaps_text(log.gaps)}" if log.gaps else ""
    return f"{log.lines} lines, {format_size(log.bytes)}{gaps}  {log.sha256}  {log.url}".rstrip()
