"""A real runner at work in a process of its own, everything that it says kept, and ways to see what it did."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from adapters.queues.folder_names import read_message, read_stamped
from runner.receipt import Receipt
from tests.cli.typed import LIMIT_S, Typed, clean_environ, started

LOOK_AGAIN_S, REST = 0.02, 2.0
"""A look that is not cheap, as where a command is typed for it, is followed by a rest of twice its length."""


class AtWork:
    """One runner on one state directory. ``said`` is what it wrote to stderr, a document a line."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        self.process, self.state = process, state
        self.said: list[dict[str, Any]] = []
        self.spoke = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="reader of a runner")
        self._reader.start()

    @property
    def queue(self) -> Path:
        """The directory of the box's own queue."""
        return self.state / "queue"

    def type(self, *words: object, stdin: str = "") -> Typed:
        """Type a command for this runner's box, which never shows a traceback."""
        said = started(*words, environ={"RUNNER_STATE_DIR": str(self.state)}, stdin=stdin)
        assert "Traceback" not in said.out + said.err, said.err
        return said

    def follow(self, job_id: str, *words: object) -> Typed:
        """Submit a job and follow it to its end."""
        return self.type("submit", "--follow", "--id", job_id, *words)

    def receipt(self, job: str, *options: object) -> Receipt:
        """Return what is known of a job."""
        shown = self.type("show", job, *options, "--json")
        assert shown.status == 0, shown.err
        return msgspec.json.decode(shown.out, type=Receipt)

    def wait_for(self, action: str, **facts: object) -> dict[str, Any]:
        """Wait until it says something with these facts, now or before; return that."""

        def found() -> dict[str, Any] | None:
            wanted = {"action": action, **facts}.items()
            return next((line for line in self.said if wanted <= {k: str(v) for k, v in line.items()}.items()), None)

        with self.spoke:
            assert self.spoke.wait_for(lambda: found() or not self._reader.is_alive(), LIMIT_S), f"never said {action}"
        line = found()
        assert line is not None, f"it ended before it said {action}: {self.said[-3:]}"
        return line

    def stop(self, number: int = signal.SIGTERM, *, limit_s: float = LIMIT_S) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(limit_s)
        self._reader.join(limit_s)
        return status

    def end(self) -> None:
        """Kill it where it still runs, and read the rest of what it said."""
        self.process.kill()
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.spoke:
                self.said.append(read_line(line))
                self.spoke.notify_all()
        with self.spoke:
            self.spoke.notify_all()


def read_line(line: str) -> dict[str, Any]:
    """Read a line of the runner's log; one that is no document stands under ``text``."""
    with contextlib.suppress(ValueError):
        return dict(json.loads(line))
    return {"text": line}


@contextmanager
def at_work(
    state: Path,
    *options: object,
    gpus: str = "simulated:2",
    environ: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[AtWork]:
    """
    Start a runner, with more in its environment, and wait until it serves; killed at the end if it still runs.

    ``under`` is a program that takes rights from it, with its options.
    """
    command = [*under, sys.executable, "-m", "runner", "run", "--state-dir", str(state), "--gpus", gpus]
    command += ["--gpu-locks", str(state / "gpu-locks"), *map(str, options)]
    environment = {**clean_environ(), **(environ or {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        it = AtWork(process, state)
        try:
            it.wait_for("ready")
            yield it
        finally:
            it.end()


def until(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Look again and again until something is so, where nobody tells of it, and leave most of the time to others."""
    ends = time.monotonic() + limit_s
    began = time.monotonic()
    while not condition():
        looked_s = time.monotonic() - began
        assert time.monotonic() < ends, f"not within {limit_s:g} s: {what}"
        threading.Event().wait(max(LOOK_AGAIN_S, REST * looked_s))
        began = time.monotonic()


def end_orphans(directory: Path) -> None:
    """End the jobs of runners that will not come back, whose state stood below a directory, and remove their groups."""
    groups = set[Path]()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={directory}/".encode() in (process / "environ").read_bytes():
                groups |= set(groups_of(process))
    for group in groups:
        until(lambda group=group: emptied(group), f"{group} is empty")  # type: ignore[misc]  # bound now


def groups_of(process: Path) -> Iterator[Path]:
    """Return the control groups that a runner made for a process."""
    for line in (process / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if Path(path).name.startswith("runner."):
            yield Path("/sys/fs/cgroup", controllers.removeprefix("name="), path.lstrip("/"))


def emptied(group: Path) -> bool:
    """Kill what is in a control group, and remove it once nothing is."""
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        group.rmdir()
    return not group.exists()


def drop(queue: Path, name: str, body: bytes) -> None:
    """Put a file into a queue as somebody with ``cp`` does, written a while ago."""
    before = queue / "tmp" / f"dropping-{name}"
    before.write_bytes(body)
    os.utime(before, (time.time() - 60, time.time() - 60))
    before.rename(queue / "ready" / name)


def dead_letters(queue: Path) -> dict[bytes, tuple[str, str]]:
    """Return the rejected messages: their bodies, each with its submission and the reason."""
    found = {}
    for file in (queue / "dead").iterdir():
        stamped = read_stamped(file.name)
        message = read_message(stamped[1]) if stamped else None
        assert message is not None, file.name
        note = json.loads((queue / "notes" / message.submission).read_text())
        found[file.read_bytes()] = message.submission, str(note["reason"])
    return found


def left_in(queue: Path) -> list[str]:
    """Name every message that is not settled."""
    return [path.name for part in ("ready", "claimed", "later") for path in (queue / part).iterdir()]
