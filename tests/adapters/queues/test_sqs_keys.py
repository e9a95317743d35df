"""Keys that a box has from its surroundings: found, looked for anew, and missed in words; behind them is moto."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.adapters.queues.test_sqs_answers import ROOT
from tests.cloud import ROLE_ARN, SECRET, Cloud, cloud, surroundings
from tests.conformance.sqs_harness import MotoHarness

pytestmark = pytest.mark.broker

ASKS = """
import asyncio, sys, time
from adapters.queues.sqs import SqsBroker
from runner.credential import Credential
from runner.errors import ConfigurationError, RunnerError

async def main():
    url, *options = sys.argv[1:]
    credential = Credential(kind="sqs", url=url, options=dict(option.split("=") for option in options))
    broker = SqsBroker(credential, box_id="b", now=time.time)
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            print((await broker.open("train")).identity, flush=True)
        except RunnerError as error:
            kind = "ConfigurationError" if isinstance(error, ConfigurationError) else type(error).__name__
            print(kind, error, flush=True)
    await broker.close()

asyncio.run(main())
"""
IDENTITY = "arn:aws:sqs:eu-west-1:123456789012:train"
ANSWER_S = 12.0
"""An answer, whatever it is, with what a program takes to begin."""


class Asking:
    """A box in a process of its own that looks for a queue whenever it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self) -> str:
        """Return the queue's identity, or what is wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(60.0, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return self._process.stdout.readline().strip()
        finally:
            timer.cancel()
            timer.join()


@contextmanager
def asking(directory: Path, environment: dict[str, str], *options: str) -> Iterator[Asking]:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(directory), **environment}
    command = [sys.executable, "-c", ASKS, "sqs://eu-west-1/train", *options]
    with subprocess.Popen(command, env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Asking(process)


@pytest.fixture
def surrounding() -> Iterator[Cloud]:
    with cloud(MotoHarness(Path()).endpoint) as it:
        yield it


@pytest.mark.parametrize("where", ["environment", "profile", "web identity", "instance role"])
def test_keys_are_found(surrounding: Cloud, tmp_path: Path, where: str) -> None:
    environment, options = surroundings(where, surrounding, tmp_path)
    with asking(tmp_path, environment, f"endpoint={surrounding.url}", *options) as box:
        assert IDENTITY == box.ask()
    assert surrounding.issued == 1
    assert surrounding.turned_away == 0


def test_a_web_identity_is_one_to_a_real_sts(surrounding: Cloud, tmp_path: Path) -> None:
    """Its answer is read as that of the one that stands in for it elsewhere."""
    environment, _ = surroundings("web identity", surrounding, tmp_path)
    environment["AWS_ENDPOINT_URL_STS"] = surrounding.behind
    with asking(tmp_path, environment, f"endpoint={surrounding.behind}") as box:
        assert IDENTITY == box.ask()


@pytest.mark.parametrize("where", ["profile", "web identity", "instance role"])
def test_keys_that_no_longer_count_are_looked_for_again(surrounding: Cloud, tmp_path: Path, where: str) -> None:
    """Not only when they said that they would end: it is told once, and the call after it has others."""
    environment, options = surroundings(where, surrounding, tmp_path)
    with asking(tmp_path, environment, f"endpoint={surrounding.url}", *options) as box:
        assert IDENTITY == box.ask()
        surrounding.revoke()
        surroundings(where, surrounding, tmp_path)
        said = box.ask()
        assert ": session_token has expired" in said
        assert "credential file" not in said
        assert IDENTITY == box.ask()


def test_a_role_that_a_box_is_given_later_is_found(surrounding: Cloud, tmp_path: Path) -> None:
    surrounding.role = False
    environment, _ = surroundings("instance role", surrounding, tmp_path)
    with asking(tmp_path, environment, f"endpoint={surrounding.url}") as box:
        assert "no keys were found" in box.ask()
        surrounding.role = True
        assert IDENTITY == box.ask()


def test_where_keys_were_looked_for_is_told(surrounding: Cloud, tmp_path: Path) -> None:
    """In a sentence, and soon, also where nothing answers at the address of the instance's data."""
    surrounding.silent = True
    environment, _ = surroundings("instance role", surrounding, tmp_path)
    with asking(tmp_path, environment, f"endpoint={surrounding.url}") as box:
        began = time.monotonic()
        said = box.ask()
        assert time.monotonic() - began < ANSWER_S
    assert said.startswith("ConfigurationError look for queue train at sqs://eu-west-1/: no keys were found")
    for place in ("credential file", "environment", "AWS files", "web identity", "role"):
        assert place in said
    assert surrounding.asked > 0


def test_a_profile_without_keys_is_named(surrounding: Cloud, tmp_path: Path) -> None:
    environment, _ = surroundings("profile", surrounding, tmp_path)
    Path(environment["AWS_CONFIG_FILE"]).write_text("[profile lab]\nregion = eu-west-1\n")
    with asking(tmp_path, environment, f"endpoint={surrounding.url}", "profile=lab") as box:
        assert "no keys were found in the profile lab" in box.ask()


def break_role(surrounding: Cloud, directory: Path, environment: dict[str, str]) -> None:
    environment["AWS_ROLE_ARN"] = ROLE_ARN + "-of-nobody"


def leave_role_out(surrounding: Cloud, directory: Path, environment: dict[str, str]) -> None:
    del environment["AWS_ROLE_ARN"]


def leave_token_out(surrounding: Cloud, directory: Path, environment: dict[str, str]) -> None:
    Path(environment["AWS_WEB_IDENTITY_TOKEN_FILE"]).unlink()


def let_token_end(surrounding: Cloud, directory: Path, environment: dict[str, str]) -> None:
    surrounding.identity = "another-one"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (break_role, "no keys were found: AssumeRoleWithWebIdentity answered AccessDenied: no such role"),
        (leave_role_out, "AWS_ROLE_ARN"),
        (leave_token_out, "cannot read "),
        (let_token_end, "no keys were found: AssumeRoleWithWebIdentity answered ExpiredTokenException: Token expired"),
    ],
)
def test_what_is_wrong_with_a_web_identity_is_told(
    surrounding: Cloud, tmp_path: Path, fault: Callable[[Cloud, Path, dict[str, str]], None], words: str
) -> None:
    """It is not SQS that refuses, and not the credential file that is to be mended."""
    environment, _ = surroundings("web identity", surrounding, tmp_path)
    fault(surrounding, tmp_path, environment)
    with asking(tmp_path, environment, f"endpoint={surrounding.url}") as box:
        said = box.ask()
    assert said.startswith("ConfigurationError look for queue train at sqs://eu-west-1/: "), said
    assert words in said
    assert "sqs:GetQueueUrl" not in said
    assert SECRET not in said


def test_keys_that_still_count_are_used_while_sts_is_silent(surrounding: Cloud, tmp_path: Path) -> None:
    """They are renewed in their last minutes, before they must be."""
    environment, _ = surroundings("web identity", surrounding, tmp_path)
    surrounding.life_s = 780.0
    with asking(tmp_path, environment, f"endpoint={surrounding.url}") as box:
        assert IDENTITY == box.ask()
        surrounding.silent = True
        began = time.monotonic()
        assert IDENTITY == box.ask()
        assert time.monotonic() - began < ANSWER_S


def test_an_sts_that_is_silent_is_not_waited_for_long(surrounding: Cloud, tmp_path: Path) -> None:
    environment, _ = surroundings("web identity", surrounding, tmp_path)
    surrounding.silent = True
    with asking(tmp_path, environment, f"endpoint={surrounding.url}") as box:
        began = time.monotonic()
        said = box.ask()
        assert time.monotonic() - began < ANSWER_S
    assert said.startswith("Unavailable look for queue train at sqs://eu-west-1/")
