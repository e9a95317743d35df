"""``runner config explain``: each value, and where it came from."""

import json
from pathlib import Path

import pytest

from tests.cli.typed import started, typed


def explained(*words: object, **environ: str) -> dict[str, tuple[str, str]]:
    said = started("config", "explain", "--json", *words, environ=environ)
    assert said.status == 0, said.err
    return {row["name"]: (row["value"], row["source"]) for row in json.loads(said.out)}


def test_the_nearest_place_wins(tmp_path: Path) -> None:
    """Option, RUNNER_X, bare X, file, default: in this order, each seen."""
    file = tmp_path / "box.toml"
    file.write_text('max_jobs = 1\nmax_cores = 1\nmax_mem = "1GiB"\npatience = "2m"\n')
    told = explained(
        "--config",
        file,
        "--max-jobs",
        "4",
        RUNNER_MAX_JOBS="3",
        RUNNER_MAX_CORES="3",
        MAX_CORES="2",
        MAX_MEM="2GiB",
        TIMEOUT="1",
    )
    assert told["max_jobs"] == ("4", "option --max-jobs")
    assert told["max_cores"] == ("3", "environment RUNNER_MAX_CORES")
    assert told["max_mem"] == ("2GiB", "environment MAX_MEM")
    assert told["patience"] == ("2m", str(file))
    assert told["timeout"] == ("1d", "default")


def test_the_state_directory_is_told_as_it_will_be_used(tmp_path: Path) -> None:
    """The one default that depends on who asks is filled in, and absolute."""
    assert explained(RUNNER_STATE_DIR=str(tmp_path))["state_dir"] == (str(tmp_path), "environment RUNNER_STATE_DIR")
    assert Path(explained()["state_dir"][0]).is_absolute()


def test_secrets_in_urls_are_masked() -> None:
    """What is printed is pasted into tickets."""
    assert explained("--docker-host", "tcp://me:hunter2@box:2375")["docker_host"][0] == "tcp://***@box:2375"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("max_job = 1", ["no such key 'max_job'", "did you mean 'max_jobs'"]),
        ('max_jobs = "two"', ["max_jobs", "'two'", "a whole number"]),
        ("max_jobs = \n", ["cannot be read as TOML", "line 1"]),
        ('max_mem = "lots"', ["max_mem", "'lots' is no size"]),
        ("max_mem = \xff", ["cannot be read"]),
        ('queue_match = "a("', ["queue_match", "'a('", "no regular expression", "missing )"]),
        ('queue_match = "^(?!old)"', ["queue_match", "'^(?!old)'", "RE2's syntax", "invalid perl operator: (?!"]),
        ('queue_mismatch = "(?:x?){1000}x{1000}"', ["queue_mismatch", "it is too large"]),
        ('gpus = "all"', ["gpus", "'all'", "simulated:2"]),
        ('job_uids = "0:1"', ["job_uids", "'0:1'", "210000:4096"]),
        ('network = ["My Net"]', ["network must be", "small letters"]),
        ('capabilities = ["PERFMON"]', ["capabilities must be", "CAP_PERFMON"]),
        ('mounts = ["data"]', ["mounts must be absolute", "/data"]),
        ('seccomp = "perf.json"', ["seccomp must be absolute", "/etc/runner/perf.json"]),
    ],
)
def test_a_bad_file_is_one_line_with_its_place(tmp_path: Path, content: str, words: list[str]) -> None:
    """Which file, which key, what to write; 78."""
    file = tmp_path / "box.toml"
    file.write_bytes(content.encode("latin-1"))
    said = typed("config", "explain", "--config", file)
    assert (78, 1) == (said.status, len(said.err.splitlines()))
    for word in (str(file), *words):
        assert word in said.err


def test_a_bad_variable_names_itself() -> None:
    """It is the variable that must be mended, not the file."""
    said = started("config", "explain", environ={"RUNNER_MAX_JOBS": "many"})
    assert (
        "runner: environment RUNNER_MAX_JOBS: max_jobs: 'many' will not do: write a whole number from 0 up\n"
        == said.err
    )
