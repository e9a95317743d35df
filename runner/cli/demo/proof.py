"""
Whether what the receipts say is so: logs counted and hashed again from their archives, outputs from their files.

Nothing here believes the runner; it reads what anybody can read afterwards.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import re
import zlib
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import msgspec

from runner.receipt import LogAccount, OutputAccount, Receipt

_STEP = re.compile(rb"step (\d+)  ")


class LinesFound(msgspec.Struct, frozen=True):
    """How a log with numbered lines came through: how many are missing, stand again, or stand in the wrong order."""

    lost: int
    twice: int
    misplaced: int

    @property
    def whole(self) -> bool:
        """Tell whether each line stands there once, in order."""
        return self == LinesFound(0, 0, 0)


class EpochPoint(msgspec.Struct, frozen=True):
    """One epoch as the training stores it."""

    loss: float


class Unseen(msgspec.Struct, frozen=True):
    """The digits that were kept aside, and how many of them were read right."""

    digits: int
    right: int


class Metrics(msgspec.Struct, frozen=True):
    """What of the training's ``metrics.json`` is shown."""

    finished: bool
    steps: int
    epochs: tuple[EpochPoint, ...]
    unseen: Unseen


def count_steps(log: bytes, steps: int) -> LinesFound:
    """Look for the lines ``step 1`` to ``step <steps>`` in a log."""
    numbers = [int(match[1]) for line in log.split(b"\n") if (match := _STEP.match(line))]
    found = Counter(numbers)
    twice = sum(count - 1 for count in found.values())
    strangers = sum(not 1 <= number <= steps for number in found)
    backward = sum(after < before for before, after in itertools.pairwise(numbers))
    return LinesFound(sum(number not in found for number in range(1, steps + 1)), twice, backward + strangers)


def read_archive(log: LogAccount) -> bytes:
    """
    Return what a job wrote, from the archive that its receipt names; empty where there is none.

    Raises:
        OSError, EOFError, zlib.error: it cannot be read.
    """
    return gzip.decompress(path_of(unquote(log.url)).read_bytes()) if log.url else b""


def log_matches(receipt: Receipt) -> bool:
    """Tell whether the archive has as many lines and bytes as the receipt says, and the same digest."""
    try:
        content = read_archive(receipt.log)
    except (OSError, EOFError, zlib.error):
        return False
    lines = content.count(b"\n") + bool(content and not content.endswith(b"\n"))
    found = (lines, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
    told = (receipt.log.lines, receipt.log.bytes, receipt.log.sha256)
    return found == told and receipt.log.gaps == 0


def output_problems(outputs: tuple[OutputAccount, ...]) -> list[str]:
    """Say which outputs do not stand where the receipt says, or are not as large."""
    problems = [f"output {output.path}: {output.problem}" for output in outputs if output.problem]
    for output in outputs:
        path = path_of(output.url)
        if not output.problem and not (path.is_file() and path.stat().st_size == output.bytes):
            problems.append(f"output {output.path} does not stand whole at {path}")
    return problems


def read_metrics(path: Path) -> Metrics | None:
    """Read the training's figures; None where it left none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Metrics)
    except (OSError, msgspec.DecodeError):
        return None


def path_of(url: str) -> Path:
    """Return the file that the URL of an output names: nothing in it is decoded."""
    return Path(url.removeprefix("folder://"))
