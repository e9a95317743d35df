"""Jobs that ask for what cannot be: commands that are not there, more than the box has, outputs that are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.at_work import AtWork, at_work, dead_letters, left_in, until

pytestmark = pytest.mark.integration

CREDENTIAL = 'kind = "folder"\nurl = "folder://{queue}"\nruntime = "process"\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a queue that other boxes may read, too."""
    return tmp_path_factory.mktemp("shared") / "q"


@pytest.fixture(scope="module")
def box(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    """A runner that serves it beside its own."""
    certs = tmp_path_factory.mktemp("certs")
    (certs / "shared.toml").write_text(CREDENTIAL.format(queue=shared))
    with at_work(tmp_path_factory.mktemp("box"), "--certs-dir", certs, "--patience", "3s") as it:
        yield it
        assert it.stop() == 0
        assert [line for line in it.said if line.get("level") == "error" or "traceback" in line or "text" in line] == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["nosuch-program"], ("nosuch-program", "not found in PATH")),
        (["./nosuch"], ("./nosuch", "no such file", "workspace")),
        (["/etc/passwd"], ("/etc/passwd", "not executable")),
        (["/tmp"], ("/tmp", "is a directory")),
        (["nosuch\u00fc/\u20ac"], ("no such file",)),
    ],
)
def test_a_command_that_does_not_exist_fails_as_a_shell_would(
    box: AtWork, command: list[str], words: tuple[str, ...]
) -> None:
    """127 and the reason: it is the job's own failure, and no fault of the box."""
    said = box.type("submit", "--follow", "--", *command)
    job_id = said.err.splitlines()[0].removeprefix("runner: ")
    assert (127, "", 2) == (said.status, said.out, len(said.err.splitlines())), said.err
    assert [word for word in words if word not in said.err] == [], said.err
    receipt = box.receipt(job_id)
    assert ("failed", 127, "ack", 1) == (receipt.end_reason, receipt.exit_code, receipt.verdict, receipt.attempt)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpus", "3"), "needs 3 GPUs, 2 are here"),
        (("--cpus", "1000"), "needs 1000 cores"),
        (("--memory", "1PiB"), "of memory"),
        (("--disk", "1EiB"), "of disk"),
    ],
)
def test_more_than_the_box_can_ever_give_is_rejected_on_its_own_queue(
    box: AtWork, options: tuple[str, str], words: str
) -> None:
    """Nobody else could take it."""
    job_id = f"too-much{options[0]}"
    said = box.follow(job_id, *options, "--", "true")
    assert (125, 2) == (said.status, len(said.err.splitlines()))
    assert f"{job_id} rejected: this box can never run it: " in said.err
    assert words in said.err
    assert any(words in reason for _, reason in dead_letters(box.queue).values())


def test_more_than_the_box_can_ever_give_is_released_on_a_shared_queue(box: AtWork, shared: Path) -> None:
    """Another box may have it; the third time it comes back here, this one seems to be alone and rejects it."""
    queue = f"folder://{shared}"
    assert box.type("submit", "--queue", queue, "--id", "wide", "--gpus", "3", "--", "true").status == 0
    until(lambda: (shared / "dead").is_dir() and list((shared / "dead").iterdir()), "it is rejected in the end")
    receipt = box.receipt("wide", "--queue", queue)
    assert ("rejected", 1) == (receipt.end_reason, receipt.attempt)
    ((_, reason),) = dead_letters(shared).values()
    assert reason == f"rejected: {receipt.message}"
    (note,) = (json.loads(path.read_text())["note"] for path in (shared / "notes").iterdir())
    assert (3, 0, 0) == (note["releases"], note["attempts"], note["faults"])
    assert note["refused_by"] == [receipt.box]
    said = box.type("logs", "--queue", queue, "wide").err
    assert said.count("given back to the queue: this box can never run it: needs 3 GPUs, 2 are here") == 3


def test_more_than_is_free_now_waits_and_a_smaller_one_passes(box: AtWork) -> None:
    """The sentence names who has it; it starts when that one ends."""
    hold = "while [ ! -e go ]; do sleep 0.05; done"
    assert box.type("submit", "--id", "holder", "--gpus", "1", "--cpus", "0.1", "--", "sh", "-c", hold).status == 0
    until(lambda: list((box.state / "workspaces").glob("holder.*")), "the first runs")
    assert box.type("submit", "--id", "waiter", "--gpus", "2", "--cpus", "0.1", "--", "echo", "late").status == 0
    assert box.follow("smaller", "--gpus", "1", "--cpus", "0.1", "--", "echo", "passed").out == "passed\n"
    until(lambda: "holder has GPU 0" in box.type("why", "waiter").out, "it says what it waits for")
    assert "needs 2 GPUs, 1 is free" in box.type("why", "waiter").out
    assert box.receipt("waiter").state == "waiting"
    next((box.state / "workspaces").glob("holder.*")).joinpath("go").touch()
    assert box.type("logs", "-f", "waiter").out == "late\n"
    assert box.receipt("waiter").started_at >= box.receipt("holder").ended_at  # type: ignore[operator]  # both ended


def test_inputs_that_are_known_to_be_larger_than_the_disk_are_not_fetched(box: AtWork, tmp_path: Path) -> None:
    """Each for itself and all together; the cache is left as it was."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * (700 << 10))
    cached = sum(path.stat().st_size for path in (box.state / "cache").rglob("*"))
    for disk, named, told in ((512 << 10, "a", "700 KiB, 512 KiB"), (1 << 20, "ab", "1.4 MiB, 1.0 MiB")):
        inputs = [f'{{ path = "{name}", url = "folder://{tmp_path}/{name}" }}' for name in named]
        job = f'command = ["true"]\nresources = {{ disk = {disk} }}\ninputs = [{", ".join(inputs)}]\n'
        (tmp_path / "job.toml").write_text(job)
        assert box.follow(f"fat-{disk}", tmp_path / "job.toml").status == 125
        receipt = box.receipt(f"fat-{disk}")
        assert ("disk_exceeded", None) == (receipt.end_reason, receipt.started_at)
        assert f"its inputs take {told} of disk was granted" == receipt.message
    fetched = sum(path.stat().st_size for path in (box.state / "cache").rglob("*")) - cached
    assert fetched < 800 << 10, "the one that alone would fit"


MESS = """
mkdir dir; echo a > dir/a; ln -s a dir/link; mkfifo dir/pipe; truncate -s 900M dir/monster
ln -s /etc/passwd link; mkfifo pipe; truncate -s 900M monster; ln -s dir linked; echo fine > fine
mkdir twin; echo other > twin/fine; echo mine > receipt.json; chmod 0 dir/a; exit $CODE
"""
OUTPUTS = ("fine", "never", "link", "pipe", "monster", "dir", "linked/a", "never/inside", "twin", "receipt.json")
PROBLEMS = {
    "never": "was not written",
    "never/inside": "was not written",
    "link": "is a link, which is not stored",
    "pipe": "is a FIFO, which is not stored",
    "monster": "is sparse: 900 MiB long, 0 B of it written",
    "dir/link": "is a link, which is not stored",
    "dir/pipe": "is a FIFO, which is not stored",
    "dir/monster": "is sparse: 900 MiB long, 0 B of it written",
    "linked/a": "stands behind a link or a file, which is not followed",
}


@pytest.mark.parametrize(("code", "reason"), [(0, "succeeded"), (3, "failed")])
def test_outputs_that_are_none_are_named_and_not_stored(box: AtWork, tmp_path: Path, code: int, reason: str) -> None:
    """The others are stored, and the end reason stays the job's."""
    target = tmp_path / "out"
    job = f'command = ["sh", "-c", """{MESS}"""]\nenv = {{ CODE = "{code}" }}\n'
    job += "".join(f'[[outputs]]\npath = "{path}"\nurl = "folder://{target}/"\n' for path in OUTPUTS)
    (tmp_path / "job.toml").write_text(job)
    said = box.follow(f"mess-{code}", tmp_path / "job.toml")
    assert code == said.status, said.err
    receipt = box.receipt(f"mess-{code}")
    assert (reason, code, "ack", 1) == (receipt.end_reason, receipt.exit_code, receipt.verdict, receipt.attempt)
    stored = target / f"mess-{code}"
    taken = f"output fine stands at folder://{stored}/fine already: give one of them another url"
    assert {**PROBLEMS, "twin/fine": taken} == {it.path: it.problem for it in receipt.outputs if it.problem}
    assert {"fine": "fine\n", "a": "a\n", "receipt.json": "mine\n"} == {
        path.name: path.read_text() for path in stored.iterdir()
    }
    log = box.type("logs", f"mess-{code}").err
    assert [path for path, problem in PROBLEMS.items() if f"output {path}: {problem}" not in log] == []
    assert not list((box.state / "workspaces").glob("mess-0.*"))


@pytest.mark.parametrize("pack", ["tar.gz", "tar", "zip"])
def test_what_cannot_be_packed_is_left_out_and_named(box: AtWork, tmp_path: Path, pack: str) -> None:
    """An archive of a directory with a monster in it is small, and stored."""
    job = f'command = ["sh", "-c", """{MESS}"""]\nenv = {{ CODE = "0" }}\n[[outputs]]\npath = "dir"\npack = "{pack}"\n'
    (tmp_path / "job.toml").write_text(job + f'url = "folder://{tmp_path}/out/"\n')
    assert box.follow(f"packed-{pack}", tmp_path / "job.toml").status == 0
    accounts = {it.path: it for it in box.receipt(f"packed-{pack}").outputs}
    assert {"dir", "dir/link", "dir/pipe", "dir/monster"} == set(accounts)
    assert ["dir"] == [path for path, it in accounts.items() if not it.problem]
    assert accounts["dir"].bytes == (tmp_path / "out" / f"packed-{pack}" / f"dir.{pack}").stat().st_size < 20_000


def test_outputs_that_may_not_be_stored_end_the_job_as_that(box: AtWork, shared: Path, tmp_path: Path) -> None:
    """A shared queue's jobs write where its credential file says; here nowhere. A failed job stays failed."""
    queue = f"folder://{shared}"
    outputs = f'[[outputs]]\npath = "x"\nurl = "folder://{tmp_path}/forbidden/"\n'
    (tmp_path / "job.toml").write_text('command = ["sh", "-c", "echo x > x; exit 4"]\n' + outputs)
    said = box.follow("forbidden", "--queue", queue, tmp_path / "job.toml")
    assert (4, 2) == (said.status, len(said.err.splitlines()))
    receipt = box.receipt("forbidden", "--queue", queue)
    assert ("failed", "ack") == (receipt.end_reason, receipt.verdict)
    assert f'add paths = ["{tmp_path}/forbidden/forbidden"]' in receipt.outputs[0].problem
    assert not (tmp_path / "forbidden").exists()


def test_a_success_whose_outputs_may_not_be_stored_is_tried_again(box: AtWork, shared: Path, tmp_path: Path) -> None:
    """It is no success then, and not the job's fault; between two tries it can be cancelled where it waits."""
    queue = f"folder://{shared}"
    outputs = f'[[outputs]]\npath = "x"\nurl = "folder://{tmp_path}/forbidden/"\n'
    (tmp_path / "job.toml").write_text('command = ["touch", "x"]\n' + outputs)
    assert box.type("submit", "--queue", queue, "--id", "unstored", tmp_path / "job.toml").status == 0
    until(lambda: list((shared / "later").iterdir()), "it waits for another try")
    receipt = box.receipt("unstored", "--queue", queue)
    told = receipt.state, receipt.end_reason, receipt.verdict, receipt.attempt
    assert ("waiting", "output_failed", "retry", 1) == told
    assert "outside of the directories that its queue may use" in receipt.message
    assert "is withdrawn from its queue" in box.type("cancel", "--queue", queue, "unstored").out
    receipt = box.receipt("unstored", "--queue", queue)
    assert ("ended", "cancelled", 2) == (receipt.state, receipt.end_reason, receipt.attempt)


def test_nothing_is_left_behind(box: AtWork, shared: Path) -> None:
    """Every message of this file is settled."""
    until(lambda: left_in(box.queue) + left_in(shared) == [], "all are settled")
    assert json.loads(box.type("ps", "--json").out) == []


@pytest.mark.parametrize(
    ("options", "script", "reason", "message"),
    [
        (("--disk", "1MiB"), "head -c 2000000 /dev/zero > file", "disk_exceeded", "beyond its disk of 1.0 MiB"),
        (("--disk", "1MiB"), "head -c 2000000 /dev/zero >&2", "log_flood", "its log may have 1.0 MiB"),
        ((), "exit 200", "failed", "exit code 200"),
        ((), "kill -9 $$", "failed", "ended by signal 9"),
    ],
)
def test_an_exit_code_is_told_as_what_it_means(
    box: AtWork, options: tuple[str, ...], script: str, reason: str, message: str
) -> None:
    """A file that outgrew the job's disk ends it by a signal that nobody knows; some codes only look like signals."""
    said = box.type("submit", *options, "--", "sh", "-c", script)
    job = said.out.strip()
    box.type("logs", "-f", job)
    receipt = box.receipt(job)
    assert reason == receipt.end_reason
    assert message in receipt.message
