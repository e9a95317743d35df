"""The page of promises and the tests agree: every number has a test, and no test claims a number that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import runner.kernel


def test_every_promise_has_a_test_named_after_it() -> None:
    page = runner.kernel.__doc__ or ""
    promised = [int(number) for number in re.findall(r"^(\d+)\. ", page, re.MULTILINE)]
    sources = "\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    tested = {int(number) for number in re.findall(r"^def test_(\d\d)_", sources, re.MULTILINE)}
    assert list(range(1, 26)) == promised
    assert set(promised) == tested
