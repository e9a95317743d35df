"""The last lines: what to type next, and the one line that says whether all was as expected."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from runner.cli.demo.account import Account
from runner.cli.demo.tables import Line


def closing(account: Account, width: int | None) -> list[Line]:
    """Return the lines below the tables."""
    if not account.ok:
        first, *rest = account.problems
        others = f" (and {len(rest)} more)" if rest else ""
        failed: Line = [("demo failed: ", "bold red"), f"{first}{others}; read {account.log}"]
        return [[""], failed]
    fine = sum(job.ok for job in account.jobs)
    survived = ", kill -9 survived" if account.kill is not None else ""
    summary = f"{fine} of {len(account.jobs)} as expected{survived}, {account.seconds:.0f} s"
    done: Line = [("demo ok: ", "bold green"), f"{summary}, outputs in {account.directory}"]
    return [[""], *_next_steps(program(), width), [""], done]


def _next_steps(name: str, width: int | None) -> list[Line]:
    """Say what to type next; on a narrow terminal without saying what for, so that each command stays on its line."""
    steps = (
        (f"{name} run &", "a runner for you"),
        (f"{name} submit --follow -- python3 -c 'print(6*7)'", "your first job"),
        (f"{name} doctor", "what this box could do more"),
    )
    heads = [" Try    ", *[" " * 8] * (len(steps) - 1)]
    room = max(len(command) for command, _ in steps) + 3
    fits = width is None or all(len(heads[0]) + room + len(about) <= width for _, about in steps)
    told = [(command.ljust(room) + about) if fits else command for command, about in steps]
    return [[(head, "bold"), text] for head, text in zip(heads, told, strict=True)]


def program() -> str:
    """Return what to type for this very program, as short as it can be from here."""
    found = Path(sys.executable).parent / "runner"
    named = shutil.which("runner")
    if not found.exists():
        return "runner" if named else f"{_from_here(Path(sys.executable))} -m runner"
    if named and Path(named).samefile(found):
        return "runner"
    return _from_here(found)


def _from_here(path: Path) -> str:
    here = os.path.relpath(path)
    return str(path) if here.startswith(os.pardir) else here
