"""``runner dead``: what a queue rejected can be looked at, tried again and deleted; its secrets are not shown."""

import json
from pathlib import Path

import pytest

from tests.cli.dead_letters import JOB, waiting_bodies, write_letters
from tests.cli.typed import Typed, started, typed

GOLDEN = Path(__file__).parent / "golden"
FOREIGN = b'{"experiment": {"key": "x-1"}, "artifacts": {"w": {"credentials": {"aws": {"id": "AK"}}, "url": "s3://b"}}}'
BROKEN = b'{"id": "cut-1", "env": {"HF_TOKEN": "hunter2'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a queue with three dead letters: a job, a message of another form, and half a message."""
    write_letters(tmp_path / "train", JOB, FOREIGN, BROKEN)
    return tmp_path / "train"


def dead(root: Path, *words: object) -> Typed:
    return typed("dead", *words, "--queue", f"folder://{root}")


@pytest.mark.parametrize(("name", "words"), [("dead", ("list",)), ("dead-show", ("show", "digits-1"))])
def test_json_is_as_agreed(root: Path, name: str, words: tuple[str, ...]) -> None:
    """Other programs lean on every name; write ``golden/NAME.json`` again only with a reason for them."""
    said = json.loads(dead(root, *words, "--json").out)
    assert json.loads((GOLDEN / f"{name}.json").read_text()) == said


def test_they_are_listed_oldest_first_with_the_reason(root: Path) -> None:
    """What was tried, how often, and why no more."""
    lines = dead(root, "list").out.splitlines()
    assert ["SUBMISSION", "JOB", "WHEN", "TRIES", "USER", "REASON"] == lines[0].split()
    assert ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"] == [line.split()[0] for line in lines[1:]]
    assert ["digits-1", "5", "ada", "gpu_fault"] == [*lines[1].split()[1:2], *lines[1].split()[-3:]]


@pytest.mark.parametrize("letter", ["aaa", "bbb", "ccc"])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_shown_holds_no_secret(root: Path, letter: str, options: tuple[str, ...]) -> None:
    """Whoever looks at a rejected message shares it next."""
    said = dead(root, "show", letter, *options)
    assert (0, "") == (said.status, said.err)
    assert not [word for word in ("hunter2", "AK") if word in said.out]
    assert "gpu_fault on box-2 after 6.5 s" in said.out or options


def test_what_is_shown_is_the_message_and_its_history(root: Path) -> None:
    """Enough to mend it and submit it again."""
    told = dead(root, "show", "a").out
    assert '"train.py"' in told
    assert '"HF_TOKEN": "***"' in told
    assert "https://***@h/d" in told
    assert "breaks off after line 1" in json.loads(dead(root, "show", "c", "--json").out)["problem"]


def test_the_bytes_themselves_are_given_on_demand(root: Path) -> None:
    """Exactly, so that they can be mended and put again."""
    for letter, body in (("a", JOB), ("b", FOREIGN), ("c", BROKEN)):
        assert body.decode() == dead(root, "show", letter, "--raw").out


def test_one_is_tried_again(root: Path) -> None:
    """It waits as if it had just been submitted; the others stay."""
    assert Typed(0, "1 dead letter made to wait again\n", "") == dead(root, "retry", "digits-1")
    assert [JOB] == waiting_bodies(root)
    assert ["b", "c"] == [row["submission"][0] for row in json.loads(dead(root, "list", "--json").out)]


def test_one_is_deleted(root: Path) -> None:
    assert Typed(0, "1 dead letter deleted\n", "") == dead(root, "drop", "bb")
    assert ["a", "c"] == [row["submission"][0] for row in json.loads(dead(root, "list", "--json").out)]
    assert [] == waiting_bodies(root)


@pytest.mark.parametrize(("action", "waits"), [("retry", 3), ("drop", 0)])
def test_all_at_once(root: Path, action: str, waits: int) -> None:
    """Which they were is told, so that a script can follow them."""
    told = json.loads(dead(root, action, "--all", "--json").out)
    assert {action: [letter * 24 for letter in "abc"]} == told
    assert "[]\n" == dead(root, "list", "--json").out
    assert waits == len(waiting_bodies(root))
    assert json.loads(dead(root, action, "--all", "--json").out) == {action: []}


def test_a_beginning_that_means_several_is_refused(tmp_path: Path) -> None:
    """Nothing is tried again, or deleted, by a guess; the same job may have been rejected twice."""
    write_letters(tmp_path / "q", JOB, JOB)
    said = dead(tmp_path / "q", "retry", "digits-1")
    assert (1, f"runner: 'digits-1' means 2 dead letters; write more of one: {'a' * 24}, {'b' * 24}\n") == (
        said.status,
        said.err,
    )
    assert [] == waiting_bodies(tmp_path / "q")


def test_one_that_is_not_there_is_refused(root: Path) -> None:
    said = dead(root, "drop", "ff")
    again = f"runner dead list --queue=folder://{root}"
    assert (1, f"runner: no dead letter 'ff'; list them with: {again}\n") == (said.status, said.err)


@pytest.mark.parametrize(
    "words",
    [("retry",), ("drop",), ("show",), ("show", "--all"), ("list", "x"), ("list", "--all"), ("drop", "x", "--all"),
     ("retry", "x", "--raw"), ("purge", "x")],
)  # fmt: skip
def test_a_mistake_changes_nothing(root: Path, words: tuple[str, ...]) -> None:
    """One line, and 64."""
    said = dead(root, *words)
    assert (64, "", 1) == (said.status, said.out, len(said.err.splitlines()))
    assert 3 == len(json.loads(dead(root, "list", "--json").out))


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"\0" * 100, b'{"id": "\\ud800", "n": 1e999}', b'{"n": %s}' % (b"9" * 400), b"[" * 1000,
     b"d = 1979-05-27T07:32:00Z\n", b'{"\x9b2J": "\x9b2J"}', b"x" * (1 << 20), b'{"env": ["A=hunter2"]}'],
)  # fmt: skip
def test_whatever_the_bytes_they_are_listed_and_shown(tmp_path: Path, body: bytes) -> None:
    """What no box could read is here for a person to read; none of it can repaint a terminal."""
    write_letters(tmp_path / "q", body)
    for words in (("list",), ("list", "--json"), ("show", "a"), ("show", "a", "--json")):
        said = dead(tmp_path / "q", *words)
        assert (0, "") == (said.status, said.err), said.err
        assert "\x9b" not in said.out
        assert "hunter2" not in said.out


def test_without_a_queue_it_is_the_box_s_own(tmp_path: Path) -> None:
    """A box that never ran has none, and is not made by looking."""
    assert Typed(0, "[]\n", "") == typed("dead", "list", "--json", "--state-dir", tmp_path / "s")
    assert not (tmp_path / "s").exists()
    write_letters(tmp_path / "s" / "queue", JOB)
    (tmp_path / "s").chmod(0o700)
    said = started("dead", "list", "--json", environ={"RUNNER_STATE_DIR": str(tmp_path / "s")})
    assert ["digits-1"] == [row["id"] for row in json.loads(said.out)]


def test_a_mistyped_queue_is_not_made(tmp_path: Path) -> None:
    said = dead(tmp_path / "nosuch", "list")
    assert (1, False) == (said.status, (tmp_path / "nosuch").exists())
    assert "there is no queue at" in said.err
