"""How the demo's tables and figures look; pure. A line is a list of texts, some with their style on a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from runner.cli.demo.account import JobFacts
from runner.cli.demo.cast import Part
from runner.cli.demo.watching import Progress, Seen
from runner.cli.output import COLUMN_GAP, columns_that_fit, printable
from runner.job import EndReason

Span = str | tuple[str, str]
Line = list[Span]

WIDTH = 91
INDENT = "    "
DOT = " · "
BARS = "▁▂▃▄▅▆▇█"
SHA_SHOWN = 4
STATE_WIDTH = 10
_LEAST_DETAIL = 20
_GOOD, _BAD, _QUIET, _HEAD = "green", "bold red", "dim", "bold"
_STYLES = {"training": "cyan", "running": "cyan", "staging": "cyan", "storing": "cyan", "waiting": "yellow"}
_ENDING_WORDS = {EndReason.INPUT_REFUSED: "refused"}


def spread(left: str, right: str, width: int | None) -> list[Line]:
    """Put a figure at the right end of a line, or of the next one where the line is too short for both."""
    end = min(WIDTH, width or WIDTH)
    room = end - len(left)
    return [[left + right.rjust(room)]] if room > len(right) + 1 else [[left], [right.rjust(end)]]


def dotted(label: str, parts: Sequence[str], width: int | None) -> list[Line]:
    """Join parts by dots behind a label; where the width does not do, the rest goes on in the next line."""
    told = [parts[0]]
    for part in parts[1:]:
        longer = f"{told[-1]}{DOT}{part}"
        if width is None or len(label) + len(longer) <= width:
            told[-1] = longer
        else:
            told.append(part)
    labels: list[Span] = [(label, _HEAD), *[" " * len(label)] * (len(told) - 1)]
    return [[label, text] for label, text in zip(labels, told, strict=True)]


def states_table(parts: Sequence[Part], seen: dict[str, Seen], gpus: str, width: int | None) -> list[Line]:
    """Return what each job is at; what is said of it goes on in the next line where the width does not do."""
    ids, wants = ["JOB", *(part.id for part in parts)], ["WANTS", *(part.wants for part in parts)]
    columns = [max(map(len, ids)) + 2, max(map(len, wants)) + 2]
    head = INDENT + "JOB".ljust(columns[0]) + "WANTS".ljust(columns[1]) + "STATE"
    lines: list[Line] = [[(head, _HEAD)]]
    for part in parts:
        word, detail = state_of(part, seen.get(part.id, Seen(part.id)), gpus)
        named = INDENT + part.id.ljust(columns[0]) + part.wants.ljust(columns[1])
        lines.extend(_wrapped(named, word, detail, width))
    return lines


def resumed_told(acts: int, *, ended: int, taken_back: int, wait: int) -> tuple[str, ...]:
    """Say where a demo goes on: which acts were played before, and what became of the jobs that were submitted."""
    played = {0: "no act was played to its end", 1: "act 1 was played before"}.get(
        acts, f"acts 1 to {acts} were played before"
    )
    counts = ((ended, "had ended"), (taken_back, "taken back"), (wait, "to begin again"))
    jobs = ", ".join(f"{count} {what}" for count, what in counts if count)
    return "goes on where a demo was interrupted", played, f"jobs: {jobs or 'none yet'}"


def _wrapped(named: str, word: str, detail: str, width: int | None) -> list[Line]:
    state = (word.ljust(STATE_WIDTH) if detail else word, _STYLES.get(word, ""))
    if width is None:
        return [[named, state, detail]]
    offset = len(named) + STATE_WIDTH
    first, *others = textwrap.wrap(detail, max(_LEAST_DETAIL, width - offset)) or [""]
    below: list[Line] = [[" " * offset, other] for other in others]
    return [[named, state, first], *below]


def state_of(part: Part, seen: Seen, gpus: str) -> tuple[str, str]:
    """Say in a word and a few more what a job is at; ``gpus`` is what the box's GPUs are called."""
    match seen.state:
        case "queued":
            return "queued", ""
        case "waiting":
            return "waiting", seen.sentence
        case "running":
            return _running(part, seen, gpus)
        case "ended":
            return _ended(seen)
        case state:
            return state, ""


def _running(part: Part, seen: Seen, gpus: str) -> tuple[str, str]:
    if part.expected is EndReason.CANCELLED:
        return "running", "will be cancelled"
    if part.resources.get("gpus"):
        granted = seen.entry.granted.grant.here.gpus if seen.entry and seen.entry.granted else ()
        return "running", f"{gpus} {', '.join(str(gpu.index) for gpu in granted)}"
    if seen.progress.epoch:
        return "training", progress_told(seen.progress)
    return "running", ""


def progress_told(progress: Progress) -> str:
    """Say how far the training is."""
    return f"epoch {progress.epoch}/{progress.epochs}   {progress.loss}  {progress.accuracy}"


def _ended(seen: Seen) -> tuple[str, str]:
    stored = seen.entry.stored if seen.entry else None
    if stored is None or stored.receipt.end_reason is None:
        return "ended", ""
    receipt, reason = stored.receipt, EndReason(stored.receipt.end_reason)
    if reason is EndReason.SUCCEEDED:
        return "succeeded", ""
    if reason is EndReason.FAILED:
        said = f'   "{printable(seen.last)}"' if seen.last else ""
        return "failed", f"exit {receipt.exit_code}{said}"
    message = "" if receipt.message == reason.value else printable(receipt.message)
    return _ENDING_WORDS.get(reason, reason.value), message


ENDS = ("JOB", "EXPECTED", "ENDED AS", "", "WAITED", "RAN", "TRIES", "LOG", "")
_TO_THE_RIGHT = frozenset({4, 5, 6, 7})
_MARK = 3


def ends_table(jobs: Sequence[JobFacts], width: int | None) -> list[Line]:
    """Return how the jobs ended beside how they should have; on a narrow terminal the last columns are left out."""
    rows = [list(ENDS), *(_end_cells(job) for job in jobs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(ENDS))]
    shown = len(widths) if width is None else columns_that_fit(widths, width - len(INDENT))
    return [_end_line(row[:shown], widths, heading=index == 0) for index, row in enumerate(rows)]


def _end_cells(job: JobFacts) -> list[str]:
    return [
        job.id,
        job.expected,
        job.ended_as,
        "✓" if job.ok else "✗",
        seconds(job.waited_s),
        seconds(job.ran_s),
        str(job.tries or "-"),
        f"{job.log_lines:,} line{'' if job.log_lines == 1 else 's'}",
        _digest(job),
    ]


def _digest(job: JobFacts) -> str:
    if not job.log_matches:
        return "its archive does not match"
    return f"sha256 {job.log_sha256.removeprefix('sha256:')[:SHA_SHOWN]}…" if job.log_lines else ""


def _end_line(cells: list[str], widths: list[int], *, heading: bool) -> Line:
    line: Line = [INDENT]
    for column, cell in enumerate(cells):
        padded = cell.rjust(widths[column]) if column in _TO_THE_RIGHT else cell.ljust(widths[column])
        mark = (padded, _GOOD if cell == "✓" else _BAD) if column == _MARK else padded
        line += [(padded, _HEAD) if heading else mark, COLUMN_GAP]
    return line


def seconds(value: float | None) -> str:
    """Write seconds with one decimal, ``-`` where there are none."""
    return "-" if value is None else f"{value:.1f} s"


def sparkline(values: Sequence[float], bars: int = 13) -> str:
    """
    Draw positive values as bars between the first and the last of them, each bar the mean of a few.

    The scale is logarithmic, so that what falls to a hundredth is still seen falling.
    """
    if not values or min(values) <= 0:
        return ""
    count = min(bars, len(values))
    groups = [values[len(values) * n // count : len(values) * (n + 1) // count] for n in range(count)]
    means = [math.log(sum(group) / len(group)) for group in groups]
    low, span = min(means), (max(means) - min(means)) or 1.0
    drawn = "".join(BARS[round((mean - low) / span * (len(BARS) - 1))] for mean in means)
    return f"{values[0]:.2f} {drawn} {values[-1]:.2f}"
