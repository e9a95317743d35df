"""The exit codes of steps, read from a file that the job itself can write."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.containers.steps import codes


@pytest.mark.parametrize("line", [b"9" * 5000, b"256", b"-1", b"x", b"", b"\xb2"], ids=repr)
def test_what_is_no_code_ends_the_reading(tmp_path: Path, line: bytes) -> None:
    """A number that Python does not even read would else be taken for the runner's own fault."""
    (tmp_path / "steps").write_bytes(b"0\n1\n" + line + b"\n2\n")
    assert (0, 1) == codes(str(tmp_path / "steps"))
