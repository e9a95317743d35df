"""Deletes what a result directory need not keep any longer; blocking."""

from __future__ import annotations

import os
import shutil

from adapters.files import names_in, remove_file
from adapters.results.folder_jobs import Jobs, archive_key
from adapters.results.rows import is_final
from runner.job import Key

# A job of which nothing was heard for a month longer than results are kept will not end any more: its box is gone.
SILENT_S = 30 * 86_400.0
# So is who wrote a temporary file that did not change for a day.
TEMPORARY_S = 86_400.0


def sweep(jobs: Jobs, before: float) -> int:
    """Delete the jobs that ended before an epoch second, and uploads, marks and beats older than that; count them."""
    old = [key for key in jobs.keys(ended=True) if _ended_at(jobs, key) < before]
    for key in old:
        jobs.remove(key)
    files = [jobs.path(part, name) for part in ("uploads", "stops", "beats") for name in names_in(jobs.path(part))]
    removed = [path for path in files if _changed_at(path) < before and remove_file(path)]
    _sweep_archives(jobs, frozenset(old), before)
    _sweep_temporary(jobs, before)
    return len(old) + len(removed)


def _ended_at(jobs: Jobs, key: Key) -> float:
    receipt = jobs.receipt(key)
    ends = [event.at for event, _ in jobs.events(key) if is_final(event)]
    if receipt is not None and receipt.state == "ended":
        ends.append(receipt.ended_at or 0.0)
    if ends:
        return max(ends)
    directory = jobs.path("jobs", key)
    return max(_changed_at(os.path.join(directory, name)) for name in [*os.listdir(directory), ""]) + SILENT_S


def _sweep_archives(jobs: Jobs, removed: frozenset[Key], before: float) -> None:
    """Delete the archives of the jobs that were removed, and old ones whose job is gone."""
    for name in names_in(jobs.path("logs")):
        key, path = archive_key(name), jobs.path("logs", name)
        if key in removed or (_changed_at(path) < before and not os.path.isdir(jobs.path("jobs", key))):
            remove_file(path)


def _sweep_temporary(jobs: Jobs, before: float) -> None:
    for name in names_in(jobs.path("tmp")):
        shutil.rmtree(jobs.path("tmp", name), ignore_errors=True)
    for part in ("uploads", "ids", "logs", "stops", "beats"):
        for name in _hidden_names(jobs.path(part)):
            if _changed_at(jobs.path(part, name)) < before - TEMPORARY_S:
                remove_file(jobs.path(part, name))


def _hidden_names(path: str) -> list[str]:
    try:
        return [name for name in os.listdir(path) if name.startswith(".")]
    except FileNotFoundError:
        return []


def _changed_at(path: str) -> float:
    """Return when a file was written or used last; never, where it is gone."""
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return float("inf")
