"""Where jobs run that are measured, and the few calls to a Docker engine that it takes to do without a runner."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import msgspec

from adapters.containers.docker_state import LABEL_BOX
from bench.log_children import BenchError

ANSWER_S = 60.0


class Runtime(msgspec.Struct, frozen=True):
    """What runs jobs: processes, or containers of an engine from an image that has Python."""

    name: str
    engine: str = ""
    image: str = ""

    @property
    def fields(self) -> dict[str, str]:
        """What a job says of it."""
        return {"image": self.image} if self.image else {}


def remove_all(runtime: Runtime, box_id: str) -> None:
    """Delete what is left of a runner's containers."""
    filters = quote(json.dumps({"label": [f"{LABEL_BOX}={box_id}"]}))
    for found in json.loads(call(runtime, "GET", f"/containers/json?all=1&filters={filters}")):
        call(runtime, "DELETE", f"/containers/{quote(found['Id'])}?force=1&v=1")


@contextmanager
def opened_socket(runtime: Runtime) -> Iterator[socket.socket]:
    """Connect to the engine."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as it:
        it.settimeout(ANSWER_S)
        it.connect(runtime.engine.removeprefix("unix://"))
        yield it


def call(runtime: Runtime, method: str, target: str, body: str | None = None) -> bytes:
    """
    Ask the engine for something.

    Raises:
        BenchError: it refused.
    """
    with opened_socket(runtime) as stream:
        connection = http.client.HTTPConnection("engine")
        connection.sock = stream
        connection.request(method, target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    if answer.status >= http.client.BAD_REQUEST:
        raise BenchError(f"{method} {target}: {text.decode(errors='replace')}")
    return text
