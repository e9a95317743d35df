"""How sinks are named in credential files and for the whole box."""

from __future__ import annotations

import pytest

from adapters.registry import dialects
from adapters.sinks.opening import box_sinks, open_sinks
from adapters.sinks.urls import OPTIONS, secrets_of, sink_secrets, sink_url, sink_urls
from adapters.unusable import Unusable
from runner.cli import sink_fields
from runner.credential import Credential, Rights
from runner.errors import ConfigurationError
from runner.ports import SinkTraits


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://h:6379/0?channel=a:{id}&lag=1MiB", "redis://h:6379/0?channel=a:{id}"),
        ("rediss://ada:hunter2@h/1", "rediss://h/1"),
        ("redis://h?stream=s:{key}&channel=c:{id}&maxlen=5&keep=1d", "redis://h?channel=c:{id}&stream=s:{key}"),
        ("unix://:hunter2@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        (
            "file:///var/log/{queue}/{id}.log?format=json&rotate=1MiB&keep=3",
            "file:///var/log/{queue}/{id}.log?format=json",
        ),
        ("syslog:///dev/log", "syslog:///dev/log"),
        ("syslog://logs.lan:1514?lag=1GiB", "syslog://logs.lan:1514"),
        ("journald:", "journald:"),
    ],
)
def test_a_name_shows_no_secret_and_stays_when_limits_change(url: str, name: str) -> None:
    assert name == sink_url(url).name
    assert name == sink_url(sink_url(url).url).name


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hunter2/", "no such sink"),
        ("hunter2", "no such sink"),
        ("redis://", "write redis://HOST"),
        ("redis://h/train", "write redis://HOST"),
        ("redis://h?channel=logs", "channel of redis must hold {id} or {key}"),
        ("redis://h?stream=logs:{queue}", "stream of redis must hold {id} or {key}"),
        ("redis://h?stream={id}{user}", "no other braces"),
        ("redis://h?queue=train", "behind the ? of redis may stand channel"),
        ("redis://h?db=1", "db is for unix://"),
        ("redis://h?maxlen=0", "maxlen of redis must be a number"),
        ("redis://h?keep=soon", "keep of redis must be a time like 7d"),
        ("redis://h?lag=much", "lag of redis must be a size like 64MiB"),
        ("redis://h?lag=1MiB&lag=2MiB", "each once"),
        ("file://host/logs/{id}", "write file:///DIRECTORY"),
        ("file:///logs/../{id}", "write file:///DIRECTORY"),
        ("file:///logs/%2e%2e/{id}", "write file:///DIRECTORY"),
        ("file:///logs/", "write file:///DIRECTORY"),
        ("file:///logs/{user}", "write file:///DIRECTORY"),
        ("file:///logs/{id}?format=xml", "format of file must be text or json"),
        ("file:///logs/{id}?keep=0", "number of files"),
        ("syslog://ada:hunter2@h", "write syslog:///dev/log"),
        ("syslog:", "write syslog:///dev/log"),
        ("journald://host", "write journald:"),
        ("redis://ada:hunter@2@h?a=@", "holds an @"),
        ("redis://h/0#a", "holds a #"),
    ],
)
def test_what_cannot_be_used_is_told_without_repeating_it(url: str, said: str) -> None:
    """It may hold a password."""
    with pytest.raises(Unusable) as raised:
        sink_url(url)
    assert said in str(raised.value)
    assert str(raised.value).startswith("sinks")
    assert "hunter" not in str(raised.value)


def test_users_and_passwords_are_kept_apart_by_sink() -> None:
    one, other = sink_urls(["redis://ada:a%40b@h/0", "redis://:word@h/1"])
    secrets = sink_secrets([one, other])
    assert {"username": "ada", "password": "a@b"} == {n: it.reveal() for n, it in secrets_of(one, secrets).items()}
    assert {"password": "word"} == {n: it.reveal() for n, it in secrets_of(other, secrets).items()}


def test_one_sink_is_not_named_twice() -> None:
    """The second would go on where the first got to."""
    with pytest.raises(Unusable, match="twice"):
        sink_urls(["redis://h/0?lag=1MiB", "redis://ada:hunter2@h/0"])


def test_the_configuration_holds_no_secrets() -> None:
    with pytest.raises(ConfigurationError, match="credential file") as raised:
        box_sinks(["redis://:hunter2@h/0"])
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigurationError, match=r"configuration: sinks: no such sink"):
        box_sinks(["http://hunter2"])


def test_sinks_of_the_box_and_of_a_file_are_opened_by_name() -> None:
    """One that both name is opened once, as the file has it."""
    box = box_sinks(["journald:", "redis://h/0?lag=1MiB"])
    credential = Credential("folder", "folder:///q", Rights(sinks=("redis://h/0?lag=2MiB", "file:///logs/{id}")))
    opened = open_sinks(box, dialects(), credential, "train", None)
    assert ["journald:", "redis://h/0", "file:///logs/{id}"] == list(opened)
    assert SinkTraits(coalesces=True, lag_max_bytes=2 << 20) == opened["redis://h/0"].traits
    assert SinkTraits(coalesces=True) == opened["journald:"].traits


def test_the_reference_names_all_that_may_be_said() -> None:
    assert OPTIONS.keys() == sink_fields.FORMS.keys()
    assert {name for known in OPTIONS.values() for name in known} == sink_fields.OPTIONS.keys()
