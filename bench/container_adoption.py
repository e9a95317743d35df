"""How soon a runner that was killed has its containers back, seen from outside: by their logs, which grow again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.container_peers import MEMORY_BYTES

SAID = b"still here"
COUNTS = "while :; do echo still here; sleep 0.25; done"
LIMIT_S = 300.0
LOOK_AGAIN_S = 0.01
STOP_S = 60.0


class NotBackError(Exception):
    """Some container did not write, or was not taken back, in time."""


def adopted_s(url: str, image: str, directory: Path, count: int, number: int) -> float:
    """
    Start so many containers, kill their runner, start it anew, and return the seconds until all of them are its own.

    Raises:
        NotBackError: they were not in five minutes.
    """
    state = directory / f"adopting-{number}"
    with _runner(url, state) as first:
        _await((state / "queue" / "ready").exists, "the queue is there")
        _drop(state / "queue", image, count)
        _await(lambda: len(_grown(state, {})) == count, f"{count} containers write")
        first.kill()
        first.wait(STOP_S)
    before = _lines(state)
    began = time.perf_counter()
    with _runner(url, state) as second:
        _await(lambda: len(_grown(state, before)) == count, f"{count} containers are back")
        seconds = time.perf_counter() - began
        # Twice: drain, and now; jobs end as preempted.
        for _ in range(2):
            second.send_signal(signal.SIGTERM)
        second.wait(STOP_S)
    return seconds


@contextmanager
def _runner(url: str, state: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = ["--state-dir", str(state), "--docker-host", url, "--gpus", "none", "--drain-grace", "0"]
    command = [sys.executable, "-m", "runner", "run", *words]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    said = state.with_suffix(".log").open("ab")
    with said, subprocess.Popen(command, stdout=said, stderr=said, env=environ) as process:
        try:
            yield process
        finally:
            process.kill()


def _drop(queue: Path, image: str, count: int) -> None:
    """Put jobs so small that all of them fit on any box at once."""
    small = {"cpus": 0.02, "memory": MEMORY_BYTES // 4, "disk": 1 << 20}
    for number in range(count):
        job = {"id": f"counts-{number}", "image": image, "command": ["sh", "-c", COUNTS], "resources": small}
        unseen = queue / "tmp" / f"{number}.json"
        unseen.write_text(json.dumps({**job, "stop_grace": 0}))
        unseen.rename(queue / "ready" / unseen.name)


def _lines(state: Path) -> Counter[str]:
    """Return how many lines each job wrote, as far as its spool has them."""
    lines = Counter[str]()
    for path in (state / "spool").glob("counts-*/*"):
        lines[path.parent.name] += path.read_bytes().count(SAID)
    return lines


def _grown(state: Path, before: Mapping[str, int]) -> set[str]:
    return {name for name, count in _lines(state).items() if count > before.get(name, 0)}


def _await(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > ends:
            raise NotBackError(what)
        time.sleep(LOOK_AGAIN_S)
