"""
What a runner costs that has nothing to do: the time to its first poll, its memory, its processor time, its imports.

A real ``runner run`` beside a certs directory with one folder queue. **First poll**: from the process start until a
message that lay there before is claimed: what a poll looks like from outside, its file leaves ``ready``. Memory and
processor time are the kernel's account in ``/proc`` of the runner alone, after the job ended.
**Imports**: a second start with ``-X importtime`` names every module that was loaded; adapters that nothing configures
must not be among them. Bars: 0.6 s, 80 MiB, 1 % of a core.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import arguments, report

FIRST_POLL_S, RSS_MIB, CPU_SHARE = 0.6, 80.0, 0.01
WATCHED_S = 30.0
LIMIT_S = 20.0
ABSENT = ("aiodocker", "pynvml", "redis", "aio_pika", "aiobotocore", "re2", "rich")


@contextmanager
def running(home: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Start a runner on a state directory and a certs directory of its own; killed at the end."""
    (home / "certs").mkdir(parents=True)
    (home / "certs" / "queue.toml").write_text(f'kind = "folder"\nurl = "folder://{home}/q"\nruntime = "process"\n')
    words = ["-m", "runner", "run", "--state-dir", str(home / "state"), "--certs-dir", str(home / "certs")]
    rest = ["--gpus", "none", "--docker-host", f"unix://{home}/none.sock", "--no-own-queue"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_")}
    # Compiled once and kept, as on any machine that runs it twice; beside the checkout nothing is written.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ["PYTHONPYCACHEPREFIX"] = str(home.parent / "compiled")
    with subprocess.Popen(
        [sys.executable, *flags, *words, *rest], stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_poll_s(home: Path) -> float:
    """Measure one start."""
    ready = home / "q" / "ready"
    put(home)
    begun = time.perf_counter()
    with running(home):
        while any(ready.iterdir()):
            assert time.perf_counter() - begun < LIMIT_S, "the message was never claimed"
            threading.Event().wait(0.001)
        return time.perf_counter() - begun


def put(home: Path) -> None:
    """Leave one job in the queue."""
    words = ["submit", "--queue", f"folder://{home}/q", "--state-dir", str(home / "client"), "--", "true"]
    subprocess.run([sys.executable, "-m", "runner", *words], check=True, capture_output=True, timeout=LIMIT_S)


def idle(home: Path) -> dict[str, float]:
    """Let a runner stand for a while, and account for it."""
    with running(home) as process:
        wait_ready(process)
        threading.Event().wait(10.0)
        before = cpu_s(process.pid)
        threading.Event().wait(WATCHED_S)
        share = (cpu_s(process.pid) - before) / WATCHED_S
        return {"rss_mib": rss_mib(process.pid), "cpu_share": round(share, 5)}


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Wait for the line that says that it serves."""
    assert process.stderr is not None
    for line in process.stderr:
        if '"ready"' in line:
            return
    raise AssertionError("the runner ended before it served")


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert resident
    return round(int(resident.group(1)) / 1024, 1)


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def imported(home: Path) -> set[str]:
    """Name the packages that a start loads until it serves."""
    with running(home, "-X", "importtime") as process:
        assert process.stderr is not None
        names: set[str] = set()
        for line in process.stderr:
            if '"ready"' in line:
                return names
            if line.startswith("import time:"):
                names.add(line.rpartition("|")[2].strip().partition(".")[0])
    raise AssertionError("the runner ended before it served")


def main() -> int:
    options = arguments(__doc__, rounds=7).parse_args()
    with tempfile.TemporaryDirectory(prefix="runner-idle-") as scratch:
        home = Path(scratch)
        home.chmod(0o755)
        first_poll_s(home / "warm-up")
        starts = [first_poll_s(home / f"start{number}") for number in range(options.rounds)]
        needless = sorted(imported(home / "imports").intersection(ABSENT))
        standing = idle(home / "idle")
    poll_s = statistics.median(starts)
    reached = poll_s <= FIRST_POLL_S and standing["rss_mib"] < RSS_MIB and standing["cpu_share"] < CPU_SHARE
    figures = {
        "first_poll_s": round(poll_s, 3),
        "first_poll_most_s": round(max(starts), 3),
        **standing,
        "needless_imports": needless,
        "bars": {"first_poll_s": FIRST_POLL_S, "rss_mib": RSS_MIB, "cpu_share": CPU_SHARE},
        "reached": reached and not needless,
    }
    return report("idle", figures, options)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
