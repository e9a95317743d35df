"""A pytest plugin that writes one JSON line for each test that ended, so that the run can be watched from outside."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

PROGRESS_VARIABLE = "RUNNER_TEST_PROGRESS"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write passed calls, and failures and skips of any phase."""
    if report.when == "call" or not report.passed:
        outcome = "passed" if hasattr(report, "wasxfail") and not report.failed else report.outcome
        _write(test=report.nodeid, outcome=outcome, gpu="gpu" in report.keywords, reason=_skip_reason(report))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Write what could not even be collected."""
    if not report.passed:
        _write(test=report.nodeid, outcome=report.outcome, gpu=False, reason=_skip_reason(report))


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    # A skip is reported as (file, line, "Skipped: reason").
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return ""


def _write(**fields: Any) -> None:
    path = os.environ.get(PROGRESS_VARIABLE)
    if path and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(path).open("a") as file:
            file.write(json.dumps(fields) + "\n")
