"""The whole ring with containers of a real engine: from a shared queue to stored outputs, and every way to fail."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.box import numbers_in, spare_cores
from adapters.containers.docker_engine import Engine
from tests.at_work import AtWork, at_work, left_in, until
from tests.cli.typed import Typed

pytestmark = [pytest.mark.docker, pytest.mark.integration]

CREDENTIAL = (
    'kind = "folder"\nurl = "folder://{queue}"\nruntime = "container"\npaths = ["{data}"]\nsole_reader = true\n'
)


class Ring:
    """A queue whose jobs run in containers, and a runner for it."""

    def __init__(self, directory: Path, url: str, image: str) -> None:
        self.directory, self.image = directory, image
        self.queue, self.data, self.state = directory / "q", directory / "data", directory / "s"
        self.url = f"folder://{self.queue}"
        self.data.mkdir()
        (directory / "certs").mkdir(mode=0o700)
        (directory / "certs" / "q.toml").write_text(CREDENTIAL.format(queue=self.queue, data=self.data))
        self.options = ("--certs-dir", directory / "certs", "--docker-host", url, "--no-own-queue")

    def follow(self, box: AtWork, job_id: str, *words: object, image: str = "") -> Typed:
        return box.follow(job_id, "--queue", self.url, "--image", image or self.image, *words)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory, docker_url: str, busybox_image: str) -> Ring:
    return Ring(tmp_path_factory.mktemp("ring"), docker_url, busybox_image)


@pytest.fixture(scope="module")
def box(ring: Ring) -> Iterator[AtWork]:
    """A runner that all tests share but those that kill one."""
    with at_work(ring.state, *ring.options) as it:
        yield it
        assert left_in(ring.queue) == []
        assert it.stop() == 0
        assert [line for line in it.said if line.get("level") == "error" or "traceback" in line or "text" in line] == []


def test_output_and_exit_code_are_the_jobs(ring: Ring, box: AtWork) -> None:
    """Both streams, each to its own, and what is told of it later."""
    said = ring.follow(box, "fails", "--", "sh", "-c", "echo out; echo err >&2; printf tail; exit 7")
    assert (7, "out\ntail") == (said.status, said.out)
    assert said.err.splitlines() == ["runner: fails", "err", "runner: fails failed: exit code 7"]
    receipt = box.receipt("fails", "--queue", ring.url)
    assert ("failed", 7, "ack", 3) == (receipt.end_reason, receipt.exit_code, receipt.verdict, receipt.log.lines)
    assert receipt.isolation.runtime == "docker"
    assert receipt.image is not None
    assert (ring.image, "sha256:") == (receipt.image.name, receipt.image.digest[:7])


async def made_for(url: str, image: str, *command: str) -> str:
    """Return the name of an image that has a command of its own."""
    name = "runner-test-speaks"
    engine = Engine(url)
    async with engine.call("make an image") as docker:
        container = await docker.containers.create({"Image": image, "Cmd": list(command)})
        await container.commit(repository=name, tag="1")
        await container.delete()
    await engine.close()
    return f"{name}:1"


def test_what_the_image_was_made_for_runs_where_no_command_is_given(ring: Ring, box: AtWork, docker_url: str) -> None:
    """A job may name an image alone; one that was made for nothing is told so."""
    image = asyncio.run(made_for(docker_url, ring.image, "sh", "-c", "echo made; exit 4"))
    (ring.directory / "job.toml").write_text("retries = 0\n")
    said = ring.follow(box, "bare", ring.directory / "job.toml", image=image)
    assert (4, "made\n") == (said.status, said.out), said.err
    said = ring.follow(box, "barer", ring.directory / "job.toml")
    assert (127, 2) == (said.status, len(said.err.splitlines()))
    assert "No command specified" in said.err


def test_inputs_go_in_and_outputs_come_out(ring: Ring, box: AtWork, python_image: str) -> None:
    """Whoever the job is in its container, it owns its workspace, and nobody else's file is touched."""
    (ring.data / "words").write_text("pear\napple\n")
    job = f"""
command = ["python3", "-c", '''
import os, pathlib
words = sorted(pathlib.Path("in/words").read_text().split())
pathlib.Path("out").mkdir()
pathlib.Path("out/sorted").write_text("\\n".join(words))
pathlib.Path("note").write_text(pathlib.Path("text").read_text().upper())
print(os.getuid(), os.access("in/words", os.W_OK), os.getcwd(), os.environ["RUNNER_JOB_ID"])
''']
[[inputs]]
url = "folder://{ring.data}/words"
path = "in/words"
[[inputs]]
text = "hello"
path = "text"
[[outputs]]
path = "out"
url = "folder://{ring.data}/results/"
pack = "tar.gz"
[[outputs]]
path = "note"
url = "folder://{ring.data}/results/"
"""
    (ring.directory / "job.toml").write_text(job)
    said = ring.follow(box, "sorts", ring.directory / "job.toml", image=python_image)
    assert said.status == 0, said.err
    uid, writable, here, job_id = said.out.split()
    assert (int(uid) not in {0, os.geteuid()}, writable, here, job_id) == (True, "False", "/work", "sorts")
    stored = ring.data / "results" / "sorts"
    assert {"note", "out.tar.gz", "receipt.json"} == {path.name for path in stored.iterdir()}
    assert (stored / "note").read_text() == "HELLO"
    assert {(os.geteuid(), 0o644)} == {(it.stat().st_uid, stat.S_IMODE(it.stat().st_mode)) for it in stored.iterdir()}
    assert (ring.data / "words").stat().st_uid == os.geteuid()
    assert not list((ring.state / "workspaces").glob("sorts.*"))


def test_more_memory_than_granted_is_oom(ring: Ring, box: AtWork, python_image: str) -> None:
    """137, as a shell would say, and the limit in the sentence."""
    words = (
        "--memory",
        "64MiB",
        "--",
        "python3",
        "-c",
        "print('x', flush=True); b = bytearray(1 << 30); b[::4096] = b'x' * (1 << 18)",
    )
    said = ring.follow(box, "hungry", *words, image=python_image)
    assert (137, "x\n") == (said.status, said.out), said.err
    assert "runner: hungry oom: out of memory: killed at its limit of 64.0 MiB" in said.err
    assert box.receipt("hungry", "--queue", ring.url).exit_code == 137


def test_a_time_limit_ends_it(ring: Ring, box: AtWork) -> None:
    """SIGTERM first: a job may still say goodbye."""
    script = "trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
    said = ring.follow(box, "slow", "--timeout", "1s", "--", "sh", "-c", script)
    assert (124, "begun\nbye\n") == (said.status, said.out), said.err
    assert "runner: slow timeout: ran longer than its limit of 1" in said.err


def test_cancelling_ends_it(ring: Ring, box: AtWork) -> None:
    """One that ignores SIGTERM is killed after its grace."""
    script = "trap '' TERM; echo begun; while :; do sleep 0.1; done"
    words = ("--image", ring.image, "--stop-grace", "0.5s", "--", "sh", "-c", script)
    assert box.type("submit", "--queue", ring.url, "--id", "endless", *words).status == 0
    until(lambda: "begun" in box.type("logs", "--queue", ring.url, "endless").out, "it runs")
    assert "is being stopped on this box" in box.type("cancel", "endless").out
    assert box.type("logs", "-f", "--queue", ring.url, "endless").out == "begun\n"
    assert box.receipt("endless", "--queue", ring.url).end_reason == "cancelled"


@pytest.mark.parametrize(
    ("command", "words"), [("nosuch-program", ("nosuch-program",)), ("/etc/passwd", ("/etc/passwd",))]
)
def test_a_command_that_does_not_exist_is_127(ring: Ring, box: AtWork, command: str, words: tuple[str, ...]) -> None:
    """In one line, without the engine's inner life."""
    said = ring.follow(box, f"missing-{command.strip('/').replace('/', '-')}", "--", command)
    assert (127, "", 2) == (said.status, said.out, len(said.err.splitlines())), said.err
    assert [word for word in words if word not in said.err] == []
    assert "runc" not in said.err


def test_an_image_that_cannot_be_had_is_told_in_the_engines_words(ring: Ring, box: AtWork) -> None:
    """The private engine reaches no registry: whoever cannot be asked did not refuse."""
    words = ("submit", "--queue", ring.url, "--id", "imageless", "--image", "localhost:1/nosuch:latest", "--", "true")
    assert box.type(*words).status == 0
    box.wait_for("retry")
    assert "image localhost:1/nosuch:latest" in str(box.wait_for("retry")["message"])
    assert "localhost:1" in str(box.wait_for("retry")["reason"])
    assert box.type("cancel", "imageless").status == 0
    assert box.type("logs", "-f", "--queue", ring.url, "imageless").status == 0
    assert box.receipt("imageless", "--queue", ring.url).end_reason == "cancelled"


def test_a_name_that_is_no_image_is_refused(ring: Ring, box: AtWork) -> None:
    """Nobody could ever pull it."""
    said = ring.follow(box, "nameless", "--", "true", image="UPPER/Case:::")
    assert (125, "", 2) == (said.status, said.out, len(said.err.splitlines())), said.err
    assert "runner: nameless image_refused: " in said.err
    assert "UPPER/Case:::" in said.err


def test_simulated_gpus_are_named_and_no_real_one_is(ring: Ring, box: AtWork) -> None:
    """What a job may use stands in its environment."""
    script = 'echo "$CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES"'
    said = ring.follow(box, "two-gpus", "--gpus", "2", "--", "sh", "-c", script)
    receipt = box.receipt("two-gpus", "--queue", ring.url)
    assert said.out == f"{','.join(receipt.gpus)} void\n"
    assert len(set(receipt.gpus)) == 2


def test_a_container_sees_nothing_of_the_box(ring: Ring, box: AtWork) -> None:
    """No network, nothing writable but its own places, no rights."""
    script = "ls /sys/class/net; touch /etc/x 2>/dev/null || echo sealed; grep CapEff /proc/self/status; id -u"
    said = ring.follow(box, "sealed", "--", "sh", "-c", script)
    net, sealed, rights, uid = said.out.splitlines()
    assert ("lo", "sealed", "CapEff:\t0000000000000000", True) == (net, sealed, rights, int(uid) > 0)


def test_a_job_without_an_image_is_told_what_to_write(ring: Ring, box: AtWork) -> None:
    """Its queue may not run processes."""
    said = box.follow("imageless-2", "--queue", ring.url, "--", "true")
    assert (125, 2) == (said.status, len(said.err.splitlines()))
    assert 'this queue may not run processes: name an image, or write runtime = "process" into q.toml' in said.err


COUNTS = """
echo began $(cat /proc/sys/kernel/random/uuid)
i=0; while [ ! -e go ]; do echo $i; i=$((i+1)); sleep 0.02; done
exit 7
"""


def test_a_killed_runner_takes_its_container_back(tmp_path: Path, docker_url: str, busybox_image: str) -> None:
    """It counts on while nobody listens: all lines in order, each once, one start, its real exit code."""
    ring = Ring(tmp_path, docker_url, busybox_image)

    def log(box: AtWork) -> list[str]:
        return box.type("logs", "--queue", ring.url, "counts").out.splitlines()

    with at_work(ring.state, *ring.options) as first:
        words = ("submit", "--queue", ring.url, "--id", "counts", "--image", ring.image, "--", "sh", "-c", COUNTS)
        assert first.type(*words).status == 0
        until(lambda: "20" in log(first), "it counts")
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    before = log(first)
    with at_work(ring.state, *ring.options) as second:
        assert second.wait_for("adopt")["jobs"] == 1
        until(lambda: len(log(second)) > len(before), "it counts on")
        next((ring.state / "workspaces").glob("counts.*")).joinpath("go").touch()
        began, *numbers = second.type("logs", "-f", "--queue", ring.url, "counts").out.splitlines()
        receipt = second.receipt("counts", "--queue", ring.url)
        assert ("failed", 7, 1, "ack") == (receipt.end_reason, receipt.exit_code, receipt.attempt, receipt.verdict)
        assert (began, numbers) == (before[0], [str(number) for number in range(len(numbers))])
        assert (receipt.log.lines, receipt.log.gaps) == (1 + len(numbers), 0)
        until(lambda: left_in(ring.queue) == [], "it is settled")
        assert second.stop() == 0


def test_a_job_that_is_alone_has_all_cores_but_the_runners(ring: Ring, box: AtWork) -> None:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    said = ring.follow(box, "alone", "--exclusive", "box", "--", "sh", "-c", "grep Cpus_allowed_list /proc/self/status")
    (line,) = said.out.splitlines()
    assert numbers_in(line.split()[1]) == set(cores) - set(spare_cores(cores))
    assert box.receipt("alone", "--queue", ring.url).grant.cores == tuple(sorted(numbers_in(line.split()[1])))
