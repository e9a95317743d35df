"""
Run the tests, group by group: `python -m tests.suite [--groups NAME …] [--no-services]`.

Read from the environment: `SERVICES=present` installs nothing; `STRICT=1` makes whatever was not run a failure, except
the kinds named in `STRICT_EXCEPT` (`gpu`). The exit code is 0 only if nothing failed.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.services import orphans
from tests.services.table import SERVICES
from tests.suite import house, listeners
from tests.suite.groups import GROUPS, QUICK, Group
from tests.suite.outcome import Outcome, strict
from tests.suite.provision import Provision, provide
from tests.suite.running import Place, run_group
from tests.suite.screen import Screen, group_line, summary, verdict

LOGS = Path("build/test")


class Suite:
    """One run over some of the groups; a whole one also checks the machine around it."""

    def __init__(self, groups: Sequence[Group], keeper: int, *, whole: bool, services: bool) -> None:
        self._groups = groups
        self._keeper = keeper
        self._whole = whole
        self._with_services = services
        self._screen = Screen()
        self._outcomes: list[Outcome] = []

    def run(self) -> int:
        """Run everything, report, and return the exit code."""
        before = listeners.standing()
        shutil.rmtree(LOGS, ignore_errors=True)
        LOGS.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as scratch, ExitStack() as stack:
            # Jobs under other users look into directories below this one.
            Path(scratch).chmod(0o1777)
            environment = {"TMPDIR": scratch, **self._provide(Path(scratch), stack).environment()}
            self._screen.say()
            for group in self._groups:
                self._run_group(group, environment)
        if self._whole:
            self._outcomes += house.checked(before, Path(scratch), self._keeper, LOGS)
        return self._report()

    def _provide(self, scratch: Path, stack: ExitStack) -> Provision:
        wanted = [SERVICES[name] for name in SERVICES if any(name in group.services for group in self._groups)]
        if not self._with_services:
            return Provision(obstacles={service.name: "services were not asked for" for service in wanted})
        if not wanted:
            return Provision()
        return provide(wanted, scratch, stack, self._screen, present_only=os.environ.get("SERVICES") == "present")

    def _run_group(self, group: Group, environment: Mapping[str, str]) -> None:
        standing = frozenset(orphans.descendants(self._keeper))
        place = Place(
            environment=environment,
            directory=LOGS,
            coverage=self._whole,
            watch=lambda current: self._screen.live(group_line(current, group.shows)),
        )
        outcome = run_group(group, place)
        for pid, name in orphans.await_none(self._keeper, standing).items():
            outcome.fail(f"left a process behind: {pid} {name}")
        orphans.end_all(self._keeper, standing)
        self._outcomes.append(outcome)
        self._screen.say(group_line(outcome, group.shows))
        if outcome.output:
            self._screen.say(outcome.output)

    def _report(self) -> int:
        if os.environ.get("STRICT") == "1":
            strict(self._outcomes, frozenset(os.environ.get("STRICT_EXCEPT", "").split()))
        self._screen.say()
        for line in summary(self._outcomes):
            self._screen.say(line)
        self._screen.say()
        self._screen.say(verdict(self._outcomes))
        return 1 if any(outcome.failed for outcome in self._outcomes) else 0


def main(arguments: Sequence[str]) -> int:
    """Run the groups that were asked for, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.suite", description="Run the tests, group by group.")
    parser.add_argument("--groups", nargs="+", choices=[group.name for group in (QUICK, *GROUPS)], metavar="NAME")
    parser.add_argument("--no-services", action="store_true", help="start and install nothing")
    options = parser.parse_args(arguments)
    groups = [group for group in (QUICK, *GROUPS) if group.name in options.groups] if options.groups else GROUPS
    return orphans.kept(
        lambda keeper: Suite(groups, keeper, whole=not options.groups, services=not options.no_services).run()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
