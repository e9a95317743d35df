"""Redis that is cut off, restarted, frozen or full, or answers no: what a result backend says, and what it does not."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from adapters.results.redis import RedisResults
from adapters.results.secrets import results_secrets
from runner.credential import Credential, Rights
from runner.errors import AlreadyStored, ConfigurationError, OutOfSpace, Unavailable
from runner.ports import Position
from runner.receipt import BoxBeat
from runner.secret import Secret
from tests.adapters.results.redis_backend import START, end_of, looking, opened, records, told
from tests.conformance.redis_harness import redis_url
from tests.conformance.results_harness import AT, KEY, LONG_S, Told, key_of, receipt
from tests.fault_proxy import FaultProxy, proxied
from tests.private_brokers import PrivateBroker, PrivateRedis, started

pytestmark = pytest.mark.broker

OTHER = key_of("b")
LOOK_AGAIN_S = 0.01
SILENCE_S = 0.3
TURNS = 20
"""So many turns of the loop let a reset come through on loopback."""
HELD = {"username": Secret("ada"), "password": Secret("hunter2")}


@pytest.fixture
def url() -> str:
    return redis_url()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PrivateBroker]:
    redis_url()  # skips where there is none
    with started(PrivateRedis(tmp_path / "broker")) as broker:
        yield broker


@asynccontextmanager
async def by_proxy(url: str) -> AsyncIterator[tuple[FaultProxy, RedisResults]]:
    place = urlsplit(url)
    async with (
        proxied("127.0.0.1", place.port or 0) as proxy,
        opened(f"redis://127.0.0.1:{proxy.port}{place.path}") as results,
    ):
        yield proxy, results


async def follow(results: RedisResults, items: list[Told], position: Position | None = None) -> None:
    async for item in results.tail("a", position or Position(), follow=True):
        items.append(item)  # noqa: PERF401 - those before an error count


async def becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(LOOK_AGAIN_S)


async def blocked(url: str) -> None:
    """Wait until somebody waits on the server."""
    number = urlsplit(url).path.strip("/") or "0"
    with looking(url) as database:
        await becomes(lambda: any("b" in it["flags"] and it["db"] == number for it in database.client_list()))


# The connection


def test_a_follower_whose_connection_is_cut_is_told_so_and_goes_on_from_its_position(url: str) -> None:
    lines = records(20)

    async def main() -> None:
        async with opened(url) as box, by_proxy(url) as (proxy, client):
            await box.append(KEY, "a", (), lines[:10])
            items: list[Told] = []
            following = asyncio.create_task(follow(client, items))
            await blocked(url)
            proxy.cut()
            with pytest.raises(Unavailable, match="follow job in results: redis://127"):
                await asyncio.wait_for(following, LONG_S)
            assert lines[:10] == items
            await box.append(KEY, "a", (end_of(KEY, "a"),), lines[10:])
            await follow(client, items, Position(1, 10))
            assert [*lines, end_of(KEY, "a")] == items

    asyncio.run(main())


def test_what_was_done_while_the_answer_was_lost_is_done_once(url: str) -> None:
    """The caller cannot know, and asks again."""
    lines = records(5)

    async def main() -> None:
        async with by_proxy(url) as (proxy, results):
            calls: dict[str, Callable[[], Awaitable[None]]] = {
                "log": lambda: results.append(KEY, "a", (end_of(KEY, "a"),), lines),
                "receipts": lambda: results.put_receipt(receipt()),
            }
            await results.append(OTHER, "b", (), ())
            await results.put_receipt(receipt("b", key=OTHER))  # now the server has the scripts
            with looking(url) as database:
                for part, call in calls.items():
                    await results.stops()
                    proxy.fault = "lose replies"
                    calling = asyncio.ensure_future(call())
                    await becomes(lambda: database.exists(f"{START}{part}:{KEY}") == 1)  # noqa: B023 - awaited here
                    proxy.cut()
                    with pytest.raises(Unavailable):
                        await calling
                    proxy.fault = ""
            await calls["log"]()
            with pytest.raises(AlreadyStored):
                await calls["receipts"]()
            assert [*lines, end_of(KEY, "a")] == await told(results, "a")
            assert receipt() == await results.get("a")

    asyncio.run(main())


def test_an_idle_connection_that_died_is_opened_anew(url: str) -> None:
    """Firewalls forget connections; that is no reason to fail a call."""

    async def main() -> None:
        async with by_proxy(url) as (proxy, results):
            await results.request_stop("a")
            proxy.cut()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert frozenset({"a"}) == await results.stops()
            assert 2 == proxy.accepted

    asyncio.run(main())


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Said at once, and in words."""

    async def main() -> None:
        async with opened("redis://127.0.0.1:1/0") as results:
            for call in (results.stops(), results.list(ended=True), results.get("a"), follow(results, [])):
                with pytest.raises(Unavailable, match=r"results: redis://127.0.0.1:1/0: .* check that it runs"):
                    await asyncio.wait_for(call, LONG_S)

    asyncio.run(main())


# The server


def test_what_was_taken_outlives_the_server(broker: PrivateBroker) -> None:
    """Scripts are sent anew; whoever followed goes on from its position."""
    lines, url = records(20), broker.url(broker.port)

    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (), lines[:10])
            await results.request_stop("b")
            await results.beat(BoxBeat("box-1", 5.0))
            items: list[Told] = []
            following = asyncio.create_task(follow(results, items))
            await blocked(url)
            broker.kill()
            with pytest.raises(Unavailable):
                await asyncio.wait_for(following, LONG_S)
            with pytest.raises(Unavailable):
                await results.put_receipt(receipt())
            broker.start()
            await results.append(KEY, "a", (), lines)
            await results.put_receipt(receipt())
            await results.append(KEY, "a", (end_of(KEY, "a"),), ())
            await follow(results, items, Position(1, 10))
            assert [*lines, end_of(KEY, "a")] == items
            assert (frozenset({"b"}), (BoxBeat("box-1", 5.0),)) == (await results.stops(), await results.beats())

    asyncio.run(main())


def test_a_follower_that_waits_costs_the_server_nothing(broker: PrivateBroker) -> None:
    """It is told; it does not ask again and again."""
    url = broker.url(broker.port)

    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (), records(1))
            items: list[Told] = []
            following = asyncio.create_task(follow(results, items))
            await blocked(url)
            with looking(url) as database:
                before = database.info("stats")["total_commands_processed"]
                await asyncio.sleep(SILENCE_S)
                assert 1 == database.info("stats")["total_commands_processed"] - before, "the question before it"
            await results.append(KEY, "a", (end_of(KEY, "a"),), ())
            await asyncio.wait_for(following, LONG_S)
            assert [*records(1), end_of(KEY, "a")] == items

    asyncio.run(main())


@pytest.mark.slow
def test_a_server_that_stands_still_holds_nobody_up_for_long(broker: PrivateBroker) -> None:
    """Every call has its end; nothing is left behind that would spoil the next one."""
    url = broker.url(broker.port)

    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (), records(10))
            following = asyncio.create_task(follow(results, []))
            await blocked(url)
            broker.freeze()
            calls = [results.append(KEY, "a", (), records(20)), results.stops(), following]
            outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
            assert [Unavailable] * 3 == [type(outcome) for outcome in outcomes]
            broker.thaw()
            await results.append(KEY, "a", (), records(20))
            assert records(20) == await told(results, "a")

    asyncio.run(main())


def test_a_server_without_memory_is_out_of_space(broker: PrivateBroker) -> None:
    """Which is tried again; what can be read still is."""
    url = broker.url(broker.port)

    async def main() -> None:
        async with opened(url) as results:
            await results.append(KEY, "a", (), records(10))
            with looking(url) as database:
                database.config_set("maxmemory", 1)
                with pytest.raises(OutOfSpace, match=r"append to results: redis://.*maxmemory"):
                    await results.append(KEY, "a", (), records(20))
                assert records(10) == await told(results, "a")
                database.config_set("maxmemory", 0)
            await results.append(KEY, "a", (), records(20))
            assert records(20) == await told(results, "a")

    asyncio.run(main())


# Who may


def test_a_wrong_password_is_told_without_it_and_changes_to_the_right_one(broker: PrivateBroker) -> None:
    """What runs goes over to the new secret without a restart; the old connections are not used again."""
    url, credential = broker.url(broker.port), Credential("redis", broker.url(broker.port), secrets=HELD)
    with looking(url) as database:
        database.execute_command("ACL", "SETUSER", "ada", "on", ">hunter2", "~*", "+@all")

    async def main() -> None:
        results = RedisResults(url, "train", secrets={**HELD, "password": Secret("hunter1")})
        with pytest.raises(ConfigurationError) as raised:
            await results.stops()
        shown = "".join(traceback.format_exception(raised.value))
        assert "check username and password" in shown
        assert not any(secret in shown for secret in ("hunter1", "hunter2"))
        await results.change(credential)
        await results.request_stop("a")
        with looking(url) as database:
            database.execute_command("ACL", "SETUSER", "ada", "resetpass", ">hunter3")
        await results.change(Credential("redis", url, secrets={**HELD, "password": Secret("hunter3")}))
        assert frozenset({"a"}) == await results.stops()
        with looking(url) as database:
            assert 1 == sum(it["user"] == "ada" for it in database.client_list())
        await results.close()

    asyncio.run(main())


def test_a_user_needs_no_more_than_the_keys_of_the_queue(broker: PrivateBroker, tmp_path: Path) -> None:
    """One Redis serves many; and what another queue's user asks for is refused in words."""
    url = broker.url(broker.port)
    (tmp_path / "file").write_bytes(b"x")
    with looking(url) as database:
        rights = ("~{runner:train}:*", "+@all", "-@admin", "-@dangerous")
        database.execute_command("ACL", "SETUSER", "ada", "on", ">hunter2", *rights)

    async def main() -> None:
        results = RedisResults(url, "train", box_id="box-1", secrets=HELD)
        await results.append(KEY, "a", (end_of(KEY, "a"),), records(1))
        await results.put_receipt(receipt())
        await results.put_log(KEY, 1, str(tmp_path / "file"))
        await results.get_upload(await results.put_upload(str(tmp_path / "file")), str(tmp_path / "copy"))
        await results.request_stop("a")
        await results.clear_stop("a")
        await results.beat(BoxBeat("box-1", 5.0))
        assert 1 == len(await results.beats())
        assert [*records(1), end_of(KEY, "a")] == await told(results, "a")
        assert ["a"] == [row.id for row in await results.list(ended=True)]
        assert 1 == await results.prune(AT + 1)
        await results.close()
        other = RedisResults(url, "other", secrets=HELD)
        with pytest.raises(ConfigurationError, match="what that user may do"):
            await other.stops()
        with pytest.raises(ConfigurationError, match="what that user may do"):
            await other.append(KEY, "a", (), ())
        await other.close()

    asyncio.run(main())


def test_a_backend_elsewhere_has_secrets_of_its_own() -> None:
    """Those of the queue are not sent to another server."""
    secrets = {**HELD, "results_username": Secret("eve"), "results_password": Secret("swordfish")}
    elsewhere = Credential("redis", "redis://a", Rights(results="redis://b"), secrets)
    assert {"username": Secret("eve"), "password": Secret("swordfish")} == results_secrets(elsewhere)
    assert {} == results_secrets(Credential("redis", "redis://a", Rights(results="redis://b"), HELD))
    assert HELD == results_secrets(Credential("redis", "redis://a", Rights(), HELD))
