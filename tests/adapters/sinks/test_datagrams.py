"""Logs as datagrams, where whoever should take them does not."""

import asyncio
import socket
from pathlib import Path

from adapters.sinks.datagram_sink import DatagramSink
from adapters.sinks.datagrams import Datagrams
from adapters.sinks.syslog_text import SyslogForm
from runner.job import Key
from runner.ports import LogLine

JOBS = 40
"""More than there are threads for everybody."""


def test_a_daemon_that_takes_nothing_holds_no_thread_that_others_need(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stopped:
            stopped.bind(path)
            sink = DatagramSink(Datagrams(path), SyslogForm(""))
            lines = [LogLine(1, number, 1, "stdout", b"a line\n" * 200) for number in range(100)]
            feeds = [asyncio.ensure_future(sink.write(Key(f"{it}"), f"{it}", (), lines)) for it in range(JOBS)]
            await asyncio.sleep(0.2)
            async with asyncio.timeout(2.0):
                await asyncio.to_thread(int)
            assert not any(feed.done() for feed in feeds)
            for feed in feeds:
                feed.cancel()
        await asyncio.gather(*feeds, return_exceptions=True)
        await sink.release()

    asyncio.run(main())
