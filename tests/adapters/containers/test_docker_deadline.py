"""What a container's own directory is written with, on a disk that does not take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.containers.docker_deadline import write_deadline
from adapters.containers.docker_steps import lay_out
from runner.errors import OutOfSpace, Unavailable
from runner.job import Key
from runner.ports import ContainerSpec
from runner.records import Grant, Place
from tests.tiny_disk import free_bytes, tiny_disk


def test_a_place_that_cannot_be_written_is_the_boxs_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="write the deadline of job"):
        write_deadline(str(tmp_path / "file"), "job.1", 1.0)


@pytest.mark.integration
def test_a_full_disk_is_told_as_that_and_is_no_fault_of_the_runner(tmp_path: Path) -> None:
    """Too many of its own faults would end it."""
    spec = ContainerSpec("job.1", Key("job"), 1, (), {}, "", Grant((Place(),)), steps=(("true", "x" * 8192),))
    with tiny_disk(tmp_path / "disk") as disk:
        own = write_deadline(str(disk), "job.1", 1.0)
        (disk / "rest").write_bytes(bytes(free_bytes(disk)))
        with pytest.raises(OutOfSpace):
            write_deadline(str(disk), "job.1", 2.0)
        with pytest.raises(OutOfSpace):
            lay_out(own, spec)
