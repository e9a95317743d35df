"""The client side of the control socket, for commands: blocking, on the standard library, so they start at once."""

from __future__ import annotations

import http.client
import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from adapters.http import events
from adapters.http.wire import Failure, Health, Sentence, StopWanted, connected
from runner.errors import BadInput, Refused, RunnerError, Unavailable
from runner.ports import LogLine
from runner.receipt import Event, GpuTable, SourceRow

T = TypeVar("T")
ANSWER_WITHIN_S = 60.0
_ERRORS: dict[int, type[RunnerError]] = {400: BadInput, 404: Refused, 503: Unavailable}


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path, within_s: float) -> None:
        super().__init__("runner", timeout=within_s)
        self._path, self._within_s = path, within_s

    def connect(self) -> None:
        self.sock = connected(self._path, self._within_s)


class ControlClient:
    """
    Asks the runner whose state directory this is.

    Raises:
        Unavailable: (every method) no runner runs there, or it did not answer in time.
    """

    def __init__(self, path: Path, within_s: float = ANSWER_WITHIN_S) -> None:
        self._path, self._within_s = path, within_s

    def health(self) -> Health:
        """Tell that a runner answers, its version and process id, and whether it drains."""
        return self._ask("GET", "/health", Health)

    def sources(self) -> tuple[SourceRow, ...]:
        """Return the rows of ``runner sources``."""
        return self._ask("GET", "/sources", tuple[SourceRow, ...])

    def gpus(self) -> GpuTable:
        """Return the table of ``runner gpus``."""
        return self._ask("GET", "/gpus", GpuTable)

    def cancel(self, job_id: str) -> str:
        """
        End a job; return which of the ways it took.

        Raises:
            Refused: there is no such job.
        """
        return self._ask("POST", f"/jobs/{quote(job_id, safe='')}/cancel", Sentence).sentence

    def stop(self, *, leave: bool, grace_s: float | None) -> str:
        """Begin a drain, or leave; return the sentence to print."""
        return self._ask("POST", "/drain", Sentence, msgspec.json.encode(StopWanted(leave, grace_s))).sentence

    def log(self, job_id: str, last_id: str = "", *, follow: bool) -> Iterator[tuple[str, LogLine | Event]]:
        """
        Yield a job's log with the id of each record, from behind that of ``last_id``; with ``follow`` until it ended
        for good.

        Raises:
            Refused: there is no such job on this box.
        """
        path = f"/jobs/{quote(job_id, safe='')}/log?follow={int(follow)}&last_event_id={quote(last_id)}"
        with self._answered("GET", path, None) as response:
            try:
                yield from _told(response)
            except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
                raise Unavailable(
                    f"the log of {job_id} broke off: the runner on {self._path.parent} is gone"
                ) from error

    def _ask(self, method: str, path: str, kind: type[T], body: bytes | None = None) -> T:
        with self._answered(method, path, body) as response:
            return msgspec.json.decode(response.read(), type=kind)

    @contextmanager
    def _answered(self, method: str, path: str, body: bytes | None) -> Iterator[http.client.HTTPResponse]:
        with (
            closing(_Connection(self._path, self._within_s)) as connection,
            self._request(connection, method, path, body) as response,
        ):
            if response.status >= http.client.BAD_REQUEST:
                raise self._failure(response)
            yield response

    def _request(self, connection: _Connection, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        try:
            connection.request(method, path, body)
            return connection.getresponse()
        except (FileNotFoundError, ConnectionError) as error:
            raise Unavailable(self._nobody()) from error
        except PermissionError as error:
            raise Unavailable(
                f"{self._path}: only its owner and group may ask this runner; become one of them"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the runner on {self._path.parent} did not answer within {self._within_s:g} s"
            ) from error

    def _nobody(self) -> str:
        state = self._path.parent
        start = shlex.join(["runner", "run", "--state-dir", str(state)])
        return f"no runner is running on {state}; start one with: {start} &"

    def _failure(self, response: http.client.HTTPResponse) -> RunnerError:
        try:
            told = msgspec.json.decode(response.read(), type=Failure)
        except msgspec.DecodeError:
            told = Failure(f"the runner on {self._path.parent} failed over the request; its log says more")
        return _ERRORS.get(response.status, RunnerError)(told.error)


def _told(response: http.client.HTTPResponse) -> Iterator[tuple[str, LogLine | Event]]:
    if response.status == http.client.NO_CONTENT:
        return
    for sent in events.read(response):
        if (told := events.told_in(sent)) is not None:
            yield sent.id, told
        if sent.name == "end":
            return
    raise http.client.IncompleteRead(b"")
