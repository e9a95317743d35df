"""What SQS refuses, in words that say what to mend, and never with a secret; against a stand-in that answers as AWS."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from adapters.queues.sqs import SqsBroker
from adapters.queues.sqs_errors import in_words
from runner.credential import Credential
from runner.errors import ConfigurationError, Refused, RunnerError, Unavailable
from runner.secret import Secret
from runner.units import Duration
from tests.adapters.queues.sqs_stand_in import stand_in
from tests.conformance.queue_harness import BOX

NOTHING = r"look for queue train at sqs://eu-west-1/ \(endpoint http://127.0.0.1:9/?\): nothing listens there: check"
KEY, SECRET = "AKIAEXAMPLEEXAMPLE", "made/up/secret"
DENIED = "User: arn:aws:iam::1:user/ada is not authorized to perform: sqs:getqueueurl on resource: train"
ROOT = Path(__file__).parents[3]


def broker(url: str, queue: str = "train", **secrets: str) -> SqsBroker:
    texts = {"access_key": KEY, "secret_key": SECRET, **secrets}
    credential = Credential(
        kind="sqs",
        url=f"sqs://eu-west-1/{queue}",
        secrets={name: Secret(text) for name, text in texts.items()},
        lease=Duration(60),
        options={"endpoint": url},
    )
    return SqsBroker(credential, box_id=BOX, now=time.time)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "words"),
    [
        (403, "InvalidClientTokenId", "The security token is invalid.", ConfigurationError, "access_key is not known"),
        (400, "UnrecognizedClientException", "The token is invalid.", ConfigurationError, "access_key is not known"),
        (403, "SignatureDoesNotMatch", f"... {SECRET} ...", ConfigurationError, "secret_key does not belong"),
        (400, "InvalidSignatureException", f"... {SECRET} ...", ConfigurationError, "secret_key does not belong"),
        (403, "ExpiredToken", "expired", ConfigurationError, "session_token has expired"),
        (403, "AccessDenied", DENIED, Refused, "must allow sqs:GetQueueUrl"),
        (400, "AccessDeniedException", DENIED, Refused, "must allow sqs:GetQueueUrl"),
        (403, "RequestThrottled", "slower", Unavailable, "RequestThrottled"),
        (400, "ThrottlingException", "Rate exceeded", Unavailable, "ThrottlingException"),
        (503, "ServiceUnavailable", "", Unavailable, "ServiceUnavailable"),
        (500, "InternalError", "we are sorry", Unavailable, "InternalError"),
    ],
)
def test_what_is_refused_is_told_in_words(
    status: int, code: str, message: str, kind: type[RunnerError], words: str
) -> None:
    async def main() -> None:
        async with stand_in() as service:
            service.status, service.code, service.message = status, code, message
            opened = broker(service.url)
            with pytest.raises(kind) as caught:
                await opened.open("train")
            assert words in str(caught.value)
            assert "queue train" in str(caught.value)
            assert SECRET not in str(caught.value)
            assert 1 == len(service.calls), "and nothing is tried again here"
            await opened.close()

    asyncio.run(main())


def test_keys_of_the_file_that_are_refused_cost_no_new_client_each_time() -> None:
    """One takes long to make, on the loop on which leases of other queues are renewed."""

    async def main() -> None:
        async with stand_in() as service:
            service.status, service.code = 403, "InvalidClientTokenId"
            opened = broker(service.url)
            for _ in range(3):
                with pytest.raises(ConfigurationError):
                    await opened.open("train")
            assert (3, 1) == (len(service.calls), service.connections)
            await opened.close()

    asyncio.run(main())


def test_an_authority_that_is_not_there_is_named(tmp_path: Path) -> None:
    credential = Credential(kind="sqs", url="sqs://eu-west-1/train", options={"ca_file": f"{tmp_path}/ca.pem"})
    with pytest.raises(ConfigurationError, match=rf"ca_file {tmp_path}/ca\.pem: no such file"):
        SqsBroker(credential, box_id=BOX, now=time.time)


def test_a_queue_that_is_missing_and_may_not_be_made_is_told_so() -> None:
    async def main() -> None:
        async with stand_in() as service:
            service.status, service.code, service.message = 400, "QueueDoesNotExist", "no such queue"
            opened = broker(service.url)
            with pytest.raises(RunnerError, match="there is no such queue"):
                await opened.open("train")
            assert ["getqueueurl", "createqueue"] == service.calls
            await opened.close()

    asyncio.run(main())


def test_what_answers_something_else_is_unavailable() -> None:
    """A wrong endpoint, or a page of some proxy on the way."""

    async def main() -> None:
        async with stand_in() as service:
            service.status, service.code = 404, "<html>"
            opened = broker(service.url)
            with pytest.raises(Unavailable):
                await opened.open("train")
            await opened.close()
        opened = broker("http://127.0.0.1:9")
        with pytest.raises(Unavailable, match=NOTHING):
            await opened.open("train")
        await opened.close()

    asyncio.run(main())


@pytest.mark.parametrize("url", ["sqs://eu-west-1/a/b", "https://sqs.eu-west-1.amazonaws.com/1/train"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="write sqs://region/queue"):
        SqsBroker(Credential(kind="sqs", url=url), box_id=BOX, now=time.time)


# Keys from elsewhere: in a process of their own, since the environment is one for all

OPENS = """
import asyncio, sys, time
from adapters.queues.sqs import SqsBroker
from runner.credential import Credential
from runner.errors import RunnerError

async def main():
    broker = SqsBroker(Credential(kind="sqs", url=sys.argv[1]), box_id="b", now=time.time)
    try:
        print((await broker.open("train")).identity)
    except RunnerError as error:
        print(type(error).__name__, error)
    finally:
        await broker.close()

asyncio.run(main())
"""


def opened_elsewhere(directory: Path, url: str = "sqs://us-east-1/train", **environment: str) -> str:
    """Open a queue in a process that has this environment and an empty home."""
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(directory),
        "AWS_EC2_METADATA_DISABLED": "true",
        **environment,
    }
    run = subprocess.run(
        [sys.executable, "-c", OPENS, url], env=given, capture_output=True, text=True, timeout=60, check=True
    )
    return run.stdout.strip()


def test_without_keys_the_file_or_the_box_is_to_be_mended(tmp_path: Path) -> None:
    said = opened_elsewhere(tmp_path, AWS_ENDPOINT_URL_SQS="http://127.0.0.1:9")
    assert said.startswith("NoKeys look for queue train at sqs://us-east-1/: no keys were found in the credential file")
    assert "write access_key" in said


def test_without_a_region_the_file_is_to_be_mended(tmp_path: Path) -> None:
    said = opened_elsewhere(tmp_path, "sqs:///train", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
    assert said.startswith("ConfigurationError look for queue train at sqs:///: no region: name it in the URL")


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = opened_elsewhere(tmp_path, AWS_PROFILE="nobody")
    assert said.startswith("ConfigurationError look for queue train at sqs://us-east-1/:")
    assert "nobody" in said
    assert "AWS_PROFILE" in said


def test_keys_of_the_environment_that_are_wrong_are_not_looked_for_in_a_file() -> None:
    """Nor are those of a file in the environment."""
    for own, words in ((True, "mend the credential file"), (False, "mend the keys that this machine has")):
        answer = ClientError({"Error": {"Code": "InvalidClientTokenId", "Message": "no"}}, "GetQueueUrl")
        credential = Credential("sqs", "sqs://eu-west-1/", secrets={"access_key": Secret(KEY)} if own else {})
        told = in_words("get_queue_url", "queue train", "sqs://eu-west-1/", answer, credential)
        assert str(told).startswith("look for queue train at sqs://eu-west-1/: access_key is not known there: " + words)
