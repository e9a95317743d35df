"""Every secret that a box knows is covered in what the runner itself says, also one that was replaced lately."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from adapters.box_secrets import FRESH_S, KEPT, BoxSecrets


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    """Return a directory with a file of each kind that holds secrets."""
    made, secrets = tmp_path / "certs", tmp_path / "secrets"
    made.mkdir()
    secrets.mkdir(mode=0o700)
    put(secrets / "HF_TOKEN", "token-of-jobs\n")
    put(secrets / "EMPTY", "")
    redis = 'kind = "redis"\nurl = "redis://box:6379/0?queue=q"\nusername = "worker"\npassword = "pass-of-redis"\n'
    put(made / "redis.toml", redis)
    sqs = 'access_key = "access-of-sqs"\nsecret_key = "key-of-sqs-123"\nsession_token = "session-of-sqs"\n'
    put(made / "sqs.toml", f'kind = "sqs"\nurl = "sqs://us-east-1/q"\n{sqs}')
    put(made / "ghcr.toml", 'kind = "registry"\nhost = "ghcr.io"\nusername = "worker"\npassword = "pass-of-ghcr"\n')
    login = base64.b64encode(b"worker:pass-of-docker").decode()
    put(made / "config.json", json.dumps({"auths": {"docker.io": {"auth": login}}}))
    put(made / "lab.toml", f'kind = "secret"\ndirectory = "{secrets}"\n')
    put(made / "broken.toml", 'kind = "redis"\n')
    return made


def put(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o400)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_values_of_every_kind_are_known_and_no_user_names(certs: Path) -> None:
    known = BoxSecrets(str(certs))()
    wanted = {"pass-of-redis", "key-of-sqs-123", "session-of-sqs", "pass-of-ghcr", "pass-of-docker", "token-of-jobs\n"}
    assert wanted <= {value.decode() for value in known}
    assert b"worker" not in known
    assert b"" not in known


def test_what_was_replaced_stays_known_for_this_life(certs: Path) -> None:
    clock = Clock()
    known = BoxSecrets(str(certs), clock)
    known()
    put(certs.parent / "secrets" / "HF_TOKEN", "newer-token")
    assert b"newer-token" not in known()
    clock.now += FRESH_S
    assert {b"token-of-jobs\n", b"newer-token"} <= known()
    assert b"token-of-jobs\n" not in BoxSecrets(str(certs))()


def test_of_a_directory_that_changes_all_the_time_the_last_values_are_kept(tmp_path: Path) -> None:
    clock, certs = Clock(), tmp_path / "certs"
    certs.mkdir()
    known = BoxSecrets(str(certs), clock)
    for number in range(KEPT + 20):
        clock.now += FRESH_S
        put(certs / "a.toml", f'kind = "registry"\nhost = "ghcr.io"\ntoken = "token-{number}"\n')
        known()
    assert len(known()) == KEPT + 1
    assert b"token-%d" % (KEPT + 19) in known()


def test_texts_of_the_runner_are_covered(certs: Path) -> None:
    known = BoxSecrets(str(certs))
    told = asyncio.run(known.redact("cannot log in with pass-of-ghcr at redis://me:else@box: \N{SNOWMAN}"))
    assert told == "cannot log in with ************ at redis://me:****@box: \N{SNOWMAN}"


@pytest.mark.parametrize("directory", ["", "/nowhere"])
def test_a_box_without_credential_files_knows_none(directory: str) -> None:
    assert BoxSecrets(directory)() == frozenset()
