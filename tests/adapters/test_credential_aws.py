"""The AWS command line's own files: recognised by what they say, and served as the profile that is meant."""

from __future__ import annotations

import pytest

from adapters.credential_files import is_companion, read_credential, uses_companions
from adapters.unusable import Unusable
from runner.credential import Credential

SECRET = "s3cr3tV4lue"
KEYS = "aws_access_key_id = AK\naws_secret_access_key = SK\n"
ROLE = 'role_arn is not served here: write kind = "sqs" and profile = "NAME" in a file of their own'
HALF = "access_key and secret_key belong together: write both, or neither for the default chain"
CONFIG = "[default]\nregion = eu-west-1\noutput = json\n"


def read(text: str, *beside: str) -> Credential:
    return read_credential(text.encode(), tuple(it.encode() for it in beside))


def said(credential: Credential) -> tuple[str, dict[str, str], dict[str, str]]:
    return credential.url, credential.options, {name: it.reveal() for name, it in credential.secrets.items()}


def test_credentials_and_the_config_beside_them_are_one() -> None:
    found = read(f"[default]\n{KEYS}aws_session_token = T\n", "rubbish", CONFIG)
    assert ("sqs", "container") == (found.kind, found.rights.runtime)
    keys = {"access_key": "AK", "secret_key": "SK", "session_token": "T"}
    assert said(found) == ("sqs://eu-west-1/", {}, keys)


def test_the_profile_is_default_or_the_only_one() -> None:
    other = KEYS.replace("K", "X")
    assert said(read(f"[lab]\n{other}\n[default]\n{KEYS}", CONFIG))[2]["access_key"] == "AK"
    config = "[default]\nregion = us-east-1\n[profile lab]\nregion = eu-north-1\nendpoint_url = http://127.0.0.1:4566\n"
    alone = read(f"# of the lab\n[lab]\n{other}", config)
    assert said(alone)[:2] == ("sqs://eu-north-1/", {"endpoint": "http://127.0.0.1:4566"})
    with pytest.raises(Unusable, match="several profiles and none that is called default"):
        read(f"[a]\n{KEYS}[b]\n{KEYS}", CONFIG)


def test_a_region_may_stand_with_the_keys() -> None:
    """The runner before us looked for it in either file."""
    assert said(read(f"[default]\nregion=us-west-2\n{KEYS}"))[0] == "sqs://us-west-2/"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"[default]\n{KEYS}", "names no region: write region = eu-west-1 into it, or into the config beside it"),
        (KEYS, "is no AWS file at line 1: write [default] first"),
        (f"[default]\n{KEYS}[broken {SECRET}", "is no AWS file at line 4: write lines like region = eu-west-1"),
        (f"[default]\n{KEYS}role_arn = {SECRET}\n", ROLE),
        (f"[default]\naws_access_key_id = {SECRET}\nregion = eu-west-1\n", HALF),
        (CONFIG, "is an AWS config without a credentials file beside it: add one, or take it away"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_without_values(text: str, problem: str) -> None:
    with pytest.raises(Unusable) as unusable:
        read(text)
    assert problem == str(unusable.value)


def test_what_belongs_to_others_is_told_from_what_stands_alone() -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert [True, True, True] == [is_companion(it.encode()) for it in (CONFIG, "[profile x]\nregion=y", certificate)]
    plain = ('kind = "sqs"\n', f"[default]\n{KEYS}", "[section]\nregion = x", "redis://h")
    assert [False] * 4 == [is_companion(it.encode()) for it in plain]
    assert [False, True] == [uses_companions(it.encode()) for it in (CONFIG, f"[default]\n{KEYS}")]
    assert (False, False) == (is_companion(b"\xff"), uses_companions(b"\xff"))
