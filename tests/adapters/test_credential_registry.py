"""Logins at registries: read from our own files and Docker's, found for an image by its name."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from adapters.credential_files import read_credential
from adapters.credential_scan import scan_directory
from adapters.unusable import Unusable
from runner.broken_files import BrokenFiles
from runner.credential import CredentialFile, login_for

SECRET = "s3cr3tV4lue"
AUTH = base64.b64encode(f"ada:{SECRET}".encode()).decode()


def docker_config(auths: dict[str, dict[str, str]], **helpers: object) -> bytes:
    return json.dumps({"auths": auths, **helpers}).encode()


def logins(data: bytes) -> list[tuple[str, str, str, str]]:
    found = read_credential(data).logins
    return [(it.place, it.username, it.password.reveal(), it.token.reveal()) for it in found]


def test_a_docker_config_holds_logins_in_three_forms() -> None:
    written = {
        "ghcr.io": {"auth": AUTH},
        "https://index.docker.io/v1/": {"username": "ada", "password": SECRET},
        "127.0.0.1:5000/lab": {"identitytoken": SECRET},
        "empty.example": {},
    }
    assert logins(docker_config(written)) == [
        ("ghcr.io", "ada", SECRET, ""),
        ("docker.io", "ada", SECRET, ""),
        ("127.0.0.1:5000/lab", "", "", SECRET),
    ]


def test_a_file_of_our_own_holds_one() -> None:
    text = f'kind = "registry"\nhost = "GHCR.io/lab"\nusername = "ada"\npassword = "{SECRET}"\n'
    assert logins(text.encode()) == [("ghcr.io/lab", "ada", SECRET, "")]
    assert SECRET not in repr(read_credential(text.encode()))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (docker_config({}, credsStore="pass"), "(credsStore) are not used"),
        (docker_config({"r": {}}, credHelpers={"ghcr.io": "pass"}), "(credHelpers) are not used"),
        (docker_config({}), "has no login in auths"),
        (docker_config({"r": {"auth": SECRET}}), "is not the base64"),
        (docker_config({"r": {"username": SECRET}}), "needs username and password"),
        (docker_config({f"https://{SECRET}@host/": {"auth": AUTH}}), "auths names a registry that is none"),
        (b'{"auths": []}', "has no login"),
        (b'{"auths": {"r": 1}}', "is no table"),
        (b'{"auths": {"r": {"auth": 1}}}', "is no text"),
        (b'kind = "registry"\nhost = "a b"\ntoken = "t"', "host must be"),
        (b'kind = "registry"\nhost = "ghcr.io"', "belong together"),
        (f'kind = "registry"\nhost = "ghcr.io"\nusername = "{SECRET}"'.encode(), "belong together"),
    ],
)
def test_what_cannot_be_used_is_told_without_values(data: bytes, words: str) -> None:
    with pytest.raises(Unusable) as told:
        read_credential(data)
    assert words in str(told.value)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("python", "hub"),
        ("docker.io/library/python:3.12", "hub"),
        ("index.docker.io/ada/x", "hub"),
        ("ghcr.io/lab/x:1", "lab"),
        ("ghcr.io/lab", "lab"),
        ("ghcr.io/laboratory/x", "ghcr"),
        ("GHCR.IO/other/x", "ghcr"),
        ("ghcr.io:443/other/x", "ghcr"),
        ("ghcr.io:5000/lab/x", ""),
        ("127.0.0.1:5000/x@sha256:00", "local"),
        ("127.0.0.1:5001/x", ""),
        ("evil.example/ghcr.io/lab", ""),
    ],
)
def test_the_longest_place_that_a_name_begins_with_counts(image: str, file: str) -> None:
    """A login goes to its own registry and port, and to no path that only looks alike."""
    places = {"hub": "https://index.docker.io/v1/", "ghcr": "ghcr.io", "lab": "ghcr.io/lab", "local": "127.0.0.1:5000"}
    files = [
        CredentialFile(name, name, read_credential(docker_config({place: {"auth": AUTH}})))
        for name, place in places.items()
    ]
    found = login_for(image, [CredentialFile("broken", "", reason="is broken"), *files])
    assert file == (found[0] if found else "")


def test_a_mounted_kubernetes_secret_is_read_and_shown_without_its_logins(tmp_path: Path) -> None:
    """Its one file begins with a dot."""
    auths = {"ghcr.io": {"auth": AUTH}, "127.0.0.1:5000": {"auth": AUTH}}
    helped = docker_config(auths, credsStore="pass")
    for name, data in ((".dockerconfigjson", helped), (".other", b"x")):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o400)
    (row,) = BrokenFiles().table((), scan_directory(str(tmp_path)))
    assert (row.file, row.kind, row.state, row.queues) == (".dockerconfigjson", "registry", "in use", ())
    assert row.note == "login at ghcr.io, 127.0.0.1:5000"
    assert "credsStore" in row.warning
    assert SECRET not in repr(row)
