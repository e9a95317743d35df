"""A pause that ends early: by a change, by a word from another thread, and otherwise by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.watch import NOTICED_POLL_S, POLL_S, Watch

LONG_S = 20.0


def waited(watch: Watch, limit_s: float = LONG_S) -> float:
    """Return for how long a wait lasted."""
    began = time.monotonic()
    watch.wait(limit_s)
    return time.monotonic() - began


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_every_kind_of_change_ends_a_wait(tmp_path: Path) -> None:
    """Each would else be seen a quarter of a second late; a made, a moved and a longer file."""
    watch = Watch(str(tmp_path))
    watch.wait(0)
    changes: list[Callable[[], object]] = [
        (tmp_path / "made").touch,
        lambda: (tmp_path / "made").rename(tmp_path / "moved"),
        lambda: (tmp_path / "moved").write_bytes(b"more"),
    ]
    for change in changes:
        change()
        assert waited(watch) < NOTICED_POLL_S / 2
        assert waited(watch) >= NOTICED_POLL_S * 0.9, "a notice is used up"
    watch.close()


@pytest.mark.parametrize("notices", [False, True])
def test_a_word_ends_a_wait_also_one_that_has_not_begun(tmp_path: Path, *, notices: bool) -> None:
    watch = Watch(str(tmp_path), notices=notices)
    watch.wake()
    assert waited(watch) < POLL_S
    watch.wake()
    assert waited(watch) < POLL_S
    waiting = threading.Thread(target=watch.wait, args=(LONG_S,))
    waiting.start()
    watch.wake()
    waiting.join(LONG_S)
    assert not waiting.is_alive()
    watch.close()


def test_without_notices_a_wait_is_short(tmp_path: Path) -> None:
    for watch in (Watch(str(tmp_path), notices=False), Watch(str(tmp_path / "missing"))):
        assert POLL_S * 0.9 <= waited(watch) < LONG_S
        watch.close()


def test_a_limit_is_kept(tmp_path: Path) -> None:
    watch = Watch(str(tmp_path))
    assert waited(watch, 0) < NOTICED_POLL_S / 2
    watch.close()


def test_closing_gives_everything_back(tmp_path: Path) -> None:
    before = open_files()
    for _ in range(10):
        watch = Watch(str(tmp_path))
        watch.wait(0)
        watch.close()
        watch.close()
        watch.wake()
        watch.wait(LONG_S)
    assert before == open_files()
