"""What the bytes of a credential file say: every mistake in one exact sentence, and never a value of the file."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.credential_files import read_credential
from adapters.unusable import Unusable
from runner.credential import Credential, Rights
from runner.units import Duration

SECRET = "s3cr3tV4lue"
EVERYTHING = """
kind = "folder"
url = "folder:///srv/queue?queue=train"
runtime = "process"
paths = ["/data", "/scratch"]
stores = []
secrets = []
network = []
capabilities = []
mounts = []
allow_endpoints = []
weight = 2
dialect = "native"
results = "folder:///srv/results"
lease = "2m"
timeout = "12h"
user_max_running = 3
sole_reader = true
"""


def test_every_key_that_is_served_becomes_a_right() -> None:
    rights = Rights(
        runtime="process",
        paths=("/data", "/scratch"),
        weight=2.0,
        dialect="native",
        results="folder:///srv/results",
        timeout_s=43200.0,
        user_max_running=3,
        sole_reader=True,
    )
    expected = Credential("folder", "folder:///srv/queue?queue=train", rights, lease=Duration(120))
    assert expected == read_credential(EVERYTHING.encode())


def test_nothing_is_allowed_by_default() -> None:
    assert Rights() == read_credential(b'kind = "folder"\nurl = "folder:///q"').rights


def test_no_file_makes_its_queue_the_boxs_own() -> None:
    with pytest.raises(Unusable, match="own: no such key"):
        read_credential(b'kind = "folder"\nurl = "folder:///q"\nown = true')


FOLDER = 'kind = "folder"\nurl = "folder:///q"\n'
UNUSABLE = {
    "": 'is empty: write kind = "folder" and a url',
    "\n \n": 'is empty: write kind = "folder" and a url',
    f"{SECRET}\n": 'is no TOML at line 1, column 12: write lines like kind = "folder"',
    'kind = "folder"\nurl = "folder:///': 'is no TOML at its end: write lines like kind = "folder"',
    'url = "folder:///q"': 'has no kind: write kind = "folder"',
    "kind = 3": 'has no kind: write kind = "folder"',
    'kind = "redsi"': "kind: no such kind; did you mean redis?",
    f'kind = "{SECRET}"': "kind: no such kind; known are folder, redis, rabbitmq, sqs, registry, secret, pubsub, s3, "
    "gcs, http",
    'kind = "pubsub"\nproject = "p"': "is of kind pubsub, which is not served yet",
    'kind = "secret"': "directory is missing",
    f'kind = "secret"\ndirectory = "{SECRET}"': "directory must be absolute and without .., "
    'as in directory = "/etc/runner/secrets"',
    'kind = "folder"': "url is missing",
    FOLDER + "weigth = 2": "weigth: no such key; did you mean weight?",
    FOLDER + f'weight = "{SECRET}"': "weight must be a number such as 1 or 0.25, not text",
    FOLDER + "weight = 0": "weight must be more than 0 and at most 1000000",
    FOLDER + "weight = nan": "weight must be more than 0 and at most 1000000",
    FOLDER + f'paths = "{SECRET}"': 'paths must be a list of texts, as in ["a", "b"], not text',
    FOLDER + 'paths = ["data"]': 'paths must be absolute and without .., as in paths = ["/data"]',
    FOLDER + 'paths = ["/data/../etc"]': 'paths must be absolute and without .., as in paths = ["/data"]',
    FOLDER + 'runtime = "vm"': 'runtime must be "container" or "process"',
    FOLDER + f'lease = "{SECRET}"': 'lease: the value is no duration: write "90s", "30m" or "1h30m"',
    FOLDER + 'lease = "0s"': 'lease must be "1s" to "24h"',
    FOLDER + "timeout = 0": "timeout must be longer than 0",
    FOLDER + "user_max_running = 0": "user_max_running must be 1 or more",
    **{
        f'{FOLDER}{key} = ["{SECRET}"]': f"{key}: not served yet, so no job would get it: take it out of the file"
        for key in ("stores", "allow_endpoints")
    },
    FOLDER + 'secrets = ["../HF"]': 'secrets must be names of letters, digits and _.-, as in secrets = ["HF_TOKEN"]',
    **{
        f'{FOLDER}secrets_in_env = true\nsecrets = ["{name}"]': "secrets_in_env: one of the secrets can name no "
        "variable, or one that no job may set: rename it, or give files alone"
        for name in ("hf-token", "3D", "LD_PRELOAD")
    },
    **{
        f'{FOLDER}network = ["{name}"]': "network must be 1 to 20 small letters, digits or dashes, "
        'and not host, bridge or default, as in network = ["internet"]'
        for name in (SECRET, "host")
    },
    FOLDER + f'capabilities = ["{SECRET}"]': 'capabilities must be written as in capabilities = ["CAP_PERFMON"]',
    FOLDER + f'mounts = ["{SECRET}"]': 'mounts must be absolute and without .., as in mounts = ["/data"]',
    FOLDER
    + 'seccomp = "perf.json"': 'seccomp must be absolute and without .., as in seccomp = "/etc/runner/perf.json"',
    FOLDER + 'allow_endpoints = ["A"]\nstores = ["/data"]': "stores, allow_endpoints: not served yet, "
    "so no job would get them: take them out of the file",
    FOLDER + 'dialect = "studioml"': "dialect studioml is not served yet",
    FOLDER + 'dialect = "nativ"': "dialect: no such dialect; did you mean native?",
    FOLDER + 'results = "amqp://h"': "results: amqp:// is not served here: "
    "write folder:///absolute/path or redis://HOST:PORT/DB",
    FOLDER + 'match = "("': 'match is no regular expression of RE2\'s syntax: write one like match = "^train"',
    FOLDER + 'mismatch = "(?=a)"': "mismatch is no regular expression of RE2's syntax: "
    'write one like mismatch = "^train"',
    FOLDER + f'password = "{SECRET}"': "password: no such key; known are runtime, paths, stores, secrets, network, "
    "capabilities, mounts, allow_endpoints, weight, dialect, results, sinks, user_max_running, cut_off, sole_reader, "
    "root, seccomp, oci_runtime, secrets_in_env, images, pull, push, build_network, lease, "
    "timeout, match, mismatch, kind, url",
    'kind = "folder"\nurl = "folder://q"': "url must be folder:// and an absolute path without .., as in folder:///var/queue",
    'kind = "folder"\nurl = "/q"': "url must be folder:// and an absolute path without .., as in folder:///var/queue",
    f'kind = "folder"\nurl = "redis://u:{SECRET}@h"': "url: redis:// is not served here: write folder:///absolute/path",
    f"s3://user:{SECRET}@host/b": "is a bare URL, of kind s3, which is not served yet",
    f"ftp://user:{SECRET}@host/b": "is a bare URL of no kind that is known: write one like redis://HOST:PORT/DB",
    f"redis://user:{SECRET}@host:0": "url must be redis://HOST:PORT/DB or rediss://…, "
    "as in redis://cache.lan:6379/0?queue=train",
    f'{{"type": "service_account", "private_key": "{SECRET}"}}': "holds Google credentials, of kind pubsub or gcs, "
    "which is not served yet",
    f'{{"auths": {{"r": {{"auth": "{SECRET}"}}}}}}': "auths: auth of the login at r is not the base64 of USER:PASSWORD",
    f'{{"password": "{SECRET}"}}': 'is JSON of no kind that is known: write TOML with kind = "folder" and a url',
    f'{{"password": "{SECRET}"': "begins as JSON and is malformed, or not yet written to its end",
    "[1, 2]": 'is no TOML at line 1, column 3: write lines like kind = "folder"',
}


@pytest.mark.parametrize("text", UNUSABLE)
def test_a_mistake_is_told_in_one_exact_sentence_without_values(text: str) -> None:
    with pytest.raises(Unusable) as unusable:
        read_credential(text.encode())
    assert UNUSABLE[text] == str(unusable.value)
    assert SECRET not in str(unusable.value)


def test_bytes_that_are_no_text_are_told_as_such() -> None:
    with pytest.raises(Unusable, match="is no text"):
        read_credential(b"\xff\xfe")


@settings(max_examples=150, deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.text().map(lambda text: (FOLDER + text).encode()))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        read_credential(data)
    except Unusable as unusable:
        assert str(unusable).isprintable()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["kind", "url", "runtime", "paths", "weight", "dialect", "results", "lease", "timeout", "more"]),
    st.sampled_from(['"{}"', '["{}"]', '{{ {} = "{}" }}', "{}", "'{}", '"{}\\', "redis://{}@h"]),
)
def test_wherever_a_secret_stands_it_is_not_told(key: str, form: str) -> None:
    text = (
        "\n".join(line for line in FOLDER.splitlines() if not line.startswith(key))
        + f"\n{key} = {form.format(SECRET, SECRET)}"
    )
    try:
        read_credential(text.encode())
    except Unusable as unusable:
        assert SECRET not in str(unusable)
