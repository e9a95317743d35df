"""A runner that ends by itself: after so many jobs, or after so long without one."""

import json
import time
from pathlib import Path

import pytest

from tests.cli.runners import running
from tests.cli.typed import started

pytestmark = pytest.mark.integration


def test_it_takes_as_many_as_it_may_and_ends_0(tmp_path: Path) -> None:
    """Of what waits in its own queue and in another one; the rest waits on, as nobody had touched it."""
    certs, shared, own = tmp_path / "certs", f"folder://{tmp_path}/shared", f"folder://{tmp_path}/box/queue"
    certs.mkdir()
    (certs / "shared.toml").write_text(f'kind = "folder"\nurl = "{shared}"\nruntime = "process"\n')
    for number in range(4):
        for queue in (shared, own):
            assert started("submit", "--queue", queue, "--cpus", "0.1", "--", "echo", str(number)).status == 0
    with running(tmp_path / "box", "--certs-dir", certs, "--limit-tasks", "3") as box:
        _, said = box.process.communicate(timeout=60)
        assert (box.process.returncode, "limit_tasks: 3 jobs were taken" in said) == (0, True)
        rows = [row for queue in (shared, own) for row in _rows(queue)]
    assert ["ended"] * 3 + ["waiting"] * 5 == sorted(str(row["state"]) for row in rows)
    assert {1} == {row["attempt"] for row in rows}


def _rows(queue: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(started("ps", "--all", "--queue", queue, "--json").out)
    return rows


def test_it_waits_for_work_as_long_as_it_may_and_ends_0(tmp_path: Path) -> None:
    with running(tmp_path, environ={"LIMIT_IDLE_DURATION": "3s"}) as box:
        assert box.type("submit", "--follow", "--", "sleep", "4").status == 0
        begun = time.monotonic()
        _, said = box.process.communicate(timeout=60)
        assert (box.process.returncode, "limit_idle_duration: no job for 3.0 s" in said) == (0, True)
        assert 1 < time.monotonic() - begun < 10
