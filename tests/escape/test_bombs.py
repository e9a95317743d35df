"""What a job cannot take so much of that others have none: the box, the runner and a neighbour go on."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.at_work import until
from tests.conformance.container_harness import ProcessHarness
from tests.escape.box import BOMBS_BOUNDS, Box, opened, pids_with
from tests.escape.probes import BOMBS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a box to break out of is made by root"),
]
GRANTED = 'resources = {{ memory = "{memory_mib}MiB", cpus = 0.25, disk = "{disk_mib}MiB" }}'.format(**BOMBS_BOUNDS)
# What keeps a bomb, where it does not get to say it itself.
ENDED_BY: dict[str, str] = dict.fromkeys(("disk_bomb", "inode_bomb", "temporary_files_bomb"), "disk_exceeded")


def became_of(box: Box, name: str) -> str:
    """Drop one, and tell whether it is held: by a refusal, or by its end."""
    said = box.try_out(name, name, more=GRANTED)
    if name in said:
        return said[name]["verdict"]
    return "held" if box.receipt(name).end_reason in {ENDED_BY.get(name), "oom"} else "open"


def drop_all(box: Box, way: str) -> None:
    with ThreadPoolExecutor(len(BOMBS)) as threads:
        became = dict(zip(BOMBS, threads.map(lambda bomb: became_of(box, bomb.name), BOMBS), strict=True))
    expected = {bomb.name: "open" if way in bomb.open else "held" for bomb in BOMBS}
    assert {bomb.name: verdict for bomb, verdict in became.items()} == expected
    for bomb in BOMBS:
        until(lambda bomb=bomb: not pids_with(f"RUNNER_JOB_ID={bomb.name}"), f"{bomb.name} is gone")  # type: ignore[misc]  # bound now
    assert box.type("submit", "--follow", "--id", "next", *box.image_words, "--", "true").returncode == 0


def test_no_process_job_takes_what_others_need(tmp_path: Path) -> None:
    harness = ProcessHarness(tmp_path)
    if harness.way != "view" or not harness.limits_memory:
        pytest.skip("limits are set by control groups, which this runner may not make")
    with opened(0) as box:
        drop_all(box, "view")


@pytest.mark.docker
def test_no_container_takes_what_others_need(docker_url: str, python_image: str) -> None:
    with opened(0, "--docker-host", docker_url, image=python_image) as box:
        drop_all(box, "docker")
