"""Each example job is a job of the vocabulary, so that nothing shown to a newcomer is rejected for its form."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from runner.job import Job
from runner.units import decode_hook

EXAMPLES = Path(__file__).parents[2] / "examples"
JOBS = sorted([*EXAMPLES.glob("jobs/*.toml"), EXAMPLES / "digits" / "job.toml"])


@pytest.mark.parametrize("path", JOBS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_example_job_is_of_the_vocabulary(path: Path) -> None:
    job = msgspec.toml.decode(path.read_bytes(), type=Job, dec_hook=decode_hook)

    assert job.name
    assert bool(job.command) != bool(job.steps)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_local_inputs_of_an_example_job_are_shipped(path: Path) -> None:
    job = msgspec.toml.decode(path.read_bytes(), type=Job, dec_hook=decode_hook)

    local = [given.url for given in job.inputs if given.url.startswith("./")]
    assert [url for url in local if not (path.parent / url).is_file()] == []
