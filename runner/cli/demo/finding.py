"""What became of the jobs, beside what was expected; pure but for reading what they left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.cli.demo.account import DigitsFacts, JobFacts
from runner.cli.demo.cast import Part, end_as_shown
from runner.cli.demo.proof import LinesFound, count_steps, log_matches, output_problems, read_archive, read_metrics
from runner.job import EndReason
from runner.receipt import Receipt

METRICS = "metrics.json"
FILES = ("model.json", METRICS, "curve.svg", "receipt.json")


def job_facts(part: Part, receipt: Receipt | None) -> JobFacts:
    """Put a job's receipt beside what was expected."""
    if receipt is None:
        return JobFacts(part.id, part.wants, part.expected_end, "not at all")
    started, ended, submitted = receipt.started_at, receipt.ended_at, receipt.submitted_at
    began = started if started is not None else ended
    return JobFacts(
        part.id,
        part.wants,
        part.expected_end,
        end_as_shown(receipt.end_reason or receipt.state, receipt.exit_code),
        message=receipt.message,
        waited_s=None if began is None or submitted is None else round(max(0.0, began - submitted), 3),
        ran_s=None if started is None or ended is None else round(ended - started, 3),
        tries=receipt.attempt if started is not None else 0,
        log_lines=receipt.log.lines,
        log_sha256=receipt.log.sha256,
        log_matches=log_matches(receipt),
    )


def digits_of(outputs: Path) -> DigitsFacts | None:
    """Read what the training learnt; None where it left nothing to read."""
    metrics = read_metrics(outputs / METRICS)
    if metrics is None:
        return None
    files = tuple(name for name in FILES if (outputs / name).is_file())
    return DigitsFacts(metrics.unseen.digits, metrics.unseen.right, tuple(it.loss for it in metrics.epochs), files)


def lines_of(receipt: Receipt | None, outputs: Path) -> LinesFound | None:
    """Look for the numbered steps of the training in its log archive; None where either is missing."""
    metrics = read_metrics(outputs / METRICS)
    if receipt is None or metrics is None or not receipt.log.url:
        return None
    return count_steps(read_archive(receipt.log), metrics.steps)


def problems_of(
    parts: Sequence[Part],
    jobs: Sequence[JobFacts],
    receipts: Mapping[str, Receipt],
    lines: LinesFound | None,
    *,
    resumed: bool = False,
) -> list[str]:
    """Say in sentences what was not as expected; in a ``resumed`` demo jobs were stopped and began again."""
    problems = [problem for job in jobs for problem in _job_problems(job)]
    for part in parts:
        receipt = receipts.get(part.id)
        if receipt is not None:
            problems += [f"{part.id}: {problem}" for problem in output_problems(receipt.outputs)]
            problems += _attempt_problems(receipt, resumed=resumed)
    if lines is None:
        problems.append("the training left no log or no figures to compare")
    elif not lines.whole:
        problems.append(
            f"of the training's log {lines.lost} lines are lost, {lines.twice} stand twice, {lines.misplaced} astray"
        )
    return problems


def _job_problems(job: JobFacts) -> list[str]:
    problems = []
    if job.ended_as != job.expected:
        why = f" ({job.message})" if job.message else ""
        problems.append(f"{job.id} ended as {job.ended_as}{why}, expected was {job.expected}")
    if not job.log_matches:
        problems.append(f"the log archive of {job.id} is not what its receipt says")
    return problems


def _attempt_problems(receipt: Receipt, *, resumed: bool) -> list[str]:
    tries = [past for past in receipt.attempts if not (resumed and past.reason == EndReason.PREEMPTED)]
    return [f"{receipt.id} was tried {len(tries)} times, once was expected"] if len(tries) > 1 else []
