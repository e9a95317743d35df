"""Bad credential files in the directory of a runner that runs: each is named with its reason, and the others work."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.at_work import AtWork, at_work, until

pytestmark = pytest.mark.integration

GOOD = 'kind = "folder"\nurl = "folder://{queue}"\nruntime = "process"\nsole_reader = true\n'

# name of the file: its text, words of the reason.
FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "dialect.toml": (b'kind = "folder"\nurl = "folder:///q"\ndialect = "natve"\n', ("dialect", "did you mean native?")),
    "later.toml": (b'kind = "folder"\nurl = "folder:///q"\ndialect = "studioml"\n', ("studioml is not served yet",)),
    "key.toml": (b'kind = "folder"\nurl = "folder:///q"\nweigth = 2\n', ("weigth", "did you mean weight?")),
    "rabbit.toml": (b'kind = "folder"\nurl = "rabbit://host/q"\n', ("url", "folder:///")),
    "kind.toml": (b'kind = "rabitmq"\nurl = "amqp://host"\n', ("kind", "did you mean rabbitmq?")),
    "pubsub.toml": (b'kind = "pubsub"\nproject = "p"\n', ("pubsub", "not served yet")),
    "google.json": (b'{"type": "service_account", "private_key": "hunter2"}', ("Google", "not served yet")),
    "pattern.toml": (b'kind = "folder"\nurl = "folder:///q"\nmatch = "("\n', ("match", "regular expression")),
    "rights.toml": (b'kind = "folder"\nurl = "folder:///q"\nstores = ["A"]\n', ("stores: not served yet",)),
    "no-kind.toml": (b'url = "folder:///q"\n', ("has no kind",)),
    "lease.toml": (b'kind = "folder"\nurl = "folder:///q"\nlease = "1 hour"\n', ("lease",)),
    "cut.toml": (b'kind = "folder"\nurl = "fold', ("is no TOML at its end",)),
    "bytes.toml": (b"\xff\xfe\x00", ("write it as UTF-8",)),
    "empty.toml": (b"", ("is empty",)),
    "bare-url": (b"amqp://user:hunter2/3@host/vhost", ("url", "/ as %2F")),
    "twice.toml": (b'kind = "redis"\nurl = "redis://:hunter2@h"\npassword = "hunter2"\n', ("password", "it once")),
    "credentials": (b"[a]\naws_access_key_id = hunter2\naws_secret_access_key = hunter2\n", ("no region",)),
    "huge.toml": (b"#" * (2 << 20), ("",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every bad credential file, one good one, and what is no file."""
    directory = tmp_path_factory.mktemp("certs")
    for name, (content, _) in FILES.items():
        (directory / name).write_bytes(content)
    os.mkfifo(directory / "fifo.toml")
    (directory / "dangling.toml").symlink_to("nosuch")
    (directory / "good.toml").write_text(GOOD.format(queue=directory.parent / "shared"))
    return directory


@pytest.fixture(scope="module")
def box(certs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    """A runner that watches them."""
    with at_work(tmp_path_factory.mktemp("box"), "--certs-dir", certs) as it:
        until((certs.parent / "shared" / "queue.json").exists, "the good one is in use")
        yield it
        assert it.stop() == 0


def sources(box: AtWork) -> dict[str, dict[str, str]]:
    return {row["file"]: row for row in json.loads(box.type("sources", "--json").out)}


def test_every_unusable_credential_file_is_named_with_its_reason(box: AtWork) -> None:
    """On the screen and once in the log, without a value of it."""
    rows = sources(box)
    for name, (_, words) in FILES.items():
        assert rows[name]["state"] == "unusable", rows[name]
        assert [word for word in words if word not in rows[name]["reason"]] == [], rows[name]
    assert {"fifo.toml", "dangling.toml"} <= {name for name, row in rows.items() if row["state"] == "unusable"}
    assert "hunter2" not in json.dumps(rows) + json.dumps(box.said)
    told = [line["source"] for line in box.said if line.get("action") == "scan" and line["level"] == "error"]
    assert len(told) == len(set(told)) >= len(FILES)


def test_a_good_one_beside_them_works(box: AtWork, certs: Path) -> None:
    """No bad file uses up anybody else's patience."""
    said = box.follow("shared-job", "--queue", f"folder://{certs.parent}/shared", "--", "echo", "shared")
    assert (0, "shared\n") == (said.status, said.out)
    assert sources(box)["good.toml"]["state"] == "in use"


def test_a_file_that_is_mended_is_used_and_one_that_breaks_counts_as_it_was(box: AtWork, certs: Path) -> None:
    """Without a restart: an editor may be at work, so what it said stands until it says something else, or goes."""
    mended = certs / "dialect.toml"
    mended.write_text(GOOD.format(queue=certs.parent / "mended"))
    until(lambda: sources(box)["dialect.toml"]["state"] == "in use", "it is in use")
    assert box.follow("mended", "--queue", f"folder://{certs.parent}/mended", "--", "true").status == 0
    mended.write_bytes(FILES["dialect.toml"][0])
    until(lambda: "as it was before" in str(sources(box)["dialect.toml"]["reason"]), "its mistake is told")
    assert box.follow("kept", "--queue", f"folder://{certs.parent}/mended", "--", "true").status == 0
    mended.unlink()
    until(lambda: "dialect.toml" not in sources(box), "it is let go")
    mended.write_bytes(FILES["dialect.toml"][0])
    until(lambda: "dialect.toml" in sources(box), "it is told again")
