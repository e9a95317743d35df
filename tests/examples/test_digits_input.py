"""The shipped digits are the ones that DATA.md names, and can be packed again from their source."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
WAIT_S = 60

pytestmark = pytest.mark.integration


def test_shipped_data_are_1797_digits_with_committed_digests(csv: bytes) -> None:
    """Whoever checks the digests in DATA.md, make_input.py and job.toml must find these files."""
    archive_sha256 = hashlib.sha256((EXAMPLE / "digits.tar.gz").read_bytes()).hexdigest()
    csv_sha256 = hashlib.sha256(csv).hexdigest()
    rows = [[int(field) for field in line.split(",")] for line in csv.decode().splitlines()]

    assert len(rows) == 1797
    assert {65} == {len(row) for row in rows}
    assert set(range(17)) == {pixel for row in rows for pixel in row[:64]}
    assert set(range(10)) == {row[64] for row in rows}
    about = (EXAMPLE / "DATA.md").read_text()
    assert archive_sha256 in about
    assert csv_sha256 in about
    assert f'CSV_SHA256 = "{csv_sha256}"' in (EXAMPLE / "make_input.py").read_text()
    assert archive_sha256 == tomllib.loads((EXAMPLE / "job.toml").read_text())["inputs"][0]["sha256"]


def test_input_is_packed_again_byte_for_byte(csv: bytes, tmp_path: Path) -> None:
    """From the same rows, whatever the line ends, comes the same archive."""
    source, packed = tmp_path / "optdigits.tes", tmp_path / "again.tar.gz"
    source.write_bytes(csv.replace(b"\n", b"\r\n"))

    subprocess.run([sys.executable, EXAMPLE / "make_input.py", source, packed], check=True, timeout=WAIT_S)

    assert gzip.decompress((EXAMPLE / "digits.tar.gz").read_bytes()) == gzip.decompress(packed.read_bytes())


def test_other_rows_are_not_packed(csv: bytes, tmp_path: Path) -> None:
    source, packed = tmp_path / "optdigits.tes", tmp_path / "again.tar.gz"
    source.write_bytes(csv.splitlines(keepends=True)[0])

    made = subprocess.run(
        [sys.executable, EXAMPLE / "make_input.py", source, packed], capture_output=True, check=False, timeout=WAIT_S
    )

    assert made.returncode == 1
    assert not packed.exists()
