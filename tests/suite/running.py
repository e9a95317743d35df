"""Runs one group in a process of its own and watches it: counts as they come, an outcome at the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.suite.groups import Group
from tests.suite.outcome import GPU_GAP, Gap, Outcome
from tests.suite.progress import PROGRESS_VARIABLE
from tests.suite.reports import Reports

WATCH_INTERVAL_S = 0.2
OUTPUT_LINES_SHOWN = 120
PYTEST_FAILED = 1
PYTEST_NO_TESTS = 5
BIN = Path(sys.executable).parent
# A test may take as long as a hundred others, which would wait behind it.
ONE_BY_ONE = ("--maxschedchunk", "1")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where groups run: their variables, where their output goes, whether coverage is measured, who sees them live."""

    environment: Mapping[str, str]
    directory: Path
    coverage: bool
    watch: Callable[[Outcome], None]


def run_group(group: Group, place: Place) -> Outcome:
    """Run the group to its end or its time limit."""
    run = _Run(group, place)
    if group.commands:
        run.commands()
    else:
        run.pytest()
    return run.outcome


class _Run:
    """One group on its way."""

    def __init__(self, group: Group, place: Place) -> None:
        self.outcome = Outcome(name=group.name)
        self._group = group
        self._place = place
        self._started = time.monotonic()

    def commands(self) -> None:
        """Run each command; each counts as one test."""
        for number, command in enumerate(self._group.commands):
            log = self._place.directory / f"{self._group.name}-{number}-{command[0]}.log"
            if self._watched([str(BIN / command[0]), *command[1:]], log, {}, self._show) == 0:
                self.outcome.passed += 1
                continue
            self.outcome.fail(" ".join(command))
            self.outcome.output += _tail(log)
        self._show()

    def pytest(self) -> None:
        """Run the group's tests in one pytest."""
        directory, name = self._place.directory, self._group.name
        log, progress = directory / f"{name}.log", directory / f"{name}.progress"
        variables = {PROGRESS_VARIABLE: str(progress), "COVERAGE_FILE": str(directory / f".coverage.{name}")}
        with closing(Reports(progress, self.outcome)) as reports:
            code = self._watched(self._pytest_command(), log, variables, lambda: self._count(reports))
            self._count(reports)
        self._judge(code)
        if self.outcome.failed:
            self.outcome.output = _tail(log)

    def _pytest_command(self) -> list[str]:
        group = self._group
        command = [sys.executable, "-m", "pytest", "-p", "tests.suite.progress", "-q", "--color=no", "-m", group.marks]
        command += [f"--ignore-glob={Path(pattern).absolute()}" for pattern in group.excluded]
        if group.workers > 1:
            command += ["-n", str(group.workers), *(("--dist", "loadfile") if group.by_file else ONE_BY_ONE)]
        if self._place.coverage and group.covered:
            command += ["--cov", "--cov-report=", "--cov-fail-under=0"]
        found = [str(path) for pattern in group.tests for path in sorted(Path().glob(pattern))]
        # Without any path pytest would take all tests; a place that is not there yet ends as one without tests.
        return [*command, *found] if found else [sys.executable, "-c", f"raise SystemExit({PYTEST_NO_TESTS})"]

    def _judge(self, code: int | None) -> None:
        """Hold the exit code against what was reported: a pytest that broke has reported nothing of what came then."""
        if code is None:
            self.outcome.fail(f"killed at its limit of {self._group.timeout_s:.0f} s")
        elif code == PYTEST_NO_TESTS and not self.outcome.passed:
            kind = GPU_GAP if self._group.gpu else ""
            self.outcome.gaps.append(Gap(reason="this group holds no tests", kind=kind, count=0))
        elif code not in {0, PYTEST_FAILED} or (code == PYTEST_FAILED and not self.outcome.failed):
            self.outcome.fail(f"pytest ended with {code}")

    def _watched(
        self, command: Sequence[str], log: Path, variables: Mapping[str, str], watch: Callable[[], object]
    ) -> int | None:
        """Run a command with its output in `log`; None if it did not end by the group's time limit and was killed."""
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_outside(os.environ), **self._place.environment, **variables},
                start_new_session=True,
            ) as process,
        ):
            try:
                return self._wait(process, watch)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def _wait(self, process: subprocess.Popen[bytes], watch: Callable[[], object]) -> int | None:
        while time.monotonic() - self._started < self._group.timeout_s:
            try:
                return process.wait(WATCH_INTERVAL_S)
            except subprocess.TimeoutExpired:
                watch()
        return None

    def _count(self, reports: Reports) -> None:
        reports.read()
        self._show()

    def _show(self) -> None:
        self.outcome.seconds = time.monotonic() - self._started
        self._place.watch(self.outcome)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-OUTPUT_LINES_SHOWN:]) + "\n"


def _outside(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what says that this is one of several workers: the suite tests itself, too."""
    return {name: value for name, value in environment.items() if not name.startswith("PYTEST_XDIST_")}
