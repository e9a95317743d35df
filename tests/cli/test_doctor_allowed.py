"""What ``doctor`` says of what a configuration or a credential file names for containers."""

import json
from pathlib import Path

import pytest

from tests.cli.typed import Typed, typed


def checks_of(said: Typed) -> dict[str, list[tuple[str, str, str]]]:
    """Return state, finding and fix of each check, by its name."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for row in json.loads(said.out):
        found.setdefault(row["check"], []).append((row["state"], row["found"], row["fix"]))
    return found


def test_profiles_and_mounts_are_looked_at_before_a_job_meets_them(tmp_path: Path) -> None:
    """Of the box and of each file, by the rules of a start: the state directory is shown to no job."""
    certs, state, data, profile = (tmp_path / name for name in ("certs", "state", "data", "profile.json"))
    for directory in (certs, state, data):
        directory.mkdir(mode=0o700)
    profile.write_text("[]")
    file = certs / "lab.toml"
    file.write_text(f'kind = "folder"\nurl = "folder://{tmp_path}/q"\nmounts = ["{data}"]\nseccomp = "{profile}"\n')
    file.chmod(0o600)
    words = ("--state-dir", state, "--certs-dir", certs, "--mounts", f"{tmp_path}/nosuch,{state},{data}")
    said = typed("doctor", "--json", *words, "--docker-host", f"unix://{tmp_path}/no.sock", "--oci-runtime", "runsc")
    found = checks_of(said)
    assert said.status == 1
    absent, own = found["mounts"]
    assert absent[:2] == ("fail", f"mounts: {tmp_path}/nosuch is not on this box")
    assert absent[2].startswith("make it, or take it out of mounts in the configuration")
    assert own[:2] == ("fail", f"mounts: {state} cannot be given to a job: it is, holds, or lies in {state}")
    assert found["certs/lab.toml mounts"] == [("ok", str(data), "")]
    ((filtered, told, fix),) = found["certs/lab.toml seccomp"]
    assert (filtered, told) == (
        "fail",
        f"seccomp profile {profile} has no defaultAction: the engine takes none without one",
    )
    assert fix == f"write a profile there, or correct seccomp in {file}"
    assert found["oci_runtime"][0][0] == "warn", "no engine answers, so nobody can tell"


def test_what_nobody_names_is_no_check(tmp_path: Path) -> None:
    assert not {"mounts", "seccomp", "oci_runtime"} & set(checks_of(typed("doctor", "--json", "--state-dir", tmp_path)))


@pytest.mark.docker
def test_a_runtime_that_the_engine_lacks_is_told_with_those_that_it_has(docker_url: str, tmp_path: Path) -> None:
    words = ("doctor", "--json", "--state-dir", tmp_path, "--docker-host", docker_url, "--oci-runtime")
    ((state, told, fix),) = checks_of(typed(*words, "runsc"))["oci_runtime"]
    assert (state, "runc" in told.rpartition("only ")[2], "daemon.json" in fix) == ("fail", True, True)
    assert checks_of(typed(*words, "runc"))["oci_runtime"] == [("ok", "runc", "")]
