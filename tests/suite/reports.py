"""Reads the progress file of a pytest run into an outcome, as far as it is written."""

import json
from collections import Counter
from pathlib import Path

from tests.suite.outcome import GPU_GAP, Gap, Outcome


class Reports:
    """The reader of one file; `close` it. Lines that are still being written are left for the next `read`."""

    def __init__(self, path: Path, outcome: Outcome) -> None:
        path.unlink(missing_ok=True)
        path.touch()
        self._file = path.open()
        self._unfinished = ""
        self._outcome = outcome
        self._skips: Counter[tuple[str, str]] = Counter()

    def read(self) -> None:
        """Count what was reported since the last call."""
        *lines, self._unfinished = (self._unfinished + self._file.read()).split("\n")
        for line in lines:
            report = json.loads(line)
            self._count(report["outcome"], report["test"], report["reason"], GPU_GAP if report["gpu"] else "")
        self._outcome.gaps = [Gap(reason=why, kind=kind, count=count) for (why, kind), count in self._skips.items()]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _count(self, outcome: str, test: str, reason: str, kind: str) -> None:
        match outcome:
            case "passed":
                self._outcome.passed += 1
            case "skipped":
                self._skips[reason, kind] += 1
            case _:
                self._outcome.fail(test)
