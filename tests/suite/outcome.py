"""How a group of tests ended: counts, what was not run and why, and what to read."""

from dataclasses import dataclass, field

GPU_GAP = "gpu"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that was not run. `kind` is `gpu` where only a GPU is missing, else empty; `count` is in tests."""

    reason: str
    kind: str = ""
    count: int = 1


@dataclass(kw_only=True)
class Outcome:
    """The state of one group, written as its tests report; `output` is what a reader of a failure needs."""

    name: str
    passed: int = 0
    failed: int = 0
    gaps: list[Gap] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0

    @property
    def skipped(self) -> int:
        """Tests that were not run."""
        return sum(gap.count for gap in self.gaps)

    def fail(self, what: str) -> None:
        """Count one failure and keep its name."""
        self.failed += 1
        self.failures.append(what)


def strict(outcomes: list[Outcome], excepted: frozenset[str]) -> None:
    """Turn each gap, except those of the excepted kinds, into a failure."""
    for outcome in outcomes:
        counted = [gap for gap in outcome.gaps if gap.kind not in excepted]
        outcome.gaps = [gap for gap in outcome.gaps if gap.kind in excepted]
        for gap in counted:
            outcome.failed += gap.count or 1
            outcome.failures.append(f"not run ({gap.count}): {gap.reason}")
