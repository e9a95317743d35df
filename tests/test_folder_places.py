"""Where a runner and its clients look: one directory for both, however it is called and whoever names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.folder_urls import folder_url
from tests.at_work import at_work, until
from tests.cli.typed import started

pytestmark = pytest.mark.integration

ODD = "a b 100% %20 why?#1"


def test_results_that_a_credential_file_names_are_found_by_naming_them(tmp_path: Path) -> None:
    """By every command, from anywhere, also with the runner down; and two queues of one file stay apart."""
    certs, results = tmp_path / "certs", folder_url(str(tmp_path / ODD))
    certs.mkdir()
    for name in ("train", "test"):
        assert started("submit", "--queue", folder_url(str(tmp_path / "queues" / name)), "--", "true").status == 0
    rights = {"kind": "folder", "url": folder_url(str(tmp_path / "queues")), "results": results, "runtime": "process"}
    (certs / "shared.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in rights.items()))
    ways = {
        name: ("--queue", f"{folder_url(str(tmp_path / 'queues'))}?queue={name}", "--results", results)
        for name in ("train", "test")
    }
    with at_work(tmp_path / "box", "--certs-dir", certs) as box:
        for name, way in ways.items():
            said = box.type("submit", *way, "--id", "same", "--follow", "--", "echo", "from", name)
            assert (0, f"from {name}\n") == (said.status, said.out), said.err
        assert box.stop() == 0
    for name, way in ways.items():
        assert f"from {name}\n" == started("logs", "same", *way).out
        shown = json.loads(started("show", "same", *way, "--json").out)
        assert ("succeeded", name) == (shown["end_reason"], shown["queue"])
        assert "same" in {row["id"] for row in json.loads(started("ps", "--all", *way, "--json").out)}
    assert started("show", "same", *ways["train"][:2]).status == 1, "nothing stands in the queue's own"


def test_a_state_directory_may_be_called_anything(tmp_path: Path) -> None:
    """Its own queue is in it, and not in what its name would say as a URL."""
    with at_work(tmp_path / ODD) as box:
        said = box.follow("odd", "--", "echo", "here")
        assert (0, "here\n") == (said.status, said.out), said.err
        until((box.state / "queue" / "queue.json").exists, "the queue stands in the state directory")
        assert {ODD} == {entry.name for entry in tmp_path.iterdir()}
        assert box.type("logs", "odd").out == "here\n"
        assert box.stop() == 0


def test_results_are_named_together_with_their_queue() -> None:
    """Alone they would be looked for where this box's runner never writes."""
    said = started("ps", "--results", "folder:///r")
    assert (64, "runner: --results: it is of a queue that is named, too: add --queue URL\n") == (said.status, said.err)
    assert started("ps", "--state-dir", "/nonexistent", environ={"RUNNER_RESULTS": "folder:///r"}).status == 0
