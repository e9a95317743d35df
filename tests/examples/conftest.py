"""The digits as they are shipped."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


def archived_csv(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == ["digits.csv"]
        member = tar.extractfile("digits.csv")
        assert member is not None
        return member.read()


@pytest.fixture(scope="session")
def csv() -> bytes:
    return archived_csv((EXAMPLE / "digits.tar.gz").read_bytes())
