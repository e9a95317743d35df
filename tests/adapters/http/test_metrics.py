"""The page for Prometheus: whether credential files can be used, how deep queues are, and no value of a file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from adapters.http.metrics import CONTENT_TYPE, metrics
from runner.receipt import QueueRow, SourceRow
from tests.adapters.http.control_box import box

ROWS = (
    SourceRow("(own queue)", "folder", "in use", queues=(QueueRow("queue", 0), QueueRow("new"))),
    SourceRow('a"b\\c\n.toml', "folder", "finishing", queues=(QueueRow("train", 1234567),)),
    SourceRow("before.toml", "folder", "in use", reason="as it was before: before.toml is no TOML"),
    SourceRow("away.toml", "redis", "unreachable", reason="no answer"),
    SourceRow("locked.toml", "redis", "refused", reason="wrong password"),
    SourceRow("broken.toml", "", "unusable", reason="broken.toml is empty"),
    SourceRow("loose.toml", "folder", "in use", warning="loose.toml is open to other users"),
)
PAGE = """# HELP runner_source_usable 1: the credential file is read and its service answers; 0: not
# TYPE runner_source_usable gauge
runner_source_usable{file="(own queue)"} 1
runner_source_usable{file="a\\"b\\\\c\\n.toml"} 1
runner_source_usable{file="before.toml"} 0
runner_source_usable{file="away.toml"} 0
runner_source_usable{file="locked.toml"} 0
runner_source_usable{file="broken.toml"} 0
runner_source_usable{file="loose.toml"} 1
# HELP runner_queue_depth messages that wait in a queue, as last seen
# TYPE runner_queue_depth gauge
runner_queue_depth{file="(own queue)",queue="queue"} 0
runner_queue_depth{file="a\\"b\\\\c\\n.toml",queue="train"} 1234567
"""


def test_every_file_has_a_gauge_and_every_queue_whose_depth_is_known() -> None:
    assert PAGE == metrics(ROWS)


def test_the_control_socket_serves_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path) as it:
            connector = aiohttp.UnixConnector(str(it.path))
            async with (
                aiohttp.ClientSession(connector=connector) as client,
                client.get("http://runner/metrics") as said,
            ):
                assert said.headers["Content-Type"] == CONTENT_TYPE
                assert 'runner_queue_depth{file="local.toml",queue="train"} 3\n' in await said.text()

    asyncio.run(main())
