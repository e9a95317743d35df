"""
The jobs of a round, how each must end, and the two runtimes that run them: who started is told by neither runner.

A process leaves a mark as it starts; the starts of containers are what the engine remembers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections import Counter
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from adapters.containers.docker_engine import Engine
from adapters.containers.docker_state import LABEL_BOX, LABEL_NAME
from tests.at_work import end_orphans
from tests.shared_queue import SharedQueue

MARK = 'touch "$(mktemp "{marks}/$RUNNER_JOB_ID.$RUNNER_ATTEMPT.XXXXXX")"; '
COUNTS = "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"


class Expected(NamedTuple):
    """How a job must end: why, after how many attempts, as how many dead letters, having said what."""

    reason: str
    attempts: int = 1
    dead: int = 0
    said: str = ""

    @property
    def log(self) -> tuple[int, str]:
        """Bytes and digest of the last attempt's log."""
        text = self.said.encode()
        return len(text), f"sha256:{hashlib.sha256(text).hexdigest()}" if text else ""


EXPECTED = {
    "quick": Expected("succeeded", said="quick\n"),
    "lasts": Expected("succeeded", said="".join(f"line {number}\n" for number in range(20))),
    "stores": Expected("succeeded", said="stores\n"),
    "fails": Expected("failed", attempts=2, said="fails\n"),
    "broken": Expected("rejected", dead=1),
}


class Runtime(ABC):
    """What runs the jobs of one round; ``options`` are for the runner."""

    options: tuple[str, ...] = ()

    def __init__(self, shared: SharedQueue) -> None:
        self.shared = shared

    def submit(self) -> None:
        """Put all jobs into the queue."""
        outputs = [{"path": "made", "url": f"folder://{self.shared.marks}/out/"}]
        self._put("quick", "echo quick")
        self._put("lasts", COUNTS)
        self._put("stores", "echo kept > made; echo stores", outputs=outputs)
        self._put("fails", "echo fails; exit 3", retries=1)
        self._put("broken", "true", retries="many")

    @abstractmethod
    def _put(self, job_id: str, script: str, **fields: object) -> None: ...

    @abstractmethod
    def starts(self) -> Counter[str]:
        """Count the starts of each attempt, by ``id.attempt``."""

    @abstractmethod
    def clear(self) -> None:
        """End what is left of the round."""


class Processes(Runtime):
    """Processes of this machine."""

    def _put(self, job_id: str, script: str, **fields: object) -> None:
        mark = MARK.format(marks=self.shared.marks)
        self.shared.submit({job_id: ["sh", "-c", mark + script]}, **fields)

    def starts(self) -> Counter[str]:
        return Counter(path.name.rpartition(".")[0] for path in self.shared.marks.glob("*.*.*"))

    def clear(self) -> None:
        end_orphans(self.shared.directory)


class _Happened(msgspec.Struct, frozen=True):
    actor: dict[str, object] = msgspec.field(name="Actor")

    @property
    def labels(self) -> dict[str, str]:
        """What the container carries, among what else the engine tells of it."""
        return msgspec.convert(self.actor["Attributes"], dict[str, str])

    @property
    def attempt(self) -> str:
        """The id and attempt of a job whose container it happened to: it is called ``id.hash.attempt``."""
        key, _, attempt = self.labels[LABEL_NAME].rpartition(".")
        return f"{key.rpartition('.')[0]}.{attempt}"


class Watch:
    """Every start of a container of a runner, as the engine tells of it: it remembers only some hundred events."""

    def __init__(self, path: str) -> None:
        self._seen: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        filters = json.dumps({"type": ["container"], "event": ["start"], "label": [LABEL_BOX]})
        request = f"GET /events?filters={quote(filters)} HTTP/1.0\r\nHost: engine\r\n\r\n"
        self._socket.sendall(request.encode())
        self._reading = threading.Thread(target=self._read, name="events of an engine")
        self._reading.start()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            self._seen += (line for line in lines if line.startswith(b"{"))

    def end(self) -> list[_Happened]:
        """Return all that happened."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reading.join()
        self._socket.close()
        return [msgspec.json.decode(line, type=_Happened) for line in self._seen]


class Engines(Runtime):
    """Containers of the engine that this run has."""

    def __init__(self, shared: SharedQueue) -> None:
        super().__init__(shared)
        self._url, self._image = os.environ["RUNNER_TEST_DOCKER"], os.environ["RUNNER_TEST_IMAGE_BUSYBOX"]
        self.options = ("--docker-host", self._url)
        self._watch = Watch(self._url.removeprefix("unix://"))

    def _put(self, job_id: str, script: str, **fields: object) -> None:
        self.shared.submit({job_id: ["sh", "-c", script]}, image=self._image, **fields)

    def starts(self) -> Counter[str]:
        ours = self.shared.box_id("box")
        return Counter(it.attempt for it in self._watch.end() if it.labels[LABEL_BOX] == ours)

    def clear(self) -> None:
        asyncio.run(self._clear())

    async def _clear(self) -> None:
        engine = Engine(self._url)
        filters = json.dumps({"label": [f"{LABEL_BOX}={self.shared.box_id('box')}"]})
        try:
            async with engine.call("clear away") as docker:
                for container in await docker.containers.list(all=True, filters=filters):
                    await container.delete(force=True)
        finally:
            await engine.close()
