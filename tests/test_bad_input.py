"""
Bad messages, dropped straight into the queue of a runner that runs.

Each one is rejected, kept as a dead letter with its reason, and told in one sentence that says what, where and what to
do; the runner goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.at_work import AtWork, at_work, dead_letters, drop, left_in, until

pytestmark = pytest.mark.integration

MIB = 1 << 20
TRUE = b'command = ["true"]\n'
IDS = "letters, digits, dots, underscores or dashes"

# name: the bytes, the id that commands know the job by ("" where it is the submission), words of the sentence.
MESSAGES: dict[str, tuple[bytes, str, tuple[str, ...]]] = {
    "empty": (b"", "", ("the message is empty", "at least command")),
    "spaces": (b" \n\t", "", ("the message is empty",)),
    "malformed-json": (b'{"command": ["true"],, "id": 1}', "", ("malformed JSON at line 1, column 22",)),
    "malformed-toml": (b'id = "toml"\ncommand = ["true"\nname = x', "toml", ("malformed TOML at line",)),
    "truncated-json": (b'{"id": "cut", "command": ["tr', "cut", ("truncated", "send the whole message")),
    "truncated-toml": (b'id = "cut-toml"\ncommand = ["true"', "cut-toml", ("truncated", "line 2")),
    "binary": (b"\x7fELF\x02\x01\x01\x00\x80\xff", "", ("not UTF-8", "offset 8")),
    "latin-1": (b'id = "latin"\nname = "\xfcber"\n', "latin", ("not UTF-8: byte 0xfc at offset 21",)),
    "oversized": (b'id = "huge"\n' + TRUE + b"#" * MIB, "huge", ("over 1 MiB", "put large content into a store")),
    "a-list": (b'["true"]', "", ("a table",)),
    "nested": (b'{"env": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", ("nested",)),
    "unknown-key": (b'id = "unknown"\nresorces = { gpus = 1 }\n' + TRUE, "unknown", ("did you mean resources?",)),
    "unknown-inner": (b'id = "inner"\n[resources]\ngpu = 1\n', "inner", ("resources.gpu", "did you mean")),
    "gpus-two": (b'id = "two"\n' + TRUE + b'[resources]\ngpus = "two"\n', "two", ("resources.gpus", '"two"')),
    "one-hour": (b'id = "hour"\ntimeout = "1 hour"\n' + TRUE, "hour", ("timeout", '"1 hour"', '"90s"')),
    "rabbit": (
        b'id = "rabbit"\n' + TRUE + b'[[inputs]]\nurl = "rabbit://host/x"\npath = "x"\n',
        "rabbit",
        ("inputs[0].url", "rabbit://host/x", "folder://"),
    ),
    "no-command": (b'id = "idle"\n', "idle", ("command is missing",)),
    "unserved": (b'id = "later"\nrequires = { site = "b" }\n' + TRUE, "later", ("requires is not served yet",)),
    "a-path": (b'id = "../../etc/x"\n' + TRUE, "../../etc/x", ("id", "../../etc/x", IDS)),
    "an-absolute-path": (b'id = "/abs"\n' + TRUE, "/abs", ("id", "/abs", IDS)),
    "a-long-id": (b'id = "' + b"a" * 300 + b'"\n' + TRUE, "a" * 300, ("id", "1 to 128")),
    "a-unicode-id": ('id = "schön/ü"\n'.encode() + TRUE, "schön/ü", ("id", "schön/ü", IDS)),
    "a-hidden-id": (b'id = ".hidden"\n' + TRUE, ".hidden", ("id", ".hidden", "begin with a letter")),
    "an-unprintable-id": (b'id = "a\\nb"\n' + TRUE, "", ("id", IDS)),
}  # fmt: skip


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    """A runner that met every bad message, and has told so."""
    with at_work(tmp_path_factory.mktemp("box")) as it:
        until((it.queue / "ready").is_dir, "the own queue is open")
        for name, (body, _, _) in MESSAGES.items():
            drop(it.queue, name, body)
        until(lambda: len(list((it.queue / "dead").iterdir())) == len(MESSAGES), "all are rejected")
        yield it
        assert it.stop() == 0


@pytest.mark.parametrize("name", MESSAGES)
def test_a_bad_message_is_rejected_and_kept_with_its_reason(box: AtWork, name: str) -> None:
    """Receipt, dead letter, log and every command say the same sentence."""
    body, job_id, words = MESSAGES[name]
    submission, reason = dead_letters(box.queue)[body]
    receipt = box.receipt(job_id or submission)
    assert ("ended", "rejected", "reject", None) == (
        receipt.state,
        receipt.end_reason,
        receipt.verdict,
        receipt.exit_code,
    )
    assert reason == f"rejected: {receipt.message}"[:500]
    assert [word for word in words if word not in receipt.message] == []
    assert receipt.message.isprintable()
    assert box.type("logs", job_id or submission).err == f"runner: rejected: {receipt.message}\n"
    assert receipt.message in box.type("why", job_id or submission).out


def test_nothing_is_left_and_nothing_was_started(box: AtWork) -> None:
    """All of them are settled, and none came as far as a workspace."""
    assert left_in(box.queue) == []
    assert list((box.state / "workspaces").glob("*")) == []
    assert len(json.loads(box.type("ps", "--all", "--json").out)) >= len(MESSAGES)


def test_what_a_job_is_called_never_becomes_a_path(box: AtWork) -> None:
    """Everything that was written stands where the runner keeps such things, under names of its own."""
    names = {path.name for path in box.state.rglob("*")}
    assert names.isdisjoint({"x", "etc", "abs", "ü", ".hidden"})
    assert not [name for name in names if re.search(r"[^A-Za-z0-9._~=-]", name)]
    assert max(map(len, names)) < 255


def test_what_is_no_file_is_rejected_too(box: AtWork) -> None:
    """A directory or a link that somebody moved into the queue by mistake."""
    (box.queue / "ready" / "a-directory").mkdir()
    (box.queue / "ready" / "a-link").symlink_to("/etc/passwd")
    until(lambda: not list((box.queue / "ready").iterdir()), "both are moved away")
    notes = [json.loads(path.read_text())["reason"] for path in (box.queue / "notes").iterdir()]
    assert {"a-directory is no regular file but a directory", "a-link is no regular file but a symbolic link"} <= {
        reason.partition(":")[0] for reason in notes
    }
    for kept in (box.queue / "dead").iterdir():
        if kept.is_dir():
            kept.rmdir()
        elif kept.is_symlink():
            kept.unlink()


def test_an_id_that_runs_already_waits_for_it(box: AtWork) -> None:
    """The same id under two submissions: one after the other, each with a result of its own."""
    for text in ("first", "second"):
        assert box.type("submit", "--id", "twice", "--", "echo", text).status == 0
    until(lambda: left_in(box.queue) == [], "both are settled")
    assert box.type("logs", "twice").out == "second\n"
    assert len(list((box.queue / "results" / "jobs").glob("twice.*/receipt.*"))) == 2


def test_the_runner_still_serves_and_never_stumbled(box: AtWork) -> None:
    """No error of its own, no traceback, and the next good job runs."""
    said = box.follow("good", "--", "echo", "fine")
    assert (0, "fine\n") == (said.status, said.out)
    assert [line for line in box.said if line.get("level") == "error" or "traceback" in line or "text" in line] == []
