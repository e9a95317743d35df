"""Each kind of credential file: what it means, with user and password out of every URL, and its mistakes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.credential_files import read_credential
from adapters.unusable import Unusable
from runner.credential import Credential
from runner.units import Duration

SECRET = "s3cr3tV4lue"
REDIS = 'kind = "redis"\nurl = "redis://cache:6379/0"\n'
RABBIT = 'kind = "rabbitmq"\nurl = "amqp://rabbit/%2Flab"\n'
SQS = 'kind = "sqs"\n'


def read(text: str) -> Credential:
    return read_credential(text.encode())


def revealed(credential: Credential) -> Mapping[str, str]:
    return {name: secret.reveal() for name, secret in credential.secrets.items()}


@pytest.mark.parametrize(
    ("written", "kind", "url", "secrets"),
    [
        ("redis://cache", "redis", "redis://cache", {}),
        ("rediss://:p%40ss@cache:6380/2", "redis", "rediss://cache:6380/2", {"password": "p@ss"}),
        ("redis://u:p@ss@[::1]:6379/0?queue=a%20b", "redis", "redis://[::1]:6379/0?queue=a%20b",
         {"username": "u", "password": "p@ss"}),
        ("redis://cache?queue=a&prefix=b", "redis", "redis://cache?queue=a&prefix=b", {}),
        ("amqp://u:p@rabbit:5672", "rabbitmq", "amqp://rabbit:5672", {"username": "u", "password": "p"}),
        ("amqps://u:p%2F%23@rabbit/%2F?queue=train", "rabbitmq", "amqps://rabbit/%2F?queue=train",
         {"username": "u", "password": "p/#"}),
        ("sqs://eu-west-1/train", "sqs", "sqs://eu-west-1/train", {}),
        ("sqs://eu-west-1/train-*", "sqs", "sqs://eu-west-1/train-*", {}),
    ],
)  # fmt: skip
def test_a_url_alone_is_a_credential_and_loses_its_secrets(
    written: str, kind: str, url: str, secrets: dict[str, str]
) -> None:
    """Whatever prints the URL then prints no password."""
    for text in (written, f"\n  {written} \n"):
        credential = read(text)
        assert (kind, url, secrets) == (credential.kind, credential.url, revealed(credential))


def test_redis_takes_its_login_from_keys_as_well() -> None:
    credential = read(
        'kind = "redis"\nurl = "rediss://cache:6379/0?queue=train"\nusername = "worker"\npassword = "p"\n'
        'ca_file = "/etc/ssl/lab.pem"\nmatch = "^train"\nmismatch = "old$"\nweight = 2.0\n'
    )
    assert revealed(credential) == {"username": "worker", "password": "p"}
    assert credential.options == {"ca_file": "/etc/ssl/lab.pem"}
    assert (credential.match, credential.mismatch, credential.rights.weight) == ("^train", "old$", 2.0)


def test_rabbitmq_says_how_it_is_managed_and_holds_claims_longer() -> None:
    credential = read(RABBIT + 'management = "http://rabbit:15672"\nqueue_type = "quorum"\n')
    assert credential.options == {"management": "http://rabbit:15672", "queue_type": "quorum"}
    assert (credential.url, credential.lease) == ("amqp://rabbit/%2Flab", Duration(600))
    assert read(RABBIT).options == {}


@pytest.mark.parametrize(
    ("text", "url", "options", "secrets"),
    [
        (SQS, "sqs:///", {}, {}),
        (SQS + 'region = "eu-west-1"', "sqs://eu-west-1/", {}, {}),
        (SQS + 'url = "sqs://eu-west-1/train.fifo"', "sqs://eu-west-1/train.fifo", {}, {}),
        (SQS + 'url = "sqs:///train"\nregion = "us-gov-west-1"', "sqs://us-gov-west-1/train", {}, {}),
        (SQS + 'profile = "lab"\nregion = "eu-west-1"', "sqs://eu-west-1/", {"profile": "lab"}, {}),
        (SQS + 'endpoint = "http://127.0.0.1:4566"\nregion = "eu-west-1"\naccess_key = "A"\nsecret_key = "S"\n'
         'session_token = "T"', "sqs://eu-west-1/", {"endpoint": "http://127.0.0.1:4566"},
         {"access_key": "A", "secret_key": "S", "session_token": "T"}),
    ],
)  # fmt: skip
def test_sqs_takes_keys_or_the_default_chain(
    text: str, url: str, options: dict[str, str], secrets: dict[str, str]
) -> None:
    credential = read(text)
    assert (url, options, secrets) == (credential.url, credential.options, revealed(credential))


@pytest.mark.parametrize("text", [REDIS, RABBIT, SQS, 'kind = "folder"\nurl = "folder:///q"\n'])
def test_results_may_stand_in_redis_for_every_kind(text: str) -> None:
    credential = read(text + 'results = "redis://u:p%2F@results:6379/1"\n')
    assert credential.rights.results == "redis://results:6379/1"
    assert revealed(credential) == {"results_username": "u", "results_password": "p/"}
    assert read(text + 'results = "folder:///srv/results"\n').rights.results == "folder:///srv/results"


FORM = "url must be redis://HOST:PORT/DB or rediss://…, as in redis://cache.lan:6379/0?queue=train"
AMQP = "url must be amqp://HOST:PORT/VHOST or amqps://…, as in amqp://rabbit.lan:5672/?queue=train; "
MISTAKES = {
    'kind = "redis"': "url is missing",
    'kind = "redis"\nurl = "amqp://h"': FORM,
    'kind = "redis"\nurl = "redis://"': FORM,
    'kind = "redis"\nurl = "redis://h:70000"': FORM,
    'kind = "redis"\nurl = "redis://h/zero"': FORM,
    f'kind = "redis"\nurl = "redis://u:{SECRET}/x@h"': "url holds an @ behind its host: in a user or password write "
    "/ as %2F, ? as %3F and # as %23",
    f'kind = "redis"\nurl = "redis://u:{SECRET}?x@h"': "url holds an @ behind its host: in a user or password write "
    "/ as %2F, ? as %3F and # as %23",
    f'kind = "redis"\nurl = "redis://u:{SECRET} x@h"': "url holds a space, or what no URL may hold: write it as %20",
    f'kind = "redis"\nurl = "redis://h?{SECRET}=x"': "url may say nothing behind its path but ?queue=NAME and "
    "prefix=NAME, which begins every key",
    'kind = "redis"\nurl = "redis://h?queue=a&queue=b"': "url may say nothing behind its path but ?queue=NAME and "
    "prefix=NAME, which begins every key",
    'kind = "rabbitmq"\nurl = "amqp://h/?prefix=x"': "url may say nothing behind its path but ?queue=NAME",
    'kind = "rabbitmq"\nurl = "amqp://h/?queue="': "url may say nothing behind its path but ?queue=NAME",
    f'kind = "rabbitmq"\nurl = "amqp://u:{SECRET}#@h/"': "url holds an @ behind its host: in a user or password write "
    "/ as %2F, ? as %3F and # as %23",
    'kind = "rabbitmq"\nurl = "amqp://h/#x"': "url holds a #, which ends a URL: write it as %23",
    f'kind = "redis"\nurl = "redis://[{SECRET}"': "url is no URL",
    f'{REDIS}username = "{SECRET}"': "password is missing: username stands without it",
    f'kind = "redis"\nurl = "redis://u:p@h"\npassword = "{SECRET}"': "password stands in url, too: write it once",
    REDIS + 'ca_file = "/x.pem"': "ca_file is for amqps:// and rediss://: the url is neither",
    'kind = "redis"\nurl = "rediss://h"\nca_file = "x.pem"': "ca_file must be absolute and without .., "
    'as in ca_file = "/etc/ssl/rabbit.pem"',
    REDIS + 'queue_type = "quorum"': "queue_type: no such key; known are runtime, paths, stores, secrets, network, "
    "capabilities, mounts, allow_endpoints, weight, dialect, results, sinks, user_max_running, cut_off, sole_reader, "
    "root, seccomp, oci_runtime, secrets_in_env, images, pull, push, build_network, lease, "
    "timeout, match, mismatch, url, username, password, ca_file, kind",
    'kind = "rabbitmq"\nurl = "amqp://h/a/b"': AMQP + "a / in a vhost is written %2F",
    RABBIT + 'queue_type = "fast"': 'queue_type must be "classic" or "quorum"',
    f'{RABBIT}management = "http://u:{SECRET}@h"': "management holds a user or password: leave them out, "
    "since those of this file are used",
    RABBIT + 'management = "rabbit:15672"': "management must be http://HOST:PORT or https://HOST:PORT",
    f'{SQS}access_key = "{SECRET}"': "access_key and secret_key belong together: write both, "
    "or neither for the default chain",
    f'{SQS}access_key = "{SECRET}"\nsecret_key = "S"\nprofile = "x"': "profile names the keys already: "
    "leave access_key and secret_key out, or profile",
    SQS + 'url = "sqs://u@eu-west-1/q"': "url takes no user or key: write access_key and secret_key into "
    "a credential file, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    SQS + 'url = "sqs://eu-west-1/q"\nregion = "us-east-1"': "region is another one than that of the url: "
    "write it once",
    SQS + 'region = "EU"': "url must be sqs://REGION/ or sqs://REGION/QUEUE, as in sqs://eu-west-1/train; "
    "train-* are all that begin so",
    SQS + 'lease = "13h"': 'lease must be "1s" to "12h"',
    REDIS + 'results = "redis://h?queue=x"': "results is the place of all its queues' results: leave ?queue= out",
    REDIS + f'results = "redis://u:{SECRET}/@h"': "results holds an @ behind its host: in a user or password write "
    "/ as %2F, ? as %3F and # as %23",
    REDIS + 'stores = ["s3://b"]': "stores: not served yet, so no job would get it: take it out of the file",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_in_one_exact_sentence_without_values(text: str) -> None:
    with pytest.raises(Unusable) as unusable:
        read(text)
    assert MISTAKES[text] == str(unusable.value)
    assert SECRET not in str(unusable.value)


LOGIN = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["redis", "rediss", "amqp", "amqps"]), LOGIN, LOGIN)
def test_whatever_a_login_holds_no_url_and_no_mistake_shows_it(scheme: str, before: str, after: str) -> None:
    """People paste passwords as they are: what cannot be told from the rest of a URL is refused, not guessed."""
    try:
        credential = read(f"{scheme}://user:{before}{SECRET}{after}@host:1234/0")
    except Unusable as unusable:
        assert SECRET not in str(unusable)
        return
    assert SECRET not in credential.url + repr(credential)
    assert (SECRET in credential.secrets["password"].reveal(), credential.url) == (True, f"{scheme}://host:1234/0")


def test_sinks_lose_their_secrets_too() -> None:
    """Whatever prints a right then prints no password."""
    credential = read(REDIS + 'sinks = ["redis://ada:p%40ss@logs/0?channel=l:{id}", "journald:"]')
    assert ("redis://logs/0?channel=l:{id}", "journald:") == credential.rights.sinks
    name = "redis://logs/0?channel=l:{id}"
    assert {f"{name} username": "ada", f"{name} password": "p@ss"} == revealed(credential)


def test_a_sink_that_cannot_be_used_is_told() -> None:
    with pytest.raises(Unusable, match="no such sink"):
        read(REDIS + f'sinks = ["http://{SECRET}"]')
