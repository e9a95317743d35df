"""Log streams and channels in Redis beyond what every sink keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from adapters.redis_client import RedisClient
from adapters.registry import dialects
from adapters.sinks.opening import open_sinks
from adapters.sinks.redis import LAST
from adapters.sinks.urls import sink_secrets, sink_url
from runner.credential import Credential, Rights
from runner.errors import ConfigurationError, Refused, Unavailable
from runner.job import Key
from runner.ports import End, LogLine, Position, Sink
from runner.receipt import Event
from runner.secret import Secret
from tests.conformance.redis_harness import connected, redis_url
from tests.fault_proxy import proxied
from tests.private_brokers import PrivateRedis, started

pytestmark = pytest.mark.broker

KEY, OTHER = Key("digits.0123456789abcdef"), Key("digits.fedcba9876543210")
STREAM = "runner:train:log:digits"


@pytest.fixture(name="url")
def _url() -> str:
    return redis_url()


@asynccontextmanager
async def opened(url: str, credential: Credential | None = None, box: str = "here") -> AsyncIterator[Sink]:
    found = sink_url(url)
    rights = Rights(sinks=(found.url,))
    own = credential or Credential("folder", "folder:///q")
    whole = Credential(own.kind, own.url, rights, secrets={**own.secrets, **sink_secrets([found])})
    (sink,) = open_sinks((), dialects(), whole, "train", None, box_id=box).values()
    try:
        yield sink
    finally:
        await sink.release()


def line(sequence: int, attempt: int = 1, data: bytes = b"x\n", at_s: int = 10) -> LogLine:
    return LogLine(attempt, sequence, at_s * 10**9, "stdout", data)


def entries(url: str) -> list[tuple[str, bytes]]:
    with connected(url) as redis:
        return [(entry.decode(), fields[b"data"]) for entry, fields in redis.xrange(STREAM)]


def test_an_entry_is_named_after_its_last_record_and_the_end_after_all(url: str) -> None:
    async def main() -> None:
        async with opened(url) as sink:
            await sink.write(KEY, "digits", [], [line(0), line(1), line(0, 2)])
            await sink.close(KEY, "digits", End(Event(KEY, "digits", 1.0, "ended", 2)))

    asyncio.run(main())
    assert ["1-2", "2-1", f"2-{LAST}"] == [entry for entry, _ in entries(url)]


def test_streams_are_bounded_and_expire(url: str) -> None:
    async def main() -> None:
        async with opened(f"{url}?stream={STREAM.replace('digits', '{id}')}&maxlen=1&keep=1h") as sink:
            await sink.write(KEY, "digits", [], [line(at, data=b"x" * (64 << 10)) for at in range(500)])

    asyncio.run(main())
    with connected(url) as redis:
        assert 3500 < redis.ttl(STREAM) <= 3600
        assert redis.xlen(STREAM) < 500


def test_a_job_of_the_same_id_begins_anew(url: str) -> None:
    """Whoever comes late reads the newest job's log and no other's."""

    async def main() -> None:
        async with opened(url) as sink:
            await sink.write(KEY, "digits", [], [line(0)])
            await sink.close(KEY, "digits", End(Event(KEY, "digits", 1.0, "ended")))
            assert await sink.open(OTHER, "digits") == Position()
            await sink.write(OTHER, "digits", [], [line(0)])
            assert await sink.open(OTHER, "digits") == Position(1, 1)

    asyncio.run(main())
    assert ["1-1"] == [entry for entry, _ in entries(url)]


def test_what_is_left_of_an_earlier_job_stays_out_of_a_later_ones_stream(url: str) -> None:
    """Its box was cut off, and sends the rest when the id was used again."""

    async def main() -> None:
        async with opened(url) as sink:
            await sink.write(KEY, "digits", [], [line(0, at_s=2)])
            later = Event(OTHER, "digits", 9.0, "running")
            await sink.write(OTHER, "digits", [later], [line(0)])
            await sink.write(KEY, "digits", [], [line(at) for at in range(1, 5)])
            await sink.close(KEY, "digits", End(Event(KEY, "digits", 3.0, "ended")))
            await sink.write(OTHER, "digits", [], [line(1)])
        async with opened(url) as sink:
            assert await sink.open(KEY, "digits") == Position()
            await sink.close(KEY, "digits", End(Event(KEY, "digits", 3.0, "ended")))
            assert await sink.open(OTHER, "digits") == Position(1, 2)

    asyncio.run(main())
    with connected(url) as redis:
        assert {OTHER.encode()} == {fields[b"key"] for _, fields in redis.xrange(STREAM)}
    assert ["1-1", "1-2"] == [entry for entry, _ in entries(url)]


def test_an_attempt_that_another_box_runs_again_takes_the_place_of_the_first(url: str) -> None:
    """The first box died, or was cut off; earlier attempts stay, and what it still sends keeps out."""

    async def main() -> None:
        async with opened(url, box="first") as first, opened(url, box="second") as second:
            await first.write(KEY, "digits", [], [line(0), *(line(at, 2) for at in range(3))])
            assert await second.open(KEY, "digits") is None
            await second.write(KEY, "digits", [], [line(0, 2, b"second\n", at_s=20)])
            await first.write(KEY, "digits", [], [line(3, 2)])
            await second.write(KEY, "digits", [], [line(1, 2, b"second\n", at_s=21)])
            assert ["1-1", "2-1", "2-2"] == [entry for entry, _ in entries(url)]
            assert all(b"second" in message for _, message in entries(url)[1:])
            await first.write(KEY, "digits", [], [line(4, 3, at_s=30)])
            await second.close(KEY, "digits", End(Event(KEY, "digits", 31.0, "ended", 2)))
            assert await first.open(KEY, "digits") == Position(3, 5)

    asyncio.run(main())
    assert ["1-1", "2-1", "2-2", "3-5"] == [entry for entry, _ in entries(url)]


def test_the_end_stands_once_over_restarts(url: str) -> None:
    async def main() -> None:
        for _ in range(2):
            async with opened(url) as sink:
                await sink.close(KEY, "digits", End(Event(KEY, "digits", 1.0, "ended")))

    with connected(url) as redis, redis.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(STREAM)
        listener.get_message(timeout=5)
        asyncio.run(main())
        redis.publish(STREAM, b"no more")
        heard: list[Any] = []
        while not heard or heard[-1] != b"no more":
            message = listener.get_message(timeout=5)
            heard += [message["data"]] if message else []
    assert [True, False] == [b'"ended"' in it for it in heard]
    assert 1 == len(entries(url))


def test_a_lost_answer_sends_nothing_twice(url: str) -> None:
    """The server took it; only that it did was not heard."""

    async def main() -> None:
        parts = urlsplit(url)
        async with (
            proxied("127.0.0.1", parts.port or 0) as proxy,
            opened(f"redis://127.0.0.1:{proxy.port}{parts.path}") as sink,
        ):
            await sink.write(KEY, "digits", [], [line(0)])
            proxy.fault = "lose replies"
            proxy.requested.clear()
            writing = asyncio.create_task(sink.write(KEY, "digits", [], [line(1)]))
            await proxy.requested.wait()
            proxy.cut()
            with pytest.raises(Unavailable):
                await writing
            proxy.fault = ""
            await sink.write(KEY, "digits", [], [line(1), line(2)])

    asyncio.run(main())
    assert ["1-1", "1-2", "1-3"] == [entry for entry, _ in entries(url)]


def test_a_batch_is_one_trip(tmp_path: Path) -> None:
    """However many chunks it has; counted by a server that nobody else asks."""

    async def main(url: str) -> None:
        async with opened(url) as sink:
            await sink.write(KEY, "digits", [], [line(0)])
            with connected(url) as redis:
                before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
                await sink.write(KEY, "digits", [], [line(at, data=b"x" * 40_000) for at in range(1, 100)])
                after = redis.info("commandstats")
                assert after["cmdstat_evalsha"]["calls"] - before == 1
                assert after["cmdstat_publish"]["calls"] >= 99

    with started(PrivateRedis(tmp_path / "redis")) as broker:
        asyncio.run(main(broker.url(broker.port)))


def test_a_wrong_login_is_told_without_it(url: str) -> None:
    async def main() -> None:
        async with opened(url.replace("redis://", "redis://ada:hunter2@")) as sink:
            with pytest.raises(ConfigurationError, match="login") as raised:
                await sink.open(KEY, "digits")
            assert "hunter2" not in str(raised.value)

    asyncio.run(main())


def test_the_login_of_the_queue_is_for_its_own_server_alone(url: str) -> None:
    """Another server would learn a password that is not meant for it."""
    with connected(url) as redis:
        redis.acl_setuser("sink", enabled=True, passwords=["+word"], categories=["+@all"], keys=["*"], channels=["*"])
    secrets = {"username": Secret("sink"), "password": Secret("word")}

    async def used(queue_url: str) -> str:
        async with opened(url, Credential("redis", queue_url, secrets=secrets)) as sink:
            await sink.open(KEY, "digits")
            with connected(url) as redis:
                return next(str(it["user"]) for it in redis.client_list() if it["cmd"] == "xrevrange")

    try:
        assert "sink" == asyncio.run(used(url))
        assert "default" == asyncio.run(used("redis://elsewhere:6379/0"))
    finally:
        with connected(url) as redis:
            redis.acl_deluser("sink")


def test_what_stands_at_a_name_is_refused_in_words(url: str) -> None:
    with connected(url) as redis:
        redis.set(STREAM, b"a text")

    async def main() -> None:
        async with opened(url) as sink:
            with pytest.raises(Refused, match="WRONGTYPE"):
                await sink.open(KEY, "digits")

    asyncio.run(main())


def test_a_socket_of_this_box_is_named_by_its_path() -> None:
    async def main() -> None:
        client = RedisClient("unix:///nowhere/redis.sock?db=3", {}, {})
        with pytest.raises(Unavailable, match=r"unix:///nowhere/redis\.sock\?db=3"):
            await client.call("look", "PING")
        await client.close()

    asyncio.run(main())
