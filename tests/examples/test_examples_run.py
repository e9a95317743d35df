"""Every example job runs to the end that it promises, on a real runner: what is shown to a newcomer works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.runners import RunningRunner, running

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"
PROMISED = {
    "hello": "hello from the runner\n",
    "alone": "ms: ",
    "env": "job my-env, attempt 1, good morning\n",
    "files": "3\n",
    "gpu": "GPUs: SIM-",
    "steps": "compiled\n14\n",
    "retry": "attempt 1\nattempt 2\n",
}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRunner]:
    """Return a runner that all tests of this file share."""
    with running(tmp_path_factory.mktemp("examples")) as it:
        yield it
        assert it.stop() == 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("jobs/*.toml")), ids=lambda path: path.stem)
def test_an_example_job_does_what_it_says(box: RunningRunner, path: Path) -> None:
    """Submitted as the README does it; an example without an entry in the table fails here."""
    said = box.type("submit", "--follow", "--id", f"my-{path.stem}", path)
    assert said.status == 0, said.err
    assert said.out.startswith(PROMISED[path.stem])


def test_the_digits_are_learnt(box: RunningRunner, tmp_path: Path) -> None:
    """From the archive to a model, its figures, a picture and the receipt beside them; two epochs here."""
    job = (EXAMPLES / "digits" / "job.toml").read_text()
    job = job.replace("folder:///tmp/runner-results/", f"folder://{tmp_path}/")
    job = job.replace('"--out", "."', '"--out", ".", "--epochs", "2"')
    job = job.replace('url = "./', f'url = "{EXAMPLES}/digits/')
    (tmp_path / "job.toml").write_text(job)
    said = box.type("submit", "--follow", "--id", "digits", tmp_path / "job.toml")
    assert said.status == 0, said.err
    assert "epoch 2/2" in said.out
    stored = {path.name for path in (tmp_path / "digits").iterdir()}
    assert stored == {"model.json", "metrics.json", "curve.svg", "receipt.json"}
