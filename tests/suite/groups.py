"""
The table of groups: which tests belong together, what they need, how long they may take.

In a whole run every test belongs to one group: `docker`, `brokers` and `gpu` take what carries their mark, the others
take the rest by place, and `units` what no other place names. `quick` is for itself: all that carries no mark, wherever
it stands, except the many seeded rounds of the whole ring.
"""

from dataclasses import dataclass

UNMARKED = "not (integration or docker or broker or gpu or slow)"
PLAIN = "not docker and not broker and not gpu"


@dataclass(frozen=True, kw_only=True)
class Group:
    """
    One line of the report.

    `tests` are paths given to pytest, `excluded` paths it leaves alone, `marks` its expression. A group without tests
    runs `commands` instead, each of which counts as one. `workers` above 1 spreads the tests over so many processes,
    `by_file` those of a file together, since they build upon each other.
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
    by_file: bool = False
    timeout_s: float = 600.0


PLACES = {
    "kernel": ("tests/kernel",),
    "conformance": ("tests/conformance",),
    "processes": ("tests/adapters/containers", "tests/escape"),
    "adapters": ("tests/adapters",),
    "app": ("tests/test_app*.py", "tests/test_killed*.py"),
    "whole": (
        "tests/test_bad_input*.py",
        "tests/test_full_disk*.py",
        "tests/test_shared*.py",
        "tests/test_retention*.py",
    ),
    "cli": ("tests/cli",),
    "examples": ("tests/examples",),
    "bench": ("tests/bench",),
}

QUICK = Group(
    name="quick",
    shows="unit tests",
    tests=("tests",),
    excluded=("tests/test_app.py",),
    marks=UNMARKED,
    workers=2,
    timeout_s=180,
)

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
    Group(
        name="units",
        shows="what needs no place of its own",
        tests=("tests",),
        excluded=tuple(path for paths in PLACES.values() for path in paths),
        marks=PLAIN,
        workers=2,
    ),
    Group(name="kernel", shows="mailboxes, supervision, cancellation", tests=PLACES["kernel"], marks=PLAIN),
    Group(
        name="conformance",
        shows="every adapter against its port",
        tests=PLACES["conformance"],
        marks=PLAIN,
        services=("syslog",),
    ),
    Group(
        name="adapters",
        shows="files, journals, wires, devices",
        tests=PLACES["adapters"],
        excluded=PLACES["processes"],
        marks=PLAIN,
        services=("compiler",),
        workers=2,
    ),
    Group(
        name="processes",
        shows="the process runtime",
        tests=PLACES["processes"],
        marks=PLAIN,
        services=("bubblewrap", "podman"),
    ),
    Group(
        name="docker",
        shows="containers on a real engine",
        tests=("tests",),
        marks="docker and not gpu",
        services=("docker",),
    ),
    Group(
        name="brokers",
        shows="queues and results in real services",
        tests=("tests",),
        marks="broker and not gpu and not docker",
        services=("redis", "rabbitmq", "localstack", "moto"),
        # Most of them wait for what brokers do by the clock.
        workers=6,
        timeout_s=1500,
    ),
    Group(name="app", shows="the whole ring, under faults and kills", tests=PLACES["app"], marks=PLAIN, workers=2),
    Group(
        name="whole",
        shows="runners that run, against bad input, full disks, time",
        tests=PLACES["whole"],
        marks=PLAIN,
        workers=2,
        by_file=True,
    ),
    Group(name="cli", shows="commands as a user types them", tests=PLACES["cli"], marks=PLAIN),
    Group(name="examples", shows="each example, executed", tests=PLACES["examples"], marks=PLAIN, covered=False),
    Group(
        name="bench",
        shows="each benchmark, on a small scale",
        tests=PLACES["bench"],
        marks=PLAIN,
        covered=False,
    ),
    Group(name="gpu", shows="real GPUs", tests=("tests",), marks="gpu", gpu=True, covered=False),
)
