"""SQS beyond what every queue must do: other people's messages, limits of the service, redrive policies, order."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from adapters.queues.sqs_access import Limits
from runner.credential import Credential
from runner.errors import BadInput, LeaseLost
from runner.job import Note, PastAttempt, Verdict
from tests.adapters.queues.sqs_queues import OTHER_BOX, Account, fetched

pytestmark = pytest.mark.broker

NOTE = Note(attempts=1, last_reason="failed", history=(PastAttempt("bóx", "failed", 1.5),))


@pytest.fixture
def account() -> Account:
    return Account()


def test_a_message_that_somebody_else_sent_is_a_job(account: Account) -> None:
    """Its submission is the service's own id, its age the service's own clock's; what stands beside it stays there."""

    async def main() -> None:
        async with account.queue() as queue:
            url = (await account.call("get_queue_url", QueueName="train"))["QueueUrl"]
            beside = {"team": {"DataType": "String", "StringValue": "vision"}}
            sent = await account.call("send_message", QueueUrl=url, MessageBody="{}", MessageAttributes=beside)
            first = await fetched(queue)
            assert (b"{}", sent["MessageId"], Note()) == (first.body, first.submission, first.note)
            await queue.settle(first.token, Verdict.RETRY, after_s=0, note=NOTE, reason="")
            (copy,) = await account.bodies("train")
            assert ("{}", "vision") == (copy["Body"], copy["MessageAttributes"]["team"]["StringValue"])
            assert sent["MessageId"] != copy["MessageId"]
            known = json.loads(copy["MessageAttributes"]["runner"]["StringValue"])
            assert sent["MessageId"] == known["submission"]
            assert first.enqueued_at == known["enqueued_at"]

    asyncio.run(main())


def test_a_message_that_says_it_is_due_in_an_age_is_due(account: Account) -> None:
    """No box wrote that, and it would never be delivered."""

    async def main() -> None:
        async with account.queue() as queue:
            url = (await account.call("get_queue_url", QueueName="train"))["QueueUrl"]
            forged = {"runner": {"DataType": "String", "StringValue": '{"due_at":1e308}'}}
            await account.call("send_message", QueueUrl=url, MessageBody="{}", MessageAttributes=forged)
            assert b"{}" == (await fetched(queue)).body

    asyncio.run(main())


def test_a_body_that_the_service_would_refuse_or_change_goes_coded(account: Account) -> None:
    async def main() -> None:
        async with account.queue() as queue:
            await queue.put("plain ü".encode(), job_id="a")
            await queue.put(b"\x00\xff", job_id="b")
            raw = {message["Body"] for message in await account.bodies("train")}
            raw |= {message["Body"] for message in await account.bodies("train")}
            assert {"plain ü", "base64:AP8="} == raw

    asyncio.run(main())


def test_a_message_beyond_the_queues_limit_is_refused_by_its_sender(account: Account) -> None:
    """Queues that are older than the limit of today still have the old one."""

    async def main() -> None:
        await account.made("small", MaximumMessageSize="1024")
        async with account.queue("small") as queue:
            with pytest.raises(BadInput, match=r"takes 1024 .MaximumMessageSize."):
                await queue.put(random.Random(1).randbytes(1024), job_id="a")
            await queue.put(b"x" * 5000, job_id="b")
            assert b"x" * 5000 == (await fetched(queue)).body

    asyncio.run(main())


def test_a_note_that_no_longer_fits_loses_its_history_and_not_its_counts(account: Account) -> None:
    async def main() -> None:
        await account.made("small", MaximumMessageSize="1024")
        async with account.queue("small") as queue:
            await queue.put(b"x", job_id="a")
            first = await fetched(queue)
            past = tuple(PastAttempt(f"box {number}", "failed", 1.0) for number in range(100))
            note = Note(attempts=100, history=past)
            await queue.settle(first.token, Verdict.RETRY, after_s=0, note=note, reason="")
            assert Note(attempts=100) == (await fetched(queue)).note

    asyncio.run(main())


def test_a_delay_beyond_what_the_service_can_is_kept_all_the_same(account: Account) -> None:
    """What comes before it is due is put off again, and nobody sees it come."""

    async def main() -> None:
        async with account.queue(limits=Limits(delay_max_s=1.0)) as queue:
            await queue.put(b"x", job_id="a")
            first = await fetched(queue)
            began = asyncio.get_running_loop().time()
            await queue.settle(first.token, Verdict.RETRY, after_s=4, note=NOTE, reason="")
            second = await fetched(queue, 15.0)
            took_s = asyncio.get_running_loop().time() - began
            assert 4 <= took_s < 10
            assert (b"x", NOTE, first.submission) == (second.body, second.note, second.submission)
            assert first.enqueued_at == second.enqueued_at

    asyncio.run(main())


def test_a_message_that_is_received_again_and_again_ends_with_the_dead(account: Account) -> None:
    """What kills every box that takes it up would go round for ever."""

    async def main() -> None:
        for number in range(3):
            async with account.queue(limits=Limits(receives=3)) as queue:
                if number == 0:
                    await queue.put(b"x", job_id="a")
                token = (await fetched(queue)).token
                await queue.settle(token, Verdict.RELEASE, after_s=0, note=Note(), reason="")
        async with account.queue(limits=Limits(receives=3)) as queue:
            assert await queue.fetch(0) is None
            (row,) = await queue.dead()
            assert ("received 4 times and never settled", b"x", "a") == (row.reason, row.body, row.job_id)

    asyncio.run(main())


# Redrive policies


async def redriven(account: Account, receives: int) -> None:
    await account.made("elsewhere")
    arn = f"arn:aws:sqs:us-east-1:{account.id}:elsewhere"
    policy = {"deadLetterTargetArn": arn, "maxReceiveCount": receives}
    await account.made("train", RedrivePolicy=json.dumps(policy))


async def written_twice(account: Account, body: str) -> None:
    """Send a copy of a dead letter."""
    url = (await account.call("get_queue_url", QueueName="train-dead"))["QueueUrl"]
    for letter in await account.bodies("train-dead"):
        await account.call(
            "change_message_visibility", QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"], VisibilityTimeout=0
        )
        if letter["Body"] == body:
            beside = letter["MessageAttributes"]
            await account.call("send_message", QueueUrl=url, MessageBody=body, MessageAttributes=beside)


@pytest.mark.parametrize("how", ["retried", "dropped"])
def test_a_dead_letter_that_was_written_twice_is_one(account: Account, how: str) -> None:
    """As by a box that was killed before it could delete the message that it had rejected."""

    async def main() -> None:
        async with account.queue() as queue:
            for job_id in ("other", "twice"):
                await queue.put(job_id.encode(), job_id=job_id)
                token = (await fetched(queue)).token
                await queue.settle(token, Verdict.REJECT, after_s=0, note=NOTE, reason="bad")
            await written_twice(account, "twice")
            rows = {row.body: row for row in await queue.dead()}
            assert 2 == len(await queue.dead())
            do, submission = queue.retry_dead if how == "retried" else queue.drop_dead, rows[b"twice"].submission
            assert [True, False] == [await do(submission), await do(submission)]
            assert [b"other"] == [row.body for row in await queue.dead()]
            assert (how == "retried") == await queue.depth()

    asyncio.run(main())


def test_dead_letters_go_where_the_redrive_policy_says(account: Account) -> None:
    async def main() -> None:
        await redriven(account, 5)
        async with account.queue() as queue:
            assert queue.release_costs
            await queue.put(b"x", job_id="a")
            first = await fetched(queue)
            await queue.settle(first.token, Verdict.REJECT, after_s=0, note=NOTE, reason="bad")
            (letter,) = await account.bodies("elsewhere")
            assert "x" == letter["Body"]
            assert "bad" == json.loads(letter["MessageAttributes"]["runner"]["StringValue"])["reason"]
        async with account.broker() as broker:
            assert ("train",) == await broker.queues(), "the target holds no jobs"

    asyncio.run(main())


def test_what_the_service_gave_up_by_itself_is_a_dead_letter_and_can_be_retried(account: Account) -> None:
    async def main() -> None:
        await redriven(account, 1)
        async with account.queue() as queue:
            submission = await queue.put(b"x", job_id="a")
            await fetched(queue)
            await asyncio.sleep(3.5)
            async with account.queue(box=OTHER_BOX) as other:
                assert await other.fetch(1) is None
                (row,) = await other.dead()
                assert (submission, b"x") == (row.submission, row.body)
                assert "redrive policy" in row.reason
                assert await other.retry_dead(submission)
                assert b"x" == (await fetched(other)).body

    asyncio.run(main())


def test_retries_and_releases_are_not_counted_by_the_redrive_policy(account: Account) -> None:
    """Each is a new message to the service; the policy is there for messages that nobody settles."""

    async def main() -> None:
        await redriven(account, 1)
        async with account.queue() as queue:
            await queue.put(b"x", job_id="a")
            for verdict in (Verdict.RETRY, Verdict.RELEASE, Verdict.RETRY):
                await queue.settle((await fetched(queue)).token, verdict, after_s=0, note=NOTE, reason="")
            await queue.settle((await fetched(queue)).token, Verdict.RELEASE, after_s=0, note=NOTE, reason="")
            assert (NOTE, ()) == ((await fetched(queue)).note, await queue.dead())

    asyncio.run(main())


def test_letters_of_two_queues_with_one_target_are_kept_apart(account: Account) -> None:
    async def main() -> None:
        await redriven(account, 5)
        arn = f"arn:aws:sqs:us-east-1:{account.id}:elsewhere"
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
        await account.made("eval", RedrivePolicy=policy)
        async with account.queue("train") as train, account.queue("eval") as other:
            for queue, body in ((train, b"t"), (other, b"e")):
                await queue.put(body, job_id="a")
                await queue.settle((await fetched(queue)).token, Verdict.REJECT, after_s=0, note=NOTE, reason="")
            assert [b"t"] == [row.body for row in await train.dead()]
            assert [b"e"] == [row.body for row in await other.dead()]
            assert 1 == await train.prune(2**40)
            assert [b"e"] == [row.body for row in await other.dead()]

    asyncio.run(main())


# Order


def test_a_fifo_queue_keeps_the_order_of_each_group(account: Account) -> None:
    async def main() -> None:
        await account.made("line.fifo", FifoQueue="true", ContentBasedDeduplication="true")
        async with account.queue("line.fifo") as queue:
            url = (await account.call("get_queue_url", QueueName="line.fifo"))["QueueUrl"]
            for group, body in (("a", "a1"), ("a", "a2"), ("b", "b1")):
                await account.call("send_message", QueueUrl=url, MessageBody=body, MessageGroupId=group)
            first, second = await fetched(queue), await fetched(queue)
            assert {b"a1", b"b1"} == {first.body, second.body}
            assert await queue.fetch(0) is None, "a2 waits for a1"
            of_a = first if first.body == b"a1" else second
            await queue.settle(of_a.token, Verdict.RETRY, after_s=0, note=NOTE, reason="")
            third = await fetched(queue)
            assert (b"a2", None) == (third.body, await queue.fetch(0)), "the retry waits in its group"
            await queue.settle(third.token, Verdict.ACK, after_s=0, note=third.note, reason="")
            again = await fetched(queue)
            assert (b"a1", NOTE) == (again.body, again.note)

    asyncio.run(main())


def test_fifo_messages_are_delayed_rejected_and_retried(account: Account) -> None:
    async def main() -> None:
        async with account.queue("line.fifo") as queue:
            await queue.put(b"x", job_id="a")
            first = await fetched(queue)
            began = asyncio.get_running_loop().time()
            await queue.settle(first.token, Verdict.RETRY, after_s=2, note=NOTE, reason="")
            second = await fetched(queue)
            assert asyncio.get_running_loop().time() - began >= 2
            await queue.settle(second.token, Verdict.REJECT, after_s=0, note=NOTE, reason="bad")
            (row,) = await queue.dead()
            assert ("bad", b"x") == (row.reason, row.body)
            assert await queue.retry_dead(row.submission)
            assert b"x" == (await fetched(queue)).body

    asyncio.run(main())


# Settling again


def test_the_same_verdict_again_changes_nothing_and_another_is_a_lost_lease(account: Account) -> None:
    async def main() -> None:
        async with account.queue() as queue:
            await queue.put(b"x", job_id="a")
            token = (await fetched(queue)).token
            for _ in range(3):
                await queue.settle(token, Verdict.RETRY, after_s=0, note=NOTE, reason="")
            with pytest.raises(LeaseLost):
                await queue.settle(token, Verdict.ACK, after_s=0, note=NOTE, reason="")
            with pytest.raises(LeaseLost):
                await queue.renew(token)
            assert 1 == await queue.depth()

    asyncio.run(main())


def test_a_retry_of_an_earlier_lifes_claim_carries_what_its_journal_has(account: Account) -> None:
    async def main() -> None:
        async with account.queue(lease_s=20) as queue:
            await queue.put(b"x", job_id="a")
            first = await fetched(queue)
        assert len(first.token.encode()) < 4096
        async with account.queue(lease_s=20) as queue:
            queue.recall(first.token, first.body, first.note)
            await queue.renew(first.token)
            await queue.settle(first.token, Verdict.RETRY, after_s=0, note=NOTE, reason="")
            again = await fetched(queue)
            assert (b"x", NOTE, first.submission) == (again.body, again.note, again.submission)
            assert 0 == await queue.depth()

    asyncio.run(main())


def test_a_retry_of_an_earlier_lifes_claim_finds_its_message_again(account: Account) -> None:
    """Where nobody tells what the journal has."""

    async def main() -> None:
        async with account.queue(lease_s=20) as queue:
            for body in (b"x", b"y", b"z"):
                await queue.put(body, job_id="a")
            first = await fetched(queue)
        async with account.queue(lease_s=20) as queue:
            await queue.settle(first.token, Verdict.RETRY, after_s=0, note=NOTE, reason="")
            found = {(delivery := await fetched(queue)).body: delivery.note for _ in range(3)}
            assert {b"x": Note(), b"y": Note(), b"z": Note()} | {first.body: NOTE} == found

    asyncio.run(main())


# Secrets


def test_new_secrets_are_used_from_then_on_and_no_claim_is_lost(account: Account) -> None:
    async def main() -> None:
        credential: Credential = account.credential(lease_s=20)
        async with account.broker(credential) as broker:
            queue = await broker.open("train")
            await queue.put(b"x", job_id="a")
            first = await fetched(queue)
            poll = asyncio.create_task(queue.fetch(5))
            await queue.depth()
            await broker.change(credential)
            await queue.renew(first.token)
            await queue.put(b"y", job_id="b")
            second = await poll
            assert second is not None
            assert b"y" == second.body
            for delivery in (first, second):
                await queue.settle(delivery.token, Verdict.ACK, after_s=0, note=delivery.note, reason="")
            await queue.close()

    asyncio.run(main())
