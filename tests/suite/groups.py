"""
The table of groups: which tests belong together, what they need, how long they may take.

Every test belongs to one group. `quick` takes what carries no mark, wherever it stands; `docker` and `gpu` take what
carries theirs; the other groups take the rest by place, and the last of them what no other place names.
"""

from dataclasses import dataclass

UNMARKED = "not (integration or docker or gpu or slow)"
MARKED = "(integration or slow) and not docker and not gpu"


@dataclass(frozen=True, kw_only=True)
class Group:
    """
    One line of the report.

    `tests` are paths given to pytest, `excluded` paths it leaves alone, `marks` its expression. A group without tests
    runs `commands` instead, each of which counts as one. `workers` above 1 spreads the tests over so many processes.
    """

    name: str
    shows: str
    tests: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    marks: str = ""
    commands: tuple[tuple[str, ...], ...] = ()
    services: tuple[str, ...] = ()
    gpu: bool = False
    covered: bool = True
    workers: int = 1
    timeout_s: float = 600.0


PLACES = ("tests/kernel", "tests/conformance", "tests/app", "tests/cli", "tests/examples", "tests/bench")

GROUPS = (
    Group(
        name="lint",
        shows="ruff, mypy, pyright, import contracts",
        commands=(
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("mypy",),
            ("pyright",),
            ("lint-imports", "--no-logo"),
        ),
    ),
    Group(name="quick", shows="unit tests", tests=("tests",), marks=UNMARKED, timeout_s=300),
    Group(name="kernel", shows="mailboxes, supervision, cancellation", tests=("tests/kernel",), marks=MARKED),
    Group(name="conformance", shows="every adapter against its port", tests=("tests/conformance",), marks=MARKED),
    Group(name="adapters", shows="processes, files and devices", tests=("tests",), excluded=PLACES, marks=MARKED),
    Group(
        name="docker",
        shows="containers on a real engine",
        tests=("tests",),
        marks="docker and not gpu",
        services=("docker",),
    ),
    Group(name="app", shows="the whole ring under faults", tests=("tests/app",), marks=MARKED),
    Group(name="cli", shows="commands as a user types them", tests=("tests/cli",), marks=MARKED),
    Group(name="examples", shows="each example, executed", tests=("tests/examples",), marks=MARKED, covered=False),
    Group(name="bench", shows="each benchmark, on a small scale", tests=("tests/bench",), marks=MARKED, covered=False),
    Group(name="gpu", shows="real GPUs", tests=("tests",), marks="gpu", gpu=True, covered=False),
)
