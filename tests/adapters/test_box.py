"""Which cores stay the runner's while a job is alone: one with all its threads, as Linux tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.box import spare_cores


@pytest.mark.parametrize(
    ("listed", "cores", "spare"),
    [
        ("0", (0, 1, 2, 3), (0,)),
        ("0,2", (0, 1, 2, 3), (0, 2)),
        ("0-1", (0, 1, 2, 3), (0, 1)),
        ("0-1", (0, 2, 3), (0,)),
        ("0-1", (0, 1), (0,)),
        ("0", (0,), ()),
        (None, (0, 1), (0,)),
    ],
)
def test_one_core_with_its_threads_is_spared_where_others_are_left(
    tmp_path: Path, listed: str | None, cores: tuple[int, ...], spare: tuple[int, ...]
) -> None:
    if listed is not None:
        (tmp_path / "cpu0").write_text(f"{listed}\n")
    assert spare_cores(cores, str(tmp_path / "cpu{}")) == spare
