"""
How every benchmark reports: one JSON line on stdout, and with ``--json-out`` a file under ``bench/results/``.

The file says besides on which machine, when and at which commit it was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent


def arguments(what: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Make a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each is measured (%(default)s)")
    parser.add_argument("--json-out", action="store_true", help="keep the line under bench/results/, with its origin")
    parser.add_argument("--check", action="store_true", help="exit 1 if a bar is not reached")
    return parser


def report(name: str, figures: Mapping[str, object], options: argparse.Namespace) -> int:
    """
    Print the figures as one JSON line, keep them if asked to, and return the exit code.

    A benchmark with bars says in ``figures["reached"]`` whether it reached them.
    """
    print(json.dumps({"bench": name, **figures}))
    if options.json_out:
        now = datetime.now(UTC)
        path = HERE / "results" / f"{name}-{now:%Y-%m-%d}.json"
        path.parent.mkdir(exist_ok=True)
        origin = {"machine": machine(), "date": now.isoformat(timespec="seconds"), "commit": commit()}
        path.write_text(json.dumps({"bench": name, **origin, **figures}, indent=2) + "\n")
    return int(options.check and not figures.get("reached", True))


def machine() -> str:
    """Describe the machine in one line: processor, cores that this process may use, memory, system, Python."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, {gib:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def commit() -> str:
    """Name the commit that is checked out, with `+` where files differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return (head or "unknown") + changed


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
