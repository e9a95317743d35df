"""Versions as real engines and package databases tell them, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from adapters.containers.engine_parts import LIMIT_S, EngineVersion, parts, parts_of
from adapters.versions import is_version
from runner.errors import Unavailable

DEBIAN = """{"Platform": {"Name": ""}, "Version": "20.10.24+dfsg1", "Components": [
    {"Name": "Engine", "Version": "20.10.24+dfsg1", "Details": {"ApiVersion": "1.41", "GitCommit": "5d6db84"}},
    {"Name": "containerd", "Version": "1.6.20~ds1", "Details": {"GitCommit": "1.6.20~ds1-1+deb12u3"}},
    {"Name": "runc", "Version": "1.1.5+ds1", "Details": {"GitCommit": "1.1.5+ds1-1+deb12u1"}},
    {"Name": "docker-init", "Version": "0.19.0", "Details": {"GitCommit": ""}}]}"""
UBUNTU = """{"Components": [
    {"Name": "Engine", "Version": "24.0.5", "Details": {"GitCommit": "24.0.5-0ubuntu1~22.04.1"}},
    {"Name": "containerd", "Version": "1.7.2", "Details": {"GitCommit": ""}},
    {"Name": "runc", "Version": "1.1.7-0ubuntu1~22.04.2", "Details": {"GitCommit": ""}}]}"""
DOCKER_CE = """{"Platform": {"Name": "Docker Engine - Community"}, "Components": [
    {"Name": "Engine", "Version": "28.1.1", "Details": {"GitCommit": "01f442b"}},
    {"Name": "containerd", "Version": "v1.7.27", "Details": {"GitCommit": "05044ec0a9a75232cad458027ca83437aae3f4da"}},
    {"Name": "runc", "Version": "1.2.5", "Details": {"GitCommit": "v1.2.5-0-g59923ef"}}]}"""
PODMAN = """{"Components": [{"Name": "Podman Engine", "Version": "4.3.1", "Details": {"APIVersion": "4.3.1"}},
    {"Name": "OCI Runtime (crun)", "Version": "crun version 1.8.1"}]}"""
DPKG_DEBIAN = """installed docker.io 20.10.24+dfsg1-1+deb12u1+b6
not-installed docker 
installed containerd 1.6.20~ds1-1+deb12u3
installed runc 1.1.5+ds1-1+deb12u1
"""  # noqa: W291 - as it prints
RPM_FEDORA = """package docker.io is not installed
installed moby-engine 24.0.5-1.fc39
installed runc 1.1.8-1.fc39
package nvidia-container-toolkit is not installed
"""


def found(document: str, printed: Mapping[str, str] | None = None) -> dict[str, tuple[str, str]]:
    told = msgspec.json.decode(document, type=EngineVersion)
    run = None if printed is None else lambda command: printed.get(command[0], "")
    return {part.name: (part.version, part.of) for part in parts_of(told, run)}


def test_debians_engine_tells_packages_and_the_database_its_own() -> None:
    assert found(DEBIAN, {"dpkg-query": DPKG_DEBIAN}) == {
        "docker": ("20.10.24+dfsg1-1+deb12u1+b6", "distribution"),
        "containerd": ("1.6.20~ds1-1+deb12u3", "distribution"),
        "runc": ("1.1.5+ds1-1+deb12u1", "distribution"),
    }


def test_a_far_engine_is_known_as_far_as_it_tells_itself() -> None:
    assert found(DEBIAN) == {
        "docker": ("20.10.24+dfsg1", "distribution"),
        "containerd": ("1.6.20~ds1-1+deb12u3", "distribution"),
        "runc": ("1.1.5+ds1-1+deb12u1", "distribution"),
    }
    assert found(DOCKER_CE)["runc"] == ("1.2.5", "nobody knows")


def test_ubuntus_engine_has_the_package_in_one_of_two_places() -> None:
    packages = {
        "dpkg-query": "installed containerd 1.7.2-0ubuntu1~22.04.1\ninstalled docker.io 24.0.5-0ubuntu1~22.04.1\n"
    }
    assert found(UBUNTU, packages) == {
        "docker": ("24.0.5-0ubuntu1~22.04.1", "distribution"),
        "containerd": ("1.7.2-0ubuntu1~22.04.1", "distribution"),
        "runc": ("1.1.7-0ubuntu1~22.04.2", "distribution"),
    }


def test_dockers_own_builds_are_the_projects() -> None:
    """The packages of a distribution that are installed beside them are not what runs."""
    packages = {"dpkg-query": "installed runc 1.1.5+ds1-1+deb12u1\ninstalled docker-ce 5:28.1.1-1~debian.12~bookworm\n"}
    assert found(DOCKER_CE, packages) == {
        "docker": ("28.1.1", "project"),
        "containerd": ("v1.7.27", "project"),
        "runc": ("1.2.5", "project"),
    }


def test_a_number_that_a_distribution_mends_is_not_the_projects() -> None:
    document = UBUNTU.replace("1.1.7-0ubuntu1~22.04.2", "1.1.8")
    assert found(document, {"rpm": RPM_FEDORA})["runc"] == ("1.1.8-1.fc39", "distribution")


@pytest.mark.parametrize(
    ("printed", "version", "of"),
    [
        ({"dpkg-query": "installed nvidia-container-toolkit 1.17.8-1\n"}, "1.17.8-1", "project"),
        ({"rpm": "installed nvidia-container-toolkit 1.17.4-1.amzn2023\n"}, "1.17.4-1.amzn2023", "distribution"),
        ({"nvidia-ctk": "NVIDIA Container Toolkit CLI version 1.17.6\ncommit: f202b80a\n"}, "1.17.6", "project"),
        ({"nvidia-container-cli": "cli-version: 1.13.5\nlib-version: 1.13.5\n"}, "1.13.5", "project"),
    ],
)
def test_nvidias_toolkit_is_found_where_it_is_installed(printed: dict[str, str], version: str, of: str) -> None:
    assert found(PODMAN, printed) == {"nvidia-container-toolkit": (version, of)}
    assert found(PODMAN, {}) == {}


def test_an_engine_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(Unavailable):
        parts("unix:///nowhere.sock")


@pytest.mark.docker
@pytest.mark.integration
def test_a_real_engine_tells_what_it_is_made_of(docker_url: str) -> None:
    known = {part.name: part for part in parts(docker_url, LIMIT_S)}
    assert {"docker", "containerd", "runc"} <= set(known)
    assert all(part.of != "nobody knows" and is_version(part.version) for part in known.values())
