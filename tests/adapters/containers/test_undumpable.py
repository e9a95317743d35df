"""A runner that is not dumpable: jobs of the same user read neither its memory nor its environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

TARGET = """
import sys
from adapters.containers.undumpable import make_undumpable
assert "readable" in sys.argv or make_undumpable()
print("ready", flush=True)
input()
"""
# Both may read every file, so that an interpreter anywhere can be run, and neither may trace.
SOMEBODY = (
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
@pytest.mark.parametrize("target", ["readable", "undumpable"])
def test_others_of_the_same_user_cannot_read_its_environment(target: str) -> None:
    with subprocess.Popen([*SOMEBODY, sys.executable, "-c", TARGET, target], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        peek = subprocess.run([*SOMEBODY, "cat", f"/proc/{process.pid}/environ"], capture_output=True, check=False)
        assert (b"PATH=" in peek.stdout, peek.returncode == 0) == (
            (True, True) if target == "readable" else (False, False)
        )
        process.communicate(b"\n", timeout=10)
