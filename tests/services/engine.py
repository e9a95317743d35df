"""The few calls of the Docker Engine API that starting and clearing a private engine takes, over its unix socket."""

import http.client
import json
import socket
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlencode

from tests.services.service import ServiceError

HTTP_ERROR_FROM = 400


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(str(self._path))


class Engine:
    """An engine behind one socket; every call opens a connection of its own and is bounded by `timeout_s`."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def answers(self) -> bool:
        """Say whether the engine answers a ping now."""
        try:
            return self._call("GET", "/_ping") == b"OK"
        except (OSError, http.client.HTTPException, ServiceError):
            return False

    def import_image(self, rootfs: IO[bytes], tag: str, search_path: str) -> None:
        """Make an image named `tag` of a tar stream; commands in it are looked up in `search_path`."""
        repository, _, version = tag.partition(":")
        query = {"fromSrc": "-", "repo": repository, "tag": version, "changes": f"ENV PATH={search_path}"}
        answer = self._call("POST", f"/images/create?{urlencode(query)}", rootfs)
        if b'"error"' in answer:
            raise ServiceError(f"image {tag} was not imported: {answer.decode(errors='replace').strip()}")

    def remove_all_containers(self) -> None:
        """Kill and remove whatever tests left; the engine would wait ten seconds for each at its own end."""
        for container in json.loads(self._call("GET", "/containers/json?all=1")):
            self._call("DELETE", f"/containers/{quote(container['Id'])}?force=1&v=1")

    def _call(self, method: str, target: str, body: IO[bytes] | None = None) -> bytes:
        connection = _UnixConnection(self._path, self._timeout_s)
        try:
            connection.request(method, target, body, {"Content-Type": "application/x-tar"} if body else {})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= HTTP_ERROR_FROM:
            raise ServiceError(
                f"{method} {target} answered {response.status}: {answer.decode(errors='replace').strip()}"
            )
        return answer
