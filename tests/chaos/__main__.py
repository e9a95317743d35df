"""
Play rounds over every service that is here: ``python -m tests.chaos --rounds 200``, beside ``tests.services``.

Prints one JSON line a service: rounds, and how many jobs were lost, started twice, settled twice, or ended wrongly.
The exit code is 1 where any was. A round that went wrong is told with its seed, and played again with ``--seed``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import msgspec

from tests.chaos.cast import Engines, Processes
from tests.chaos.rounds import LEASE_S, Account, play
from tests.shared_queue import SharedQueue, service

SERVICES = ("folder", "redis", "rabbitmq", "sqs")
CONTAINERS = "containers"
"""A folder again, whose jobs run in containers."""
PLAYED = (*SERVICES, CONTAINERS)


def main() -> int:
    """Play, account, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill runners, account for the jobs.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each service")
    parser.add_argument("--services", nargs="+", choices=PLAYED, default=PLAYED)
    parser.add_argument("--at-once", type=int, default=6, help="rounds that are played at the same time")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    options = parser.parse_args()
    try:
        lines = {name: lines_of(name) for name in options.services}
    except KeyError as missing:
        parser.error(f"{missing.args[0]} is not set: run it beside tests.services, as `make chaos` does")
    began = time.monotonic()
    accounts = rounds(lines, range(options.seed, options.seed + options.rounds), at_once=options.at_once)
    for name, of_service in accounts.items():
        print(line_of(name, of_service, time.monotonic() - began), flush=True)
    return 0 if all(account.clean for of_service in accounts.values() for account in of_service) else 1


def rounds(lines: Mapping[str, str], seeds: range, *, at_once: int) -> dict[str, list[Account]]:
    """Play one round a service and seed, so many at once; say of each that went wrong what did."""
    accounts: dict[str, list[Account]] = {name: [] for name in lines}
    with tempfile.TemporaryDirectory(prefix="rt-chaos-", dir="/tmp") as directory, ThreadPoolExecutor(at_once) as pool:
        Path(directory).chmod(0o755)
        played = {
            pool.submit(_play, name, lines[name], Path(directory) / f"{name}-{seed}", seed): name
            for seed in seeds
            for name in lines
        }
        try:
            for number, done in enumerate(as_completed(played), 1):
                account, name = done.result(), played[done]
                accounts[name].append(account)
                if not account.clean:
                    print(f"\n{name}: {msgspec.json.encode(account).decode()}", file=sys.stderr)
                if sys.stderr.isatty() or number % 100 == 0:
                    print(f"\r{number} of {len(played)} rounds", end="", file=sys.stderr, flush=True)
        except BaseException:
            # Interrupted: those that are played now end by themselves.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    print(file=sys.stderr)
    return accounts


def lines_of(name: str) -> str:
    """
    Return the lines of a credential file.

    Raises:
        KeyError: there is no such service, or no engine, here.
    """
    if name == CONTAINERS:
        os.environ["RUNNER_TEST_DOCKER"]
    return service("folder" if name == CONTAINERS else name)


def _play(name: str, lines: str, directory: Path, seed: int) -> Account:
    directory.mkdir()
    shared = SharedQueue(directory, lines, lease_s=LEASE_S)
    try:
        return play(Engines(shared) if name == CONTAINERS else Processes(shared), seed)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def line_of(name: str, accounts: list[Account], seconds: float) -> str:
    """Return the JSON line of one service."""
    figures = {
        "service": name,
        "rounds": len(accounts),
        "kills": sum(len(account.kills) for account in accounts),
        "lost": sum(len(account.lost) for account in accounts),
        "doubled": sum(len(account.doubled) for account in accounts),
        "double_settled": sum(len(account.double_settled) for account in accounts),
        "wrong": sum(len(account.wrong) for account in accounts),
        "seconds": round(seconds, 1),
    }
    return msgspec.json.encode(figures).decode()


if __name__ == "__main__":
    sys.exit(main())
