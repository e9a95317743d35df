"""Each example of a credential file names every key of its kind and can be used, also with what is commented out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from adapters.credential_files import read_credential
from adapters.credential_keys import FILES, LATER_KEYS, QUEUES
from runner.credential import Credential

EXAMPLES = Path(__file__).parents[2] / "examples" / "credentials"
INSTEAD = {"sqs": ("access_key", "secret_key", "session_token")}
"""Keys that another key stands for; no file has both."""


def parts(kind: str) -> tuple[str, str, str]:
    """Return an example as it stands, with what is commented out, and what it says is not served yet."""
    text = (EXAMPLES / f"{kind}.toml").read_text()
    served, _, later = text.partition("# Not served yet")
    whole, refused = (re.sub(r"^# (?=\w+ = )", "", part, flags=re.MULTILINE) for part in (served, "#" + later))
    return text, whole, refused


def read(text: str) -> Credential:
    return read_credential(text.encode())


def test_every_kind_has_an_example() -> None:
    assert set(FILES) == {path.stem for path in EXAMPLES.glob("*.toml")}


@pytest.mark.parametrize("kind", FILES)
def test_an_example_can_be_used_and_names_every_key(kind: str) -> None:
    text, whole, refused = parts(kind)
    later = LATER_KEYS if kind in QUEUES else ()
    assert {*tomllib.loads(whole), *later} == set(FILES[kind].__struct_fields__)
    assert set(tomllib.loads(refused)) == set(later)
    said = tomllib.loads(text)
    assert (kind, read(text).url) == (read(text).kind, said.get("url", said.get("host", said.get("directory"))))


@pytest.mark.parametrize("kind", QUEUES)
def test_what_an_example_shows_can_be_used_all_at_once(kind: str) -> None:
    """Over TLS, where certificates matter, and with keys or what stands for them."""
    whole = re.sub(r'^url = "(redis|amqp)://', r'url = "\1s://', parts(kind)[1], flags=re.MULTILINE)
    for left_out in (INSTEAD.get(kind, ()), ("profile",)):
        lines = [line for line in whole.splitlines() if line.partition(" =")[0] not in left_out]
        credential = read("\n".join(lines))
        assert (credential.match, credential.rights.weight) == ("^train", 2.0)


@pytest.mark.parametrize("kind", FILES)
def test_what_an_example_prints_is_no_secret(kind: str) -> None:
    assert "change-me" not in repr(read(parts(kind)[0]))
