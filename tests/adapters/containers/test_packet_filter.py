"""What iptables says as it refuses: trouble that passes is tried again, what a person must mend is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ASK = "from adapters.containers.packet_filter import stands; stands('rn0')"
LOCKED = "Another app is currently holding the xtables lock; still 0s 0us time ahead to have a chance to grab the lock"
DENIED = "Could not fetch rule set generation id: Permission denied (you must be root)"


@pytest.mark.parametrize(("words", "kind"), [(LOCKED, "Unavailable"), (DENIED, "RuntimeMissing")])
def test_who_only_found_another_at_the_rules_may_try_again(tmp_path: Path, words: str, kind: str) -> None:
    """A firewall that is loaded anew holds them for longer than one waits."""
    iptables = tmp_path / "iptables"
    iptables.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 4\n")
    iptables.chmod(0o755)
    asked = subprocess.run(
        [sys.executable, "-c", ASK], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert f"runner.errors.{kind}: iptables refused: {words}" in asked.stderr
