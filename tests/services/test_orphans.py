"""Whatever tests leave running must be found, however it went into hiding."""

import subprocess
import sys
from pathlib import Path

import pytest

HIDING = """
import os, time
os.fork() and os._exit(0)
os.setsid()
os.fork() and os._exit(0)
os.write(1, b"hidden")
time.sleep(600)
"""
SCRIPT = f"""
import subprocess, sys
from tests.services import orphans

def work(keeper):
    hiding = subprocess.Popen([sys.executable, "-c", {HIDING!r}], stdout=subprocess.PIPE)
    hiding.stdout.read(6)
    print(*orphans.await_none(keeper, grace_s=0))
    return 7

sys.exit(orphans.kept(work))
"""


@pytest.mark.integration
def test_a_process_that_left_session_and_parent_is_named_and_ended() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 7
    (pid,) = result.stdout.split()
    assert not Path(f"/proc/{pid}").exists()
