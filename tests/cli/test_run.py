"""The whole from the outside: a runner that runs, and commands typed beside it."""

import json
import re
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.http.client import ControlClient
from tests.at_work import until
from tests.cli.runners import RunningRunner, running
from tests.cli.typed import started

HERE = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRunner]:
    """Return a runner that all tests of this file share."""
    with running(tmp_path_factory.mktemp("box")) as it:
        yield it
        assert it.stop() == 0


def test_the_first_job_of_a_newcomer(box: RunningRunner) -> None:
    """The command that the help screen and the README name."""
    said = box.type("submit", "--follow", "--", "python3", "-c", "print(6*7)")
    assert (0, "42\n") == (said.status, said.out)
    assert re.fullmatch(r"runner: python3-[a-z0-9]{8}\n", said.err)


def test_a_failure_is_the_jobs_own(box: RunningRunner) -> None:
    """Both streams, its exit code, and one line that says so."""
    said = box.type("submit", "--follow", "--id", "fails", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (7, "out\n") == (said.status, said.out)
    assert {"err", "runner: fails"} < set(said.err.splitlines())
    assert said.err.splitlines()[-1].startswith("runner: fails failed")


def test_what_ended_is_told_by_every_command(box: RunningRunner) -> None:
    """One account, whichever way it is asked for."""
    assert box.type("submit", "--follow", "--id", "told", "--user", "ada", "--", "echo", "hi").status == 0
    (row,) = [row for row in json.loads(box.type("ps", "--all", "--json").out) if row["id"] == "told"]
    assert ("ended", "succeeded", 0, "ada") == (row["state"], row["end_reason"], row["exit_code"], row["user"])
    receipt = json.loads(box.type("show", "told", "--json").out)
    assert ("process", 1) == (receipt["isolation"]["runtime"], receipt["log"]["lines"])
    assert box.type("logs", "told").out == "hi\n"
    assert box.type("logs", "-f", "told").out == "hi\n"
    assert "succeeded" in box.type("why", "told").out
    queue = f"folder://{box.state}/queue"
    assert started("logs", "--queue", queue, "told").out == "hi\n"
    assert receipt == json.loads(started("show", "--queue", queue, "told", "--json").out)


def test_what_is_followed_as_json_has_a_document_a_line(box: RunningRunner) -> None:
    """Programs get lines and state changes alike; the exit is the job's own."""
    said = box.type("submit", "--follow", "--json", "--", "sh", "-c", "echo out; exit 7")
    told = [json.loads(line) for line in said.out.splitlines()]
    assert (7, ["out\n"]) == (said.status, [line["text"] for line in told if line.get("stream") == "stdout"])
    assert ("ended", "failed", 7) == tuple(told[-1]["event"][name] for name in ("state", "end_reason", "exit_code"))


def test_a_job_that_is_tried_again_says_how_it_stands(box: RunningRunner) -> None:
    """Which attempt comes next, and how the last one ended; it may be tried meanwhile, so all is looked at again."""
    assert box.type("submit", "--id", "again", "--retries", "9", "--", "sh", "-c", "exit 7").status == 0

    def is_told() -> bool:
        (row,) = [row for row in json.loads(box.type("ps", "--json").out) if row["id"] == "again"]
        why, show = box.type("why", "again").out, box.type("show", "again").out
        ended = row["attempt"] - 1
        waits = f"waits in queue for its next attempt at .*; attempt {ended} ended as failed: exit code 7"
        return bool(
            row["state"] == "waiting"
            and re.search(waits, why)
            and f"waiting for its next attempt; attempt {ended}: failed, exit 7" in show
        )

    until(is_told, "its next attempt is told by all three")
    assert box.type("cancel", "again").status == 0


def test_local_files_go_in_and_outputs_come_out(box: RunningRunner, tmp_path: Path) -> None:
    """From a directory here, through the box, to a directory here."""
    (tmp_path / "words").write_text("pear\napple\n")
    files = '[[inputs]]\nurl = "./words"\n[[outputs]]\npath = "sorted"\nurl = "./out/"\n'
    (tmp_path / "job.toml").write_text('command = ["sh", "-c", "sort words > sorted"]\n' + files)
    said = box.type("submit", "--follow", "--id", "sorts", tmp_path / "job.toml")
    assert said.status == 0, said.err
    assert (tmp_path / "out" / "sorts" / "sorted").read_text() == "apple\npear\n"


def test_a_directory_is_the_workspace(box: RunningRunner, tmp_path: Path) -> None:
    """What is here runs there, and may write beside itself."""
    (tmp_path / "train.py").write_text("open('beside', 'w').write('x'); print('trained')")
    said = box.type("submit", "--follow", "--upload", tmp_path, "--", "python3", "train.py")
    assert (0, "trained\n") == (said.status, said.out)


def test_cancelling_a_running_job(box: RunningRunner) -> None:
    """Its follower ends with the status of the table; again is no error."""
    job = box.type("submit", "--id", "endless", "--", "sleep", "600")
    assert job.out == "endless\n"
    assert box.type("cancel", "endless").status == 0
    said = box.type("logs", "-f", "endless")
    assert said.status == 0
    receipt = json.loads(box.type("show", "endless", "--json").out)
    assert ("ended", "cancelled") == (receipt["state"], receipt["end_reason"])
    assert box.type("cancel", "endless").status == 0


def test_cancelling_what_nobody_knows_is_1(box: RunningRunner) -> None:
    """A script sees that nothing was done."""
    said = box.type("cancel", "nosuch")
    assert (1, "", 1) == (said.status, said.out, len(said.err.splitlines()))


def test_a_job_that_still_waits_is_cancelled_and_its_follower_told(tmp_path: Path) -> None:
    """Whether the box holds it already or it stands in the queue: one end, one receipt."""
    with running(tmp_path, "--max-jobs", 1, "--max-waiting", 1) as it:
        for job in ("first", "second", "third"):
            assert it.type("submit", "--id", job, "--", "sleep", "600").status == 0
        for job in ("third", "second", "first"):
            assert it.type("cancel", job).status == 0
            assert it.type("logs", "-f", "--queue", f"folder://{tmp_path}/queue", job).status == 0
        rows = json.loads(it.type("ps", "--all", "--json").out)
        assert [(job, "cancelled") for job in ("first", "second", "third")] == sorted(
            (row["id"], row["end_reason"]) for row in rows
        )
        assert it.stop() == 0


def test_a_job_that_waits_in_a_shared_queue_is_cancelled_with_a_receipt_by_whoever_asks(tmp_path: Path) -> None:
    """By the command on the box, that need not name the queue, and by any other program that speaks to the socket."""
    certs, queue = tmp_path / "certs", f"folder://{tmp_path}/shared"
    certs.mkdir()
    (certs / "shared.toml").write_text(f'kind = "folder"\nurl = "{queue}"\nruntime = "process"\n')
    with running(tmp_path / "box", "--certs-dir", certs, "--max-jobs", 1, "--max-waiting", 1) as it:
        for job in ("runs", "waits", "queued", "last"):
            assert started("submit", "--queue", queue, "--id", job, "--user", "ada", "--", "sleep", "600").status == 0
        until(lambda: it.type("why", "waits").status == 0, "the box holds as many as it may")
        said = it.type("cancel", "queued")
        assert (0, "queued is withdrawn from its queue, where it waited\n") == (said.status, said.out), said.err
        sentence = ControlClient(it.state / "control.sock").cancel("last")
        assert sentence == "last is withdrawn from its queue, where it waited"
        for job in ("queued", "last"):
            assert it.type("logs", "-f", "--queue", queue, job).status == 0
            receipt = json.loads(it.type("show", job, "--queue", queue, "--json").out)
            assert ("ended", "cancelled", "ada", "ack") == tuple(
                receipt[name] for name in ("state", "end_reason", "user", "verdict")
            )
        assert "last ended already: cancelled" == ControlClient(it.state / "control.sock").cancel("last")
        for job in ("waits", "runs"):
            assert it.type("cancel", job).status == 0
            assert it.type("logs", "-f", "--queue", queue, job).status == 0
        assert it.stop() == 0


def test_jobs_that_the_runner_rejects_say_why(box: RunningRunner) -> None:
    """What passes the command line may still ask for more than the box has."""
    said = box.type("submit", "--follow", "--id", "big", "--gpus", "64", "--", "true")
    assert said.status == 125
    assert "runner: big rejected" in said.err


def test_sources_and_gpus_of_the_running_runner(box: RunningRunner) -> None:
    """Its own queue and its simulated GPUs."""
    assert ["Simulated GPU"] * 2 == [gpu["model"] for gpu in json.loads(box.type("gpus", "--json").out)["gpus"]]
    (own,) = json.loads(box.type("sources", "--json").out)
    assert "queue" in {queue["name"] for queue in own["queues"]}


def test_a_second_runner_on_the_same_state_is_refused(box: RunningRunner) -> None:
    """78, one line, and the first goes on."""
    said = started("run", "--state-dir", box.state)
    assert (78, 1) == (said.status, len(said.err.splitlines())), said.err
    assert f"process {box.process.pid}" in said.err
    assert box.type("gpus").status == 0


def test_only_the_owner_may_look_into_the_state_directory(box: RunningRunner) -> None:
    """Journal, logs and socket are nobody else's."""
    assert stat.S_IMODE((box.state / "control.sock").stat().st_mode) == 0o660
    assert stat.S_IMODE(box.state.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("words", [("drain",), ("drain", "--leave"), ("drain", "--grace", "1s")])
def test_a_runner_that_is_drained_ends_0(tmp_path: Path, words: tuple[str, ...]) -> None:
    """With nothing in hand all ways to stop are one."""
    with running(tmp_path) as it:
        assert it.type(*words).status == 0
        it.process.communicate(timeout=60)
        assert it.process.returncode == 0
        assert not (tmp_path / "control.sock").exists()


def test_a_drain_that_becomes_a_leave_ends_at_once_and_what_runs_goes_on(tmp_path: Path) -> None:
    """As the command says: nothing that runs is stopped for it."""
    wait = "while [ ! -e go ]; do sleep 0.05; done"
    with running(tmp_path) as it:
        assert it.type("submit", "--id", "long", "--", "sh", "-c", wait).status == 0
        until(lambda: '"running"' in it.type("ps", "--json").out, "it runs")
        assert it.type("drain").status == 0
        assert it.type("drain", "--leave").status == 0
        it.process.communicate(timeout=30)
        assert it.process.returncode == 0
    with running(tmp_path) as it:
        next((tmp_path / "workspaces").glob("long.*")).joinpath("go").touch()
        until(lambda: '"succeeded"' in it.type("ps", "--all", "--json").out, "the same attempt goes on to its end")
        assert (1, 0) == tuple(
            json.loads(it.type("show", "long", "--json").out)[key] for key in ("attempt", "exit_code")
        )


def test_a_state_directory_that_is_a_file_is_78(tmp_path: Path) -> None:
    """One line, with the path."""
    (tmp_path / "file").write_text("")
    said = started("run", "--state-dir", tmp_path / "file")
    assert (78, 1) == (said.status, len(said.err.splitlines())), said.err
    assert str(tmp_path / "file") in said.err


def test_an_older_runner_leaves_the_state_of_a_newer_one_as_it_is(tmp_path: Path) -> None:
    """78 and one line that says what to do; no file of the state directory is changed, and none is made."""
    with running(tmp_path) as it:
        assert it.type("submit", "--follow", "--", "true").status == 0
        assert it.stop() == 0
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = _contents(tmp_path)
    for command in ("run", "ps"):
        said = started(command, "--state-dir", tmp_path)
        assert (78, "", 1) == (said.status, said.out, len(said.err.splitlines())), said.err
        assert "has format 99, this runner knows up to 1: start the newer runner" in said.err
    assert _contents(tmp_path) == before


def _contents(state: Path) -> dict[str, bytes]:
    """Return what stands in a state directory, but for who held its lock, and what a reader of the journal shares."""
    files = [path for path in state.rglob("*") if path.is_file() and path.name not in {"lock", "journal.db-shm"}]
    return {str(path): content for path in files if (content := path.read_bytes())}


def test_it_takes_as_many_open_files_as_it_may(tmp_path: Path) -> None:
    """Most systems give 1,024 to whoever does not ask: with some hundred queues no command reached the runner."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with running(tmp_path / "state", "--gpus", "none") as runner:
            limits = Path(f"/proc/{runner.process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    assert int(line.split()[3]) > 256
