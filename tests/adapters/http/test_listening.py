"""Logs over HTTP: server-sent events for whoever shows the token, nothing for anybody else."""

import asyncio
import http.client
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from adapters.http.listening import CLOSE_WITHIN_S, load_token, open_http, open_listener
from runner.errors import ConfigurationError, Unavailable
from runner.receipt import Event
from tests.adapters.http.control_box import KEY, Box, box

TEXT = {"at": 7e-9, "stream": "stdout"}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[tuple[str, str, object]]:
        """Return id, name and data of each event."""
        found = []
        for block in self.body.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
        return found


@dataclass
class Page:
    """A port that answers, and the box behind it."""

    box: Box
    port: int
    token: str

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask with the token unless other headers are given."""
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        return await asyncio.to_thread(self._get, path, method, {"Authorization": f"Bearer {self.token}", **shown})

    def _get(self, path: str, method: str, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


@asynccontextmanager
async def page(directory: Path) -> AsyncIterator[Page]:
    token = directory / "http-token"
    async with box(directory) as it:
        listener = open_listener("127.0.0.1", 0)
        async with open_http(listener, token, it.control, it.journal, it.spool):
            yield Page(it, listener.getsockname()[1], token.read_text().strip())


def test_nobody_reads_without_the_token(tmp_path: Path) -> None:
    """The answer says what it is called, and nothing of what there is, nor of where."""

    async def main() -> None:
        async with page(tmp_path) as it:
            for path in ("/health", "/metrics", "/jobs/digits-1/log", "/nosuch"):
                for wrong in ("", "Bearer ", f"Basic {it.token}", f"Bearer {it.token}x", "Bearer ä"):
                    refused = await it.get(path, Authorization=wrong.encode().decode("latin-1"))
                    assert 401 == refused.status
                    said = json.loads(refused.body)["error"]
                    assert ("http-token" in said, str(tmp_path) in said) == (True, False)
            assert 401 == (await it.get("/health?token=wrong", Authorization="")).status
            assert 200 == (await it.get(f"/health?token={it.token}", Authorization="")).status
            assert os.getpid() == json.loads((await it.get("/health")).body)["pid"]

    asyncio.run(main())


def test_only_reading_is_possible_and_every_answer_is_data(tmp_path: Path) -> None:
    """No page of another origin reads it, and no browser takes it for one."""

    async def main() -> None:
        async with page(tmp_path) as it:
            answers = [
                (200, await it.get("/metrics", Origin="http://evil.example")),
                (404, await it.get("/drain")),
                (404, await it.get("/drain", "POST")),
                (404, await it.get("/jobs/digits-1/cancel", "POST")),
                (405, await it.get("/health", "DELETE")),
                (404, await it.get("/jobs/nosuch/log")),
                (400, await it.get("/jobs/nosuch/log?follow=yes")),
                (400, await it.get("/jobs/nosuch/log", Last_Event_ID="1-x")),
                (401, await it.get("/health", "OPTIONS", Authorization="")),
            ]
            for status, answer in answers:
                assert status == answer.status
                assert "nosniff" == answer.headers["x-content-type-options"]
                assert "access-control-allow-origin" not in answer.headers
                assert status == 200 or json.loads(answer.body)["error"]
            assert (it.box.control.cancelled, it.box.control.stops) == ([], [])

    asyncio.run(main())


def test_a_log_comes_as_events_and_goes_on_behind_the_last_one_seen(tmp_path: Path) -> None:
    """By header or, where a browser can set none, in the address; what is no text comes as bytes as well."""
    event = Event(KEY, "digits-1", 1.5, "running")

    async def main() -> None:
        async with page(tmp_path) as it:
            await it.box.claim()
            await it.box.spool.append(KEY, 1, "event", msgspec.json.encode(event))
            await it.box.spool.append(KEY, 1, "stdout", b"<script>\n\nid: 7-7\n")
            await it.box.spool.append(KEY, 1, "stdout", b"\xff")
            await it.box.end()
            whole = await it.get("/jobs/digits-1/log")
            assert "text/event-stream" == whole.headers["content-type"]
            first, second, third, end = whole.events
            assert ("1-0", "event", "running") == (*first[:2], first[2]["event"]["state"])  # type: ignore[index]
            place = {"attempt": 1, "sequence": 1}
            assert ("1-1", "line", {**place, **TEXT, "text": "<script>\n\nid: 7-7\n"}) == second
            assert ("1-2", "line", {**place, "sequence": 2, **TEXT, "text": "\ufffd", "data": "/w=="}) == third
            assert ("end", "end", "succeeded") == (*end[:2], end[2]["event"]["end_reason"])  # type: ignore[index]
            assert [third, end] == (await it.get("/jobs/digits-1/log", Last_Event_ID="1-1")).events
            assert [third, end] == (await it.get("/jobs/digits-1/log?last_event_id=1-1")).events
            assert [end] == (await it.get("/jobs/digits-1/log", Last_Event_ID="1-2")).events
            assert (204, b"") == ((gone := await it.get("/jobs/digits-1/log", Last_Event_ID="end")).status, gone.body)

    asyncio.run(main())


def test_of_a_job_that_runs_what_there_is_can_be_read_without_waiting(tmp_path: Path) -> None:
    async def main() -> None:
        async with page(tmp_path) as it:
            await it.box.claim()
            await it.box.spool.append(KEY, 1, "stdout", b"1\n")
            read = await it.get("/jobs/digits-1/log?follow=0")
            assert ["1-0", "end"] == [one[0] for one in read.events]
            assert {} == read.events[-1][2]

    asyncio.run(main())


@pytest.mark.integration
def test_who_does_not_read_holds_only_a_little(tmp_path: Path) -> None:
    """40 MB of log, a reader that takes none of it, and one beside it that takes all."""

    async def main() -> tuple[int, int]:
        async with page(tmp_path) as it:
            await it.box.claim()
            for number in range(640):
                await it.box.spool.append(KEY, 1, "stdout", b"%07d\n" % number * 8192)
            await it.box.end()
            before = resident()
            request = f"GET /jobs/digits-1/log?token={it.token} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            stalled = [socket.create_connection(("127.0.0.1", it.port)) for _ in range(8)]
            for one in stalled:
                one.sendall(request)
            whole = await it.get("/jobs/digits-1/log")
            held = resident() - before - len(whole.body)
            for one in stalled:
                one.close()
            return len(whole.events), held

    count, held = asyncio.run(main())
    assert 641 == count
    assert held < 64 << 20


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def test_a_runner_that_ends_ends_those_who_read(tmp_path: Path) -> None:
    """A drain waits for no browser."""

    async def main() -> float:
        async with page(tmp_path) as it:
            await it.box.claim()
            await it.box.spool.append(KEY, 1, "stdout", b"1\n")
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(f"GET /jobs/digits-1/log?token={it.token} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"id: 1-0\n")
            began = asyncio.get_running_loop().time()
        await reader.read()
        writer.close()
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(asyncio.wait_for(main(), 30)) < 5 * CLOSE_WITHIN_S


def test_the_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "http-token"
    token = load_token(path)
    assert (token, 0o600) == (load_token(path), stat.S_IMODE(path.stat().st_mode))
    assert len(token) > 40
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others than its owner can use this token: chmod 600 it"):
        load_token(path)
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(ConfigurationError, match="no token of at least 32 letters stands there: delete it"):
        load_token(path)


def test_a_port_that_is_taken_is_said() -> None:
    with open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"listen at 127.0.0.1:{port}: Address already in use: free it"):
            open_listener("127.0.0.1", port)
    with pytest.raises(Unavailable, match="Cannot assign requested address"):
        open_listener("192.0.2.1", 0)
