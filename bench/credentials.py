"""
How soon a queue is polled: from a credential file's appearance in its directory to the first fetch at its queue.

The runner is whole, composed as ``runner run`` does it, with one thing noted at the edge of its world: when a queue is
asked for its first message. Every file names a folder queue of its own. Each drop is a file that is renamed into the
directory, as a deployment tool writes it; ``in_place`` ones are written under their own name, and ``swapped`` ones come
with the exchange of a Kubernetes Secret's whole set.

Beside it, in turns within one run: a bare loop of the same watcher, as it comes, that reads the file which it was told
of and does nothing with it. Nobody who waits for the kernel's notices by way of that library is sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import uvloop
from watchfiles import Change, awatch

from adapters.registry import open_world
from bench.report import arguments, report
from runner.app import build
from runner.config import Config
from runner.credential import Credential
from runner.ports import NOBODY, Broker, Delivery, Queue
from runner.units import Size

BARS_MS = {"drop_p99_ms": 1000.0}
LIMIT_S = 30.0
SETTLED_S = 0.4
"""Between two drops, and up to half as long again, so that none keeps step with the watcher: all is over by then."""

Notes = dict[str, asyncio.Future[float]]


class NotedQueue:
    """A queue whose first fetch is noted."""

    def __init__(self, queue: Queue, noted: Callable[[], None]) -> None:
        """Keep it."""
        self._queue, self._noted = queue, noted

    def __getattr__(self, name: str) -> object:
        """Be the queue in all else."""
        return getattr(self._queue, name)

    async def fetch(self, wait_s: float, served: Mapping[str, float] = NOBODY) -> Delivery | None:
        """Note it, and fetch."""
        self._noted()
        return await self._queue.fetch(wait_s, served)


class NotedBroker:
    """A service whose queues are noted."""

    def __init__(self, broker: Broker, noted: Callable[[], None]) -> None:
        """Keep it."""
        self._broker, self._noted = broker, noted

    def __getattr__(self, name: str) -> object:
        """Be the service in all else."""
        return getattr(self._broker, name)

    async def open(self, name: str, *, make: bool = True) -> Queue:
        """Open a queue and note it."""
        # It is one in all that is asked of it.
        return cast("Queue", NotedQueue(await self._broker.open(name, make=make), self._noted))


def noting(open_broker: Callable[[Credential], Broker], notes: Notes) -> Callable[[Credential], Broker]:
    """Return an opener of services that notes the first fetch by URL."""

    def opened(credential: Credential) -> Broker:
        def noted() -> None:
            first = notes.get(credential.url)
            if first is not None and not first.done():
                first.set_result(time.perf_counter())

        return cast("Broker", NotedBroker(open_broker(credential), noted))

    return opened


@asynccontextmanager
async def running(config: Config, notes: Notes) -> AsyncIterator[None]:
    """Run a whole runner."""
    async with open_world(config) as world, asyncio.TaskGroup() as group:
        runner = build(config, dataclasses.replace(world, open_broker=noting(world.open_broker, notes)))
        run = group.create_task(runner.run())
        await runner.begun.wait()
        yield
        await runner.stop(grace_s=5.0, order=("logs",))
        run.cancel()


class Drops:
    """Ways in which a file comes into a directory, each for one drop; ``text`` is the file's."""

    def __init__(self, certs: Path) -> None:
        """Begin with what stands there before."""
        self._certs, self._sets = certs, 0

    def renamed(self, name: str, text: str) -> Path:
        """Write it elsewhere, and rename it into the directory."""
        aside = self._certs.parent / name
        aside.write_text(text)
        aside.chmod(0o600)
        return aside.rename(self._certs / f"{name}.toml")

    def in_place(self, name: str, text: str) -> Path:
        """Write it where it belongs."""
        path = self._certs / f"{name}.toml"
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def swapped(self, name: str, text: str) -> Path:
        """Exchange the whole set, then link the file to it."""
        self._sets += 1
        fresh, link, path = self._certs / f"..{self._sets}", self._certs / "..data_tmp", self._certs / f"{name}.toml"
        fresh.mkdir()
        (fresh / path.name).write_text(text)
        (fresh / path.name).chmod(0o600)
        link.symlink_to(fresh.name)
        link.rename(self._certs / "..data")
        path.symlink_to(f"..data/{path.name}")
        return path


async def pause() -> None:
    await asyncio.sleep(SETTLED_S + time.perf_counter() % (SETTLED_S / 2))


async def drop_ms(drop: Callable[[str, str], Path], name: str, queue: str, notes: Notes) -> float:
    """Drop a file, wait for its queue's first fetch, and take the file away."""
    url = f"folder://{queue}"
    notes[url] = asyncio.get_running_loop().create_future()
    begun = time.perf_counter()
    path = drop(name, f'kind = "folder"\nurl = "{url}"\n')
    async with asyncio.timeout(LIMIT_S):
        ended = await notes[url]
    path.unlink()
    await pause()
    return (ended - begun) * 1000


def read_file(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).read_bytes()


@asynccontextmanager
async def bare_loop(certs: Path) -> AsyncIterator[asyncio.Queue[tuple[str, float]]]:
    """Read every file that is told of; say which, and when that was."""
    read: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
    stop = asyncio.Event()

    async def loop() -> None:
        async for changes in awatch(certs, stop_event=stop, recursive=False):
            for path in {path for change, path in changes if change is not Change.deleted}:
                await asyncio.to_thread(read_file, path)
                read.put_nowait((Path(path).stem, time.perf_counter()))

    async with asyncio.TaskGroup() as group:
        group.create_task(loop())
        await asyncio.sleep(SETTLED_S)
        yield read
        stop.set()


async def bare_ms(drop: Callable[[str, str], Path], name: str, read: asyncio.Queue[tuple[str, float]]) -> float:
    """Drop a file and wait until the bare loop has read it."""
    begun = time.perf_counter()
    path = drop(name, 'kind = "folder"\nurl = "folder:///q"\n')
    async with asyncio.timeout(LIMIT_S):
        while (told := await read.get())[0] != name:
            pass
    path.unlink()
    await pause()
    return (told[1] - begun) * 1000


async def measure(directory: Path, rounds: int) -> dict[str, list[float]]:
    """Give everybody one turn a round."""
    certs, beside = directory / "certs", directory / "bare" / "certs"
    for place in (certs, beside):
        place.mkdir(parents=True)
    config = Config(
        state_dir=str(directory / "state"), certs_dir=str(certs), gpus="none", docker_host="", job_disk=Size(64 << 20)
    )
    notes, ours, bare = Notes(), Drops(certs), Drops(beside)
    taken: dict[str, list[float]] = {name: [] for name in ("drop", "in_place", "swapped", "bare")}
    async with running(config, notes), bare_loop(beside) as read:
        for number in range(rounds):
            for way, drop in (("drop", ours.renamed), ("in_place", ours.in_place), ("swapped", ours.swapped)):
                name = f"{way}-{number}"
                taken[way].append(await drop_ms(drop, name, str(directory / "queues" / name), notes))
            taken["bare"].append(await bare_ms(bare.renamed, f"bare-{number}", read))
    return taken


def figures(taken: dict[str, list[float]]) -> dict[str, float]:
    """Return milliseconds by name: the median, and what 99 of 100 stay below."""
    found: dict[str, float] = {}
    for who, times in taken.items():
        found[f"{who}_p50_ms"] = round(statistics.median(times), 1)
        found[f"{who}_p99_ms"] = round(sorted(times)[min(len(times) - 1, int(0.99 * len(times)))], 1)
    return found


def main() -> int:
    options = arguments(__doc__, rounds=100).parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        found = figures(uvloop.run(measure(Path(directory), options.rounds)))
    reached = all(found[name] <= bar for name, bar in BARS_MS.items())
    return report("credentials", {"rounds": options.rounds, **found, "bars": BARS_MS, "reached": reached}, options)


if __name__ == "__main__":
    raise SystemExit(main())
