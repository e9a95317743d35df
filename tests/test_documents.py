"""What the documents say is so: commands run, paths exist, and tables agree with the program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

import runner
from adapters import registry
from adapters.containers.confinement import Confinement
from adapters.containers.uids import Uids
from adapters.credential_keys import LATER_KEYS
from adapters.sinks.opening import SINKS
from runner.app import CLOSING_S
from runner.cli.commands import COMMANDS
from runner.cli.reference import EVERYTHING
from runner.config import FIELDS, Config, resolve
from runner.job import ENDINGS, FAULTS_MAX, EndReason, Verdict, Whose
from runner.unserved import not_served
from tests.cli.typed import LIMIT_S, clean_environ, typed
from tests.markdown import ROOT, Page

README, ARCHITECTURE, SECURITY = Page("README.md"), Page("ARCHITECTURE.md"), Page("SECURITY.md")


CONTRIBUTING, CHANGELOG = Page("CONTRIBUTING.md"), Page("CHANGELOG.md")


PAGES = (README, ARCHITECTURE, SECURITY, CONTRIBUTING, CHANGELOG)


RUNNER = ".venv/bin/runner"


MADE_LATER = {RUNNER, "bench/results"}


"""Paths that a checkout does not have before something was run."""


NAMED_ELSEWHERE = {
    "RUNNER_DEADLINE_FILE",
    "RUNNER_SECRETS_DIR",
    "RUNNER_QUEUE_USERNAME",
    "RUNNER_QUEUE_PASSWORD",
    "RUNNER_QUEUE",
    "RUNNER_RESULTS",
    "RUNNER_CONFIG",
    "RUNNER_DEBUG",
}


"""Variables that are no key of the configuration."""


# Commands


def typed_blocks() -> list[str]:
    """Return the blocks of the README that a newcomer pastes into a shell, but for those of make."""
    return [block for block in README.blocks("sh") if RUNNER in block]


def prepared(directory: Path) -> dict[str, str]:
    """Make a place as a checkout is after `make venv`, with all that a runner keeps inside of it."""
    program = directory / RUNNER
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m runner "$@"\n')
    program.chmod(0o755)
    kept = {"RUNNER_STATE_DIR": f"{directory}/state", "RUNNER_GPU_LOCKS": f"{directory}/locks"}
    return {**clean_environ(), **kept, "TMPDIR": str(directory)}


def pasted(block: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as it stands, but for /tmp; what it leaves running is waited for, or ended after a while."""
    script = block.replace("/tmp/", f"{directory}/") + "\nwait\n"
    shell = subprocess.Popen(
        ["sh", "-eu", "-c", script],
        cwd=directory, env=prepared(directory), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = shell.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess([], shell.returncode, out, err)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.communicate()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, ("42\n", "2 pear\n", "succeeded, exit 0")),
        (1, ("from a shared queue\n", "succeeded", "train.toml")),
    ],
)
def test_a_newcomer_succeeds_by_copying(number: int, expected: tuple[str, ...], tmp_path: Path) -> None:
    """Each block is pasted whole; the runner that it starts drains in the end."""
    done = pasted(typed_blocks()[number], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [words for words in expected if words not in done.stdout] == []


def test_every_block_of_commands_is_tried_or_is_makes() -> None:
    """A block of another kind would be shown to newcomers and run by nobody."""
    others = [block for block in chain(*(page.blocks("sh") for page in PAGES)) if block not in typed_blocks()]
    assert len(typed_blocks()) == 2
    assert [line for block in others for line in block.splitlines() if not re.match(r"make [a-z-]+ ", line)] == []


def test_targets_of_make_exist_and_the_quick_tests_come_first() -> None:
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {name for page in PAGES for name in re.findall(r"(?:^|`|= )make ([a-z-]+)", page.text, re.MULTILINE)}
    assert named - set(known) == set()
    assert README.text.index("make test-quick") < README.text.index("make test ")


@cache
def options_of(command: str) -> frozenset[str]:
    """Return the options that a command's help lists."""
    return frozenset(re.findall(r"--[a-z][a-z-]+", typed(command, "--help").out))


def command_lines() -> list[str]:
    """Return every line of the documents and examples that types a command."""
    pasted_lines = chain(*(block.splitlines() for block in typed_blocks()))
    lines = chain(pasted_lines, *(page.spans() for page in PAGES))
    deployed = (ROOT / "examples/deployment/runner.service").read_text().splitlines()
    typed_lines = (
        re.sub(rf"^(ExecStart=\S*/runner|# *runner|{RUNNER}) ", "runner ", line) for line in chain(lines, deployed)
    )
    return [line.partition(" -- ")[0] for line in typed_lines if line.startswith("runner ")]


def test_commands_and_their_options_are_those_of_the_program() -> None:
    """A renamed option is found before a reader finds it."""
    unknown = []
    for line in command_lines():
        command = line.split()[1]
        asked = set(re.findall(r"(?<=\s)--[a-z][a-z-]+", line))
        if command != "COMMAND" and (command not in COMMANDS or not asked <= options_of(command)):
            unknown.append(line)
    assert unknown == []
    assert len(command_lines()) > 15


def test_options_and_variables_named_alone_exist() -> None:
    every_option = frozenset().union(*(options_of(command) for command in COMMANDS))
    spans = [span for page in PAGES for span in page.spans()]
    options = {span.split()[0] for span in spans if span.startswith("--")}
    variables = {name for span in spans for name in re.findall(r"\bRUNNER_[A-Z_]+", span)}
    assert options - every_option == set()
    assert variables - NAMED_ELSEWHERE - {f"RUNNER_{key.upper()}" for key in FIELDS} == set()


# Paths


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Page) -> None:
    looks_like_one = re.compile(r"[\w.-]+(/[\w.*-]+)+/?|[\w-]+\.(md|toml|py|txt)|[A-Z]+")
    named = {span for span in page.spans() if looks_like_one.fullmatch(span) and not span.isupper()} | {*page.links()}
    assert [path for path in sorted(named - MADE_LATER) if not list(ROOT.glob(path))] == []
    assert named or page is CHANGELOG


# What is promised and served


def test_the_ends_are_those_of_the_program() -> None:
    """Each reason stands in one row, with whose it is, its verdict and what --follow exits with."""
    told = [told_end for row in README.table("end reason") for told_end in ends_of(row)]
    expected = [
        (reason.value, ending.whose.value, ending.verdict.value if ending.verdict else "none", exit_told(reason))
        for reason, ending in ENDINGS.items()
    ]
    assert sorted(told) == sorted(expected)
    assert {5: "fifth"}[FAULTS_MAX] in README.text


def ends_of(row: list[str]) -> list[tuple[str, str, str, str]]:
    reasons, exits = row[0].split(" · "), row[3].split(" · ")
    whose = row[1].removeprefix("the ").removesuffix("'s").removesuffix(" has it").removeprefix("an") or "nobody"
    verdict = re.split(r"\W", row[2])[0].lower()
    exits = exits * len(reasons) if len(exits) == 1 else exits
    return [(reason, whose, verdict, exit_) for reason, exit_ in zip(reasons, exits, strict=True)]


def exit_told(reason: EndReason) -> str:
    ending = ENDINGS[reason]
    if ending.whose is Whose.OTHER_BOX:
        return "not at all: it goes on with the box that has it"
    return "its code (128+n for signal n)" if ending.follow_exit is None else str(ending.follow_exit)


def test_whoever_fails_first_is_retried_by_its_verdict() -> None:
    """The words beside RETRY name what becomes of it in the end."""
    rows = {row[1]: row[2] for row in README.table("end reason")}
    assert rows["the job's"].endswith(f"then {Verdict.ACK.value.upper()}")
    assert rows["the box's"].startswith("RETRY, no attempt burnt; REJECT")


def test_what_is_served_and_what_is_not_is_told_whole() -> None:
    """The list of the README is what the program rejects, and its table is what the registry opens."""
    rejected = README.text.partition("is rejected by name, never run without it: ")[2].partition(". A credential")[0]
    assert re.findall(r"`([^`]+)`", rejected) == list(not_served(EVERYTHING))
    served = [set(re.findall(r"`(\w+)`", row[1])) for row in README.table("what")]
    backends = set(registry.RESULTS) - {"rediss"}
    tables = (registry.BROKERS, backends, SINKS, registry.STORES, registry.dialects(), ("process", "container"))
    assert [set(table) for table in tables] == [*served[:3], served[3] - {"submit"}, *served[4:6]]


def test_each_claim_says_what_it_is_shown_with_and_by_what() -> None:
    for claim, shown, by in README.table("claim"):
        assert shown.partition(":")[0] in {"real", "fake", "not tried"}, claim
        assert by or shown == "not tried", claim


@pytest.mark.parametrize("way", ["view", "uid", "bwrap", "plain"])
def test_the_ways_leave_open_what_receipts_say(way: str, tmp_path: Path) -> None:
    """Whoever reads SECURITY.md and whoever reads a receipt learn the same."""
    (cell,) = [row[3] for row in SECURITY.table("way") if row[0].startswith(f"`{way}`")]
    uids = Uids(1, 1, str(tmp_path)) if way in {"view", "uid"} else None
    missing = Confinement(way=way, setsid="setsid", setpriv="setpriv", uids=uids, call_filter=b"one").missing  # type: ignore[arg-type]
    assert [words for words in missing if words not in cell] == []


# Dependencies


def test_every_dependency_is_listed_with_its_pin_and_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = chain(*project["dependency-groups"].values())
    check_dependencies("package", project["project"]["dependencies"], "requirements.txt")
    developing = [wanted for wanted in groups if isinstance(wanted, str)]
    check_dependencies("to build or develop", developing, "requirements-dev.txt")


def check_dependencies(heading: str, wanted: list[str], lock: str) -> None:
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / lock).read_text(), re.MULTILINE))
    names = sorted(re.split(r"[\[<>=]", text)[0] for text in wanted)
    rows = README.table(heading)
    assert [(name, pinned[name]) for name in names] == sorted((row[0].strip("`"), row[1]) for row in rows)
    assert all(row[2] for row in rows)


# Examples that are no jobs


def test_keys_of_credential_files_that_are_not_served_are_told() -> None:
    assert set(LATER_KEYS) <= set(README.spans())


@pytest.mark.parametrize("name", ["runner.service", "kubernetes.yaml"])
def test_what_is_deployed_sets_keys_that_exist_to_values_that_fit(name: str) -> None:
    """The rest of it is not tried, and says so."""
    text = (ROOT / "examples/deployment" / name).read_text()
    pairs = re.findall(r'(?:Environment=|name: )(RUNNER_\w+)(?:=|, value: ")([^"\n]+)', text)
    config, _ = resolve({}, dict(pairs), {}, "")
    assert {pair for pair, _ in pairs} <= {f"RUNNER_{key.upper()}" for key in FIELDS}
    assert (config != Config(), "NOT TRIED" in text) == (True, True)
    hooks = re.findall(r"preStop: {exec: {command: \[runner, (\w+)\]}}", text)
    assert hooks == (["drain"] if name == "kubernetes.yaml" else [])
    waits_s = {"13min": 780, "450": 450}[re.findall(r"(?:TimeoutStopSec=|GracePeriodSeconds: )(\w+)", text)[0]]
    assert waits_s >= config.drain_grace + config.preempt_grace + CLOSING_S, "the runner is killed before it has ended"


# Changes


def test_the_changelog_begins_with_this_version_and_its_commands() -> None:
    first = re.findall(r"^## (.+)$", CHANGELOG.text, re.MULTILINE)[0]
    assert first.split()[-1] == runner.__version__
    told = {word for span in CHANGELOG.spans() for word in span.split()}
    assert set(COMMANDS) - told == set()
