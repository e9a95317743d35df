"""How a Redis is named, and what its answers mean to the rest of the house."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis import exceptions

from adapters.redis_client import RedisClient, RedisPlace, Script, explain, key_start, redis_place
from runner.errors import ConfigurationError, OutOfSpace, Refused, RunnerError, Unavailable
from runner.secret import Secret
from tests.conformance.redis_harness import connected, redis_url


@pytest.mark.parametrize(
    ("url", "place", "shown"),
    [
        ("redis://host", RedisPlace("host", 6379, 0, tls=False), "redis://host:6379/0"),
        ("rediss://host:1/3", RedisPlace("host", 1, 3, tls=True), "rediss://host:1/3"),
        ("redis://[::1]/2?queue=a%2Fb", RedisPlace("::1", 6379, 2, tls=False, queue="a/b"), "redis://[::1]:6379/2"),
        ("redis://h/?prefix=p", RedisPlace("h", 6379, 0, tls=False, prefix="p"), "redis://h:6379/0"),
    ],
)
def test_a_url_names_a_place(url: str, place: RedisPlace, shown: str) -> None:
    assert place == redis_place(url)
    assert shown == redis_place(url).url


@pytest.mark.parametrize(
    "url",
    [
        *("", "redis:", "redis://", "http://host", "redis://host:port", "redis://host:99999", "redis://host/train"),
        *("redis://host/0/1", "redis://host?db=1", "redis://host?queue", "redis://host#a", "redis://[::1"),
        *("redis://ada@host", "redis://:hunter2@host", "redis://ada:hunter2@host/0"),
    ],
)
def test_what_is_no_such_url_is_told_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as raised:
        redis_place(url)
    assert "hunter2" not in str(raised.value)


def test_keys_of_a_queue_have_one_hash_tag() -> None:
    """A cluster keeps together what stands between the first braces."""
    starts = [key_start("runner", name) for name in ("train", "a}b", "a{b", "a%7Db", "", "\udcff", "ü")]
    assert "{runner:train}:" == starts[0]
    assert len(starts) == len(set(starts))
    assert [(0, 1, 1)] * len(starts) == [(it.find("{"), it.count("{"), it.count("}")) for it in starts]


def test_a_certificate_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ca_file .*ca\.pem: no such file"):
        RedisClient("rediss://host", {}, {"ca_file": str(tmp_path / "ca.pem")})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.AuthenticationError("invalid username-password pair"), ConfigurationError),
        (exceptions.NoPermissionError("no permissions"), ConfigurationError),
        (exceptions.MovedError("1234 10.0.0.1:6379"), ConfigurationError),
        (exceptions.OutOfMemoryError("command not allowed"), OutOfSpace),
        (exceptions.BusyLoadingError("loading"), Unavailable),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), Unavailable),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), Unavailable),
        (exceptions.ResponseError("BUSY Redis is busy running a script"), Unavailable),
        (exceptions.MasterDownError("Link with MASTER is down"), Unavailable),
        (exceptions.ConnectionError("Connection closed by server."), Unavailable),
        (exceptions.TimeoutError("Timeout reading"), Unavailable),
        (ConnectionResetError("reset"), Unavailable),
        (TimeoutError(), Unavailable),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), Refused),
        (exceptions.ResponseError("BUSYGROUP Consumer Group name already exists"), Refused),
    ],
)
def test_every_answer_has_its_meaning(error: Exception, kind: type[RunnerError]) -> None:
    """What may succeed later is tried again by callers; what a person must mend is not."""
    told = explain(error, "do it: redis://host:6379/0", str(error))
    assert kind is type(told)
    assert str(told).startswith("do it: redis://host:6379/0: ")


@pytest.mark.broker
def test_scripts_run_on_a_server_that_never_saw_them() -> None:
    async def main() -> None:
        url = redis_url()
        client, script = RedisClient(url, {}, {}), Script("return {KEYS[1], ARGV[1], ARGV[2]}")
        for _ in range(2):
            with connected(url) as database:
                database.script_flush()
            for _ in range(2):
                assert [b"key", b"\xff\0", b"1.5"] == await client.run("try", script, ["key"], (b"\xff\0", 1.5))
        await client.close()

    asyncio.run(main())


@pytest.mark.broker
def test_a_call_ends_at_its_limit_and_the_next_one_gets_its_own_answer() -> None:
    """A connection on which an answer is outstanding is not used again."""

    async def main() -> None:
        client = RedisClient(redis_url(), {}, {})
        with pytest.raises(Unavailable, match="no answer in time"):
            await client.call("wait", "BLPOP", "nothing", "5", limit_s=0.1)
        answers = await asyncio.gather(*(client.call("say", "ECHO", str(number)) for number in range(100)))
        assert [str(number).encode() for number in range(100)] == answers
        waiting = asyncio.create_task(client.wait("wait", "BLPOP", "nothing", "5", wait_s=5))
        await client.call("say", "ECHO", "x")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert await client.wait("wait", "BLPOP", "nothing", "0.01", wait_s=1) is None
        await client.close()

    asyncio.run(main())


@pytest.mark.broker
def test_what_a_server_repeats_of_a_secret_is_not_passed_on() -> None:
    """A server that does not know a command shows what came with it."""

    async def main() -> None:
        client = RedisClient(redis_url(), {"password": Secret("hunter2")}, {})
        with pytest.raises(RunnerError) as raised:
            await client.call("try", "NOSUCHCOMMAND", "hunter2")
        assert "hunter2" not in f"{raised.value}{raised.value.__cause__}"
        await client.close()

    asyncio.run(main())


# What people get wrong


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0: nothing listens there: check that it runs"),
        ("redis://localhost:1/0", "redis://localhost:1/0: nothing listens there: check that it runs"),
        ("redis://no.such.host.invalid/0", "redis://no.such.host.invalid:6379/0: there is no host of this name: check"),
    ],
)
def test_a_server_that_is_not_there_is_told_without_numbers(url: str, sentence: str) -> None:
    async def main() -> None:
        client = RedisClient(url, {}, {})
        with pytest.raises(Unavailable) as raised:
            await client.call("look", "PING")
        assert str(raised.value).startswith(f"look: {sentence}")
        await client.close()

    asyncio.run(main())


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"AMQP\x00\x00\x09\x01")
    await writer.drain()
    writer.close()


def test_another_service_is_not_taken_for_a_server_that_is_down() -> None:
    async def main() -> None:
        async with await asyncio.start_server(_greet, "127.0.0.1", 0) as other:
            client = RedisClient(f"redis://127.0.0.1:{other.sockets[0].getsockname()[1]}/0", {}, {})
            with pytest.raises(Unavailable, match="what answers there is no Redis: check host and port"):
                await client.call("look", "PING")
            await client.close()

    asyncio.run(main())


@pytest.mark.broker
@pytest.mark.parametrize(
    ("path", "secrets", "sentence"),
    [
        ("/99", {}, "it has no database of this number"),
        ("/0", {"password": "hunter2"}, "its default user has no password: leave it out"),
        ("/0", {"username": "u", "password": "hunter2"}, "it refuses the login (invalid username-password pair"),
    ],
)
def test_a_wrong_login_or_database_is_told_in_words(path: str, secrets: dict[str, str], sentence: str) -> None:
    """A user name that is in every other word hides nothing."""

    async def main() -> None:
        given = {name: Secret(text) for name, text in secrets.items()}
        client = RedisClient(redis_url().rsplit("/", 1)[0] + path, given, {})
        with pytest.raises(ConfigurationError) as raised:
            await client.call("look", "PING")
        assert sentence in str(raised.value)
        await client.close()

    asyncio.run(main())
