"""SQS behind a network that loses things, behind other addresses and keys, and with more queues than one page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from adapters.queues.sqs_queue import SqsQueue
from adapters.queues.sqs_service import SqsService
from runner.errors import Unavailable
from runner.job import Note, Verdict
from tests.adapters.queues.sqs_queues import REGION, Account, fetched
from tests.adapters.queues.sqs_stand_in import stand_in
from tests.adapters.queues.test_sqs_answers import opened_elsewhere
from tests.fault_proxy import FaultProxy, proxied

pytestmark = pytest.mark.broker

NOTE = Note(attempts=1)


@pytest.fixture
def account() -> Account:
    return Account()


def port_of(account: Account) -> int:
    return urlsplit(account.endpoint).port or 80


async def answer_lost(proxy: FaultProxy, call: asyncio.Task[object], queue: SqsQueue, *, depth: int) -> None:
    """Let a call be carried out, as another connection sees, and cut its connection before the answer comes."""
    async with asyncio.timeout(20):
        while await queue.depth() != depth:
            await asyncio.sleep(0.05)
    proxy.cut()
    with pytest.raises(Unavailable):
        await call


def test_every_call_goes_to_the_endpoint(account: Account) -> None:
    """The service names its queues by URLs of hosts that need not be reachable from here."""

    async def main() -> None:
        async with (
            proxied("127.0.0.1", port_of(account)) as proxy,
            account.queue(endpoint=f"http://127.0.0.1:{proxy.port}") as queue,
        ):
            await queue.put(b"x", job_id="a")
            delivery = await fetched(queue)
            proxy.fault = "refuse"
            proxy.cut()
            for call in (queue.renew(delivery.token), queue.fetch(0), queue.depth(), queue.put(b"y", job_id="b")):
                with pytest.raises(Unavailable):
                    await call
            proxy.fault = ""
            await queue.renew(delivery.token)

    asyncio.run(main())


def test_a_message_whose_delivery_was_lost_on_the_way_comes_again(account: Account) -> None:
    async def main() -> None:
        async with (
            proxied("127.0.0.1", port_of(account)) as proxy,
            account.queue(endpoint=f"http://127.0.0.1:{proxy.port}") as queue,
            account.queue() as direct,
        ):
            assert await queue.fetch(0) is None, "nothing but the delivery is asked for from now on"
            submission = await queue.put(b"x", job_id="a")
            proxy.fault = "lose replies"
            fetch: asyncio.Task[object] = asyncio.create_task(queue.fetch(0))
            await answer_lost(proxy, fetch, direct, depth=0)
            proxy.fault = ""
            assert submission == (await fetched(queue)).submission

    asyncio.run(main())


def test_a_settlement_whose_answer_was_lost_can_be_told_again(account: Account) -> None:
    """An acknowledged message stays gone; of a retry there may be two, which are one submission to the box."""

    async def main() -> None:
        async with (
            proxied("127.0.0.1", port_of(account)) as proxy,
            account.queue(endpoint=f"http://127.0.0.1:{proxy.port}", lease_s=30) as queue,
            account.queue() as direct,
        ):
            submission = await queue.put(b"x", job_id="a")
            first = await fetched(queue)

            async def retry() -> None:
                await queue.settle(first.token, Verdict.RETRY, after_s=0, note=NOTE, reason="")

            proxy.fault = "lose replies"
            await answer_lost(proxy, asyncio.create_task(retry()), direct, depth=1)
            proxy.fault = ""
            await retry()
            copies = [await fetched(queue, 0) for _ in range(await direct.depth())]
            assert {(submission, NOTE, b"x")} == {(it.submission, it.note, it.body) for it in copies}
            for copy in copies:
                await queue.settle(copy.token, Verdict.ACK, after_s=0, note=NOTE, reason="")
            assert await queue.fetch(1) is None

    asyncio.run(main())


def test_keys_are_found_where_aws_tools_find_them(account: Account, tmp_path: Path) -> None:
    identity = f"arn:aws:sqs:{REGION}:{account.id}:train"
    endpoint = {"AWS_ENDPOINT_URL_SQS": account.endpoint}
    keys = {"AWS_ACCESS_KEY_ID": account.id, "AWS_SECRET_ACCESS_KEY": "x"}
    assert identity == opened_elsewhere(tmp_path, **keys, **endpoint)

    (tmp_path / ".aws").mkdir()
    profile = f"[work]\naws_access_key_id = {account.id}\naws_secret_access_key = x\n"
    (tmp_path / ".aws" / "credentials").write_text(profile)
    assert identity == opened_elsewhere(tmp_path, AWS_PROFILE="work", **endpoint)


def test_keys_of_a_role_are_fetched_where_the_box_gets_them(account: Account, tmp_path: Path) -> None:
    """They are temporary, and come from an address on the box itself."""

    async def main() -> None:
        async with stand_in() as role:
            role.answers = {
                "AccessKeyId": account.id,
                "SecretAccessKey": "x",
                "Token": "t",
                "Expiration": "2100-01-01T00:00:00Z",
            }
            said = await asyncio.to_thread(
                opened_elsewhere,
                tmp_path,
                AWS_ENDPOINT_URL_SQS=account.endpoint,
                AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{role.url}/role",
            )
            assert f"arn:aws:sqs:{REGION}:{account.id}:train" == said

    asyncio.run(main())


@pytest.mark.slow
def test_more_queues_than_one_page_are_all_found(account: Account) -> None:
    async def main() -> None:
        names = sorted(f"q{number:04d}" for number in range(1100))
        service = SqsService(account.credential(), REGION)

        async def make(some: list[str]) -> None:
            for name in some:
                await service.call("create_queue", f"queue {name}", QueueName=name)

        async with asyncio.TaskGroup() as group:
            for start in range(8):
                group.create_task(make(names[start::8]))
        await service.close()
        async with account.broker() as broker:
            found: tuple[str, ...] = ()
            for _ in range(10):
                found = await broker.queues()
                if len(found) == len(names):
                    break
            assert names == list(found)
        async with account.broker(account.credential("q000*")) as broker:
            assert tuple(names[:10]) == await broker.queues()

    asyncio.run(main())
