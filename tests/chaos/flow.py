"""
Kill runners while 50,000 lines a second flow: ``python -m tests.chaos.flow --rounds 20``, beside ``tests.services``.

Prints one JSON line a runtime. The exit code is 1 where a log was not what was written; such a round is told with its
seed, and played again with ``--seed``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.chaos.rounds import LEASE_S
from tests.flow import KILLS, SECONDS, Containers, Flowed, Processes, Runtime, play
from tests.shared_queue import SharedQueue, service

RUNTIMES: dict[str, Callable[[], Runtime]] = {"process": Processes, "container": Containers}


def main() -> int:
    """Play, account, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.flow", description="Kill runners while logs flow.")
    parser.add_argument("--rounds", type=int, default=20, help="for each runtime")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=tuple(RUNTIMES))
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--kills", type=int, default=KILLS, help="in each round")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="that a job writes for")
    options = parser.parse_args()
    if "container" in options.runtimes and "RUNNER_TEST_DOCKER" not in os.environ:
        parser.error("RUNNER_TEST_DOCKER is not set: run it beside tests.services, as `make chaos-logs` does")
    clean = [_played(name, options) for name in options.runtimes]
    return 0 if all(clean) else 1


def _played(name: str, options: argparse.Namespace) -> bool:
    began, rounds = time.monotonic(), list[Flowed]()
    for seed in range(options.seed, options.seed + options.rounds):
        with tempfile.TemporaryDirectory(prefix="rt-flow-", dir="/tmp") as directory:
            Path(directory).chmod(0o755)
            shared = SharedQueue(Path(directory), service("folder"), lease_s=LEASE_S)
            flowed = play(shared, RUNTIMES[name](), seed, kills=options.kills, seconds=options.seconds)
        rounds.append(flowed)
        print(f"{name}: round {len(rounds)} of {options.rounds}, {flowed.kills} kills", file=sys.stderr, flush=True)
        print("".join(f"seed {seed}: {it}\n" for it in flowed.wrong), end="", file=sys.stderr, flush=True)
    wrong = sum(bool(flowed.wrong) for flowed in rounds)
    figures = {"runtime": name, "rounds": len(rounds), "kills": sum(it.kills for it in rounds), "wrong": wrong}
    print(msgspec.json.encode({**figures, "seconds": round(time.monotonic() - began, 1)}).decode(), flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
