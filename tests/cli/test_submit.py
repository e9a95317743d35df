"""``runner submit``: what is put into the queue, and what is refused before anything is written."""

import getpass
import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from adapters.queues.folder_peek import waiting_messages
from adapters.wire.native import decode
from runner.cli.place import WRITE
from runner.job import Input, Job, Output, Resources
from runner.units import Duration, Size
from tests.cli.typed import Typed, started, typed

HERE = Path(__file__).resolve().parents[2]
NO_RUNNER = (
    "runner: no runner seems to run on {state}, so the job waits; start one with: runner run --state-dir {state} &\n"
)


def submitted(state: Path, *words: object) -> Job:
    """Submit to a box's own queue and return the job that waits there now."""
    said = typed("submit", "--state-dir", state, *words)
    assert said.status == 0, said.err
    return waiting_job(state, said.out.strip())


def waiting_job(state: Path, job_id: str) -> Job:
    (message,) = [it for it in waiting_messages(str(state / "queue")) if it.job == job_id]
    found = decode(message.body())
    assert found.problem == ""
    return found.job


def test_a_command_is_a_whole_job(tmp_path: Path) -> None:
    """The id alone stands on stdout, so that a script can keep it."""
    said = typed("submit", "--state-dir", tmp_path, "--", "python3", "-c", "print('--name x')")
    assert (0, NO_RUNNER.format(state=tmp_path)) == (said.status, said.err)
    assert re.fullmatch(r"python3-[a-z0-9]{8}\n", said.out)
    job = waiting_job(tmp_path, said.out.strip())
    assert (("python3", "-c", "print('--name x')"), getpass.getuser()) == (job.command, job.user)


def test_every_simple_field_is_an_option(tmp_path: Path) -> None:
    """What a job file can say about itself, a command line can."""
    job = submitted(
        tmp_path, "--id", "x-1", "--name", "digits", "--user", "ada", "--image", "python:3.12", "--timeout", "1h30m",
        "--expires", "2d", "--silent-for", "30m", "--stop-grace", "5s", "--retries", "2", "--priority", "-3",
        "--gpus", "2", "--cpus", "0.5", "--memory", "4GiB", "--disk", "10GB", "--shm", "65536",
        "--env", "A=1", "--env", "B=x=y", "--input", "data=folder:///d/a=b.bin", "--output", "model=folder:///out/",
        "--", "true",
    )  # fmt: skip
    assert job == Job(
        id="x-1", name="digits", user="ada", image="python:3.12", command=("true",), timeout=Duration(5400),
        expires=Duration(172800), silent_for=Duration(1800), stop_grace=Duration(5), retries=2, priority=-3,
        resources=Resources(gpus=2, cpus=0.5, memory=Size(4 << 30), disk=Size(10**10), shm=Size(65536)),
        env={"A": "1", "B": "x=y"}, inputs=(Input("data", "folder:///d/a=b.bin"),),
        outputs=(Output("model", "folder:///out/"),),
    )  # fmt: skip


@pytest.mark.parametrize("form", ["toml", "json", "-"])
def test_a_job_file_in_either_form_or_from_standard_input(tmp_path: Path, form: str) -> None:
    """TOML and JSON are one to one."""
    text = 'id = "x-1"\nname = "digits"\ncommand = ["true"]\n\n[resources]\ngpus = 1\n'
    if form == "json":
        text = json.dumps(tomllib.loads(text))
    file = tmp_path / f"job.{form}"
    file.write_text(text)
    if form == "-":
        said = started("submit", "--state-dir", tmp_path / "s", "-", stdin=text)
        assert Typed(0, "x-1\n", NO_RUNNER.format(state=tmp_path / "s")) == said
    else:
        submitted(tmp_path / "s", file)
    job = waiting_job(tmp_path / "s", "x-1")
    assert ("digits", ("true",), 1) == (job.name, job.command, job.resources.gpus)


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    """One job file serves many runs."""
    file = tmp_path / "job.toml"
    file.write_text(
        'name = "a"\ncommand = ["true"]\nenv = { A = "1", B = "1" }\n[resources]\ncpus = 2\nmemory = "1GiB"\n'
    )
    job = submitted(tmp_path / "s", "--name", "b", "--cpus", "4", "--env", "B=2", file)
    assert ("b", {"A": "1", "B": "2"}) == (job.name, job.env)
    assert Resources(cpus=4, memory=Size(1 << 30)) == job.resources
    assert job.id.startswith("b-")


def test_ids_are_readable_and_never_the_same(tmp_path: Path) -> None:
    """Odd names still give an id that can be a file name."""
    said = [
        typed("submit", "--state-dir", tmp_path, "--name", "weird näme!/..", "--", "true").out.strip() for _ in range(3)
    ]
    assert len(set(said)) == 3
    assert all(re.fullmatch(r"weird-n-me-[a-z0-9]{8}", job_id) for job_id in said)


def test_json_names_the_key_and_the_queue(tmp_path: Path) -> None:
    """A program that resubmits an id needs the key to tell them apart."""
    told = json.loads(typed("submit", "--state-dir", tmp_path, "--json", "--id", "x", "--", "true").out)
    assert {"id", "key", "queue"} == set(told)
    assert ("x", f"folder://{tmp_path}/queue") == (told["id"], told["queue"])
    assert told["key"].startswith("x.")


def test_local_files_travel_with_the_job(tmp_path: Path) -> None:
    """Named from the job file's own directory, stored by content, said with their size."""
    (tmp_path / "train.py").write_text("print(6 * 7)\n")
    file = tmp_path / "job.toml"
    file.write_text('command = ["python3", "train.py"]\n[[inputs]]\nurl = "./train.py"\n')
    said = typed("submit", "--state-dir", tmp_path / "s", file)
    assert said.err.startswith("runner: uploading train.py, 13 B\n")
    digest = hashlib.sha256(b"print(6 * 7)\n").hexdigest()
    assert (Input("train.py", f"upload:sha256/{digest}"),) == waiting_job(tmp_path / "s", said.out.strip()).inputs


def test_a_directory_becomes_the_workspace(tmp_path: Path) -> None:
    """Packed but for what .runnerignore names, its size said first; the same content is stored once."""
    source, state = tmp_path / "src", tmp_path / "s"
    source.mkdir()
    (source / "train.py").write_text("print(6 * 7)\n")
    (source / "huge.log").write_text("x" * 100_000)
    (source / ".runnerignore").write_text("*.log\n")
    first = typed("submit", "--state-dir", state, "--upload", source, "--", "python3", "train.py")
    assert first.err.startswith("runner: uploading src/, 2 files, 19 B\n")
    (item,) = waiting_job(state, first.out.strip()).inputs
    assert (".", True, True) == (item.path, item.unpack, item.mutable)
    again = typed("submit", "--state-dir", state, "--upload", source, "--", "python3", "train.py")
    assert (item,) == waiting_job(state, again.out.strip()).inputs
    assert len(list((state / "queue" / "results" / "uploads").iterdir())) == 1


def test_what_a_pack_does_not_take_along_is_named(tmp_path: Path) -> None:
    """Whoever leans on a link learns of it before the job fails."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text("1")
    os.mkfifo(source / "pipe")
    for number in range(6):
        (source / f"z{number}").symlink_to("train.py")
    said = typed("submit", "--state-dir", tmp_path / "s", "--upload", source, "--", "true")
    line = "left out, since a pack holds only files and directories: pipe, z0, z1, z2, z3 and 2 more"
    assert f"runner: {line}\n" in said.err


def test_a_job_file_without_end_is_refused(tmp_path: Path) -> None:
    """Not more of it is read than a message may have."""
    said = typed("submit", "--state-dir", tmp_path / "s", "/dev/zero")
    assert said.status == 64
    assert said.err.startswith("runner: /dev/zero: the message is over 1 MiB: ")


def test_a_directory_as_an_input_is_unpacked_there(tmp_path: Path) -> None:
    """What is a directory here is one in the workspace."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("1")
    job = submitted(tmp_path / "s", "--input", f"{tmp_path}/data", "--input", f"d={tmp_path}/data", "--", "true")
    assert [("data", True, False), ("d", True, False)] == [(it.path, it.unpack, it.mutable) for it in job.inputs]


def test_local_outputs_become_absolute(tmp_path: Path) -> None:
    """A job runs elsewhere; relative names would mean nothing there."""
    file = tmp_path / "job.toml"
    urls = ("./out/", "out", "folder://out/x", "folder:///abs/", "/abs/y")
    file.write_text(
        'command = ["true"]\n' + "".join(f'[[outputs]]\npath = "{n}"\nurl = "{u}"\n' for n, u in enumerate(urls))
    )
    job = submitted(tmp_path / "s", file)
    assert [
        f"folder://{tmp_path}/out/",
        f"folder://{tmp_path}/out",
        f"folder://{tmp_path}/out/x",
        "folder:///abs/",
        "folder:///abs/y",
    ] == [output.url for output in job.outputs]


def test_a_named_queue_is_made_at_its_first_use(tmp_path: Path) -> None:
    """No runner has to come first, and none is missed aloud: it may run anywhere."""
    said = typed(
        "submit", "--state-dir", tmp_path / "s", "--queue", f"folder://{tmp_path}/q/train", "--id", "x", "--", "true"
    )
    assert Typed(0, "x\n", "") == said
    assert ["x"] == [it.job for it in waiting_messages(str(tmp_path / "q" / "train"))]
    assert not (tmp_path / "s").exists()
    listed = json.loads(typed("ps", "--queue", f"folder://{tmp_path}/q/train", "--json").out)
    assert [("x", "waiting", "train")] == [(row["id"], row["state"], row["queue"]) for row in listed]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('command = ["true"]\ncomand = 1\n', ["comand", "command"]),
        ('command = ["true"]\ntimeout = "1 hour"\n', ["timeout", "1 hour"]),
        ('command = ["true"]\n[resources]\ngpus = "two"\n', ["gpus", "two"]),
        ('command = ["true"]\n[[inputs]]\nurl = "rabbit://x/y"\npath = "y"\n', ["inputs[0].url", "rabbit"]),
        ('command = ["true"]\n[[inputs]]\nurl = "./nosuch"\n', ["./nosuch", "no such file"]),
        ('command = ["true"\n', ["line"]),
        ("", ["empty"]),
        ('["a"]', ["table"]),
        ('id = "../x"\ncommand = ["true"]', ["id", "../x"]),
        ('name = "x"\n', ["command is missing"]),
        ('command = ["true"]\nrequires = { site = "b" }\n', ["requires", "not served yet"]),
        ('command = ["true"]\n[[outputs]]\npath = "../up"\nurl = "folder:///x/"\n', ["outputs[0].path", "../up"]),
        ('command = "true"\n', ["command"]),
        ("inputs = 3\ncommand = ['true']\n", ["inputs"]),
        ("resources = 3\ncommand = ['true']\n", ["resources"]),
    ],
)
def test_a_bad_job_is_one_line_and_nothing_is_written(tmp_path: Path, content: str, words: list[str]) -> None:
    """Which file, which field, what to write; the queue and the store stay untouched."""
    file = tmp_path / "job.toml"
    file.write_text(content)
    said = typed("submit", "--state-dir", tmp_path / "s", file)
    assert (64, "", 1) == (said.status, said.out, len(said.err.splitlines())), said.err
    for word in words:
        assert word in said.err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--queue", "rabbit://h/q"),
            "runner: --queue rabbit://h/q: no such kind of queue: rabbit; {write}\n",
        ),
        (
            ("--queue", "foldr:///q"),
            "runner: --queue foldr:///q: no such kind of queue: foldr; did you mean folder?; {write}\n",
        ),
        (("--queue", "/tmp/q"), "runner: --queue /tmp/q: a queue has a kind; {write}\n"),
    ],
)
def test_a_queue_that_cannot_be_served_names_what_can(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    """Which URL, what is wrong with it, what to write."""
    assert Typed(64, "", line.format(write=WRITE)) == typed("submit", *words, "--state-dir", tmp_path, "--", "true")


@pytest.mark.parametrize(
    "url",
    [
        "amqp://me:hunter2@h:p/v",
        "redis://:hunter2@h/0?quue=x",
        "redis://me:hunter2@",
        "sqs://me:hunter2@eu/q",
        "redis://me:hunter2/x@h/0",
        "radis://me:hunter2/x@h",
        "redis://me:hunter2 ?@h",
    ],
)
@pytest.mark.parametrize("command", [("submit", "--", "true"), ("ps",), ("cancel", "x"), ("dead", "list")])
def test_a_password_in_a_url_that_cannot_be_used_is_not_repeated(url: str, command: tuple[str, ...]) -> None:
    """It would stand in the log of whatever typed it."""
    said = typed(command[0], "--queue", url, *command[1:])
    assert (64, "", 1) == (said.status, said.out, len(said.err.splitlines()))
    assert "hunter2" not in said.err


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It may have been meant as a command."""
    said = typed("submit", "--state-dir", tmp_path, tmp_path / "nosuch.toml")
    assert (64, 1) == (said.status, len(said.err.splitlines()))
    assert "nosuch.toml: No such file or directory; name a job file, or give a command after --" in said.err


def test_a_foreign_state_directory_is_refused(tmp_path: Path) -> None:
    """Everybody may write there, so nobody's jobs are safe in it."""
    tmp_path.chmod(0o777)
    said = typed("submit", "--state-dir", tmp_path, "--", "true")
    assert (78, 1) == (said.status, len(said.err.splitlines()))
    assert f"chmod 700 {tmp_path}" in said.err


@pytest.mark.parametrize("file", sorted((HERE / "examples" / "jobs").glob("*.toml")), ids=lambda file: file.stem)
def test_the_examples_can_be_submitted(tmp_path: Path, file: Path) -> None:
    """What the checkout shows to copy works as it stands, but for what is not served yet."""
    said = typed("submit", "--state-dir", tmp_path, file)
    assert said.status == 0 or "not served yet" in said.err, said.err


def test_looking_at_a_mistyped_queue_does_not_make_it(tmp_path: Path) -> None:
    """It would be read by nobody, for ever."""
    for command in (("ps",), ("show", "x"), ("why", "x"), ("logs", "x"), ("cancel", "x")):
        said = typed(*command, "--queue", f"folder://{tmp_path}/nosuch")
        assert (1, 1) == (said.status, len(said.err.splitlines())), said
        assert "there is no queue at" in said.err
    assert not (tmp_path / "nosuch").exists()


def test_a_waiting_job_is_cancelled_without_any_runner(tmp_path: Path) -> None:
    """It is withdrawn, and whoever follows it is told; again is no error."""
    submitted(tmp_path, "--id", "x", "--", "true")
    assert Typed(0, "x is withdrawn from its queue, where it waited\n", "") == typed(
        "cancel", "x", "--state-dir", tmp_path
    )
    assert () == waiting_messages(str(tmp_path / "queue"))
    assert Typed(0, "x ended already: cancelled\n", "") == typed("cancel", "x", "--state-dir", tmp_path)
    receipt = json.loads(typed("show", "x", "--json", "--state-dir", tmp_path).out)
    assert ("ended", "cancelled", "ack") == (receipt["state"], receipt["end_reason"], receipt["verdict"])


def test_a_command_in_quotes_is_told_to_be_one_word(tmp_path: Path) -> None:
    """It is submitted all the same, since a program may be called so; one with arguments says nothing."""
    said = typed("submit", "--state-dir", tmp_path, "--id", "x", "--", "echo 'a b' | wc")
    told = said.err.splitlines()[0]
    assert 0 == said.status
    assert told.endswith("or write: sh -c 'echo '\"'\"'a b'\"'\"' | wc'")
    assert ("echo 'a b' | wc",) == waiting_job(tmp_path, "x").command
    for words in (("sh", "-c", "echo a b"), ("true",)):
        assert NO_RUNNER.format(state=tmp_path) == typed("submit", "--state-dir", tmp_path, "--", *words).err


def test_what_is_to_be_typed_is_quoted_for_the_shell(tmp_path: Path) -> None:
    """A directory with spaces in it is still one directory once the line is pasted."""
    state = tmp_path / "a b"
    start = f"start one with: runner run --state-dir '{state}' &\n"
    assert typed("submit", "--state-dir", state, "--id", "x", "--", "true").err.endswith(start)
    assert typed("drain", "--state-dir", state).err.endswith(start)
    assert typed("why", "--state-dir", state, "x").out.endswith(start)
    environ = {"RUNNER_STATE_DIR": str(state)}
    assert started("why", "x", environ=environ).out.endswith("start one with: runner run &\n")


def test_the_log_of_a_job_that_has_none_says_so(tmp_path: Path) -> None:
    """On stderr: what stands on stdout is the job's alone."""
    submitted(tmp_path, "--id", "x", "--", "true")
    said = typed("logs", "x", "--state-dir", tmp_path)
    assert Typed(0, "", "runner: x has written nothing yet: it is waiting\n") == said
    assert Typed(0, "", "") == typed("logs", "x", "--json", "--state-dir", tmp_path)
