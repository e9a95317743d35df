"""The whole suite again as runners with fewer rights: another user, and root inside a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.unprivileged import write_bwrap

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("setpriv"), reason="giving rights up takes root and setpriv"
    ),
]

SUITE = (
    "tests/conformance/test_containers.py",
    "tests/conformance/test_containers_through_restarts.py",
    "tests/conformance/test_container_secrets.py",
)
NOBODY = "65534"
USER = (
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    # The one right, to read everything, is for interpreters in directories of root's; jobs do not get it.
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)
# What container engines leave to root by default.
IN_CONTAINERS = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,"
    "audit_write,setfcap"
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory that everybody reaches."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="runner-test-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def run_suite(directory: Path, *privileges: str, path: str = "") -> str:
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(directory / "base")]
    # No engine, which such a user may not reach; and the harness opens the directories below TMPDIR.
    own = {name: value for name, value in os.environ.items() if not name.startswith("RUNNER_TEST_")}
    env = {**own, "TMPDIR": str(directory.parent), "PATH": f"{path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["setpriv", *privileges, *pytest_, *SUITE], capture_output=True, text=True, timeout=110, check=False, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_suite_passes_as_a_user_without_rights(directory: Path) -> None:
    os.chown(directory, int(NOBODY), int(NOBODY))
    assert "passed" in run_suite(directory, *USER)


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_the_suite_passes_as_a_user_without_rights_who_has_bubblewrap(directory: Path) -> None:
    os.chown(directory, int(NOBODY), int(NOBODY))
    (directory / "bin").mkdir()
    assert "passed" in run_suite(directory, *USER, path=str(write_bwrap(directory / "bin")))


def test_the_suite_passes_as_root_inside_a_plain_container(directory: Path) -> None:
    bounding = ",".join(f"+{name}" for name in IN_CONTAINERS.split(","))
    assert "passed" in run_suite(directory, f"--bounding-set=-all,{bounding}")
