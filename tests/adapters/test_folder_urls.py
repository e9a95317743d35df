"""What ``folder:`` URLs mean, to the runner and to its clients alike."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.credential_files import read_credential
from adapters.folder_urls import folder_url, queue_location, results_directory
from adapters.registry import open_broker, open_results
from adapters.unusable import Unusable
from runner.cli.place import Place, find_place
from runner.credential import Credential, Rights
from runner.errors import ConfigurationError, UsageError
from runner.ports import Box

BOX = Box("box-1", (), 0, 0)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("folder:///q", ("/q", False)),
        ("folder:///q/", ("/q", False)),
        ("folder:/q", ("/q", False)),
        ("folder:///q?queue=train", ("/q/train", True)),
        ("folder:///with space/x", ("/with space/x", False)),
        ("folder:///with%20space/x", ("/with space/x", False)),
        ("folder:///100%/x", ("/100%/x", False)),
        ("folder:///100%2520", ("/100%20", False)),
        ("folder:///why%3F%23", ("/why?#", False)),
        ("folder:///q?queue=a%20b", ("/q/a b", True)),
        ("folder:///q?queue=a%2Bb%26c", ("/q/a+b&c", True)),
    ],
)
def test_a_url_names_a_directory(url: str, expected: tuple[str, bool]) -> None:
    assert expected == queue_location(url)


@pytest.mark.parametrize(
    "url",
    [
        "folder://q/train",
        "folder://[q",
        "folder:relative",
        "/q",
        "",
        "folder:///q%00",
        "folder:///q?queue=../../etc",
        "folder:///q?queue=a%2Fb",
        "folder:///q?queue=.hidden",
        "folder:///q?queue=",
        "folder:///q?queue=a&queue=b",
        "folder:///why?",
        "folder:///why?not",
        "folder:///q?queu=train",
        "folder:///q#1",
        "folder:///q#",
        "folder:///q\tr",
    ],
)
def test_a_url_that_names_none_is_refused_by_all(url: str) -> None:
    """Nothing of it is left out in silence: another directory would be used than was meant."""
    with pytest.raises(ConfigurationError):
        queue_location(url)
    with pytest.raises(UsageError):
        find_place(asked(url or "/"))
    with pytest.raises(Unusable):
        read_credential(f"kind = 'folder'\nurl = '{url}'".encode())


@given(st.text(st.characters(codec="utf-8")).map(str.encode) | st.binary())
def test_the_url_of_a_path_means_that_path(name: bytes) -> None:
    """Also of one that is no text."""
    path = os.path.normpath("/q/" + os.fsdecode(name.replace(b"\0", b"")))
    assert (path, False) == queue_location(folder_url(path))


def asked(queue: str, results: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(queue=queue, results=results, state_dir=None)


async def stops_in(place: Place) -> frozenset[str]:
    backend = open_results(place.credential, place.queue, BOX)
    assert backend is not None
    try:
        return await backend.stops()
    finally:
        await backend.close()


@pytest.mark.parametrize("name", ["train", "a b", "100%", "100%20", "why?", "no#1", "a+b&c=d", "ä"])
@pytest.mark.parametrize("named", [False, True])
def test_runner_and_client_find_the_same_directories(tmp_path: Path, name: str, *, named: bool) -> None:
    """Whether the URL names the queue's own directory, or the one that it lies in; and the same results for both."""

    async def runner_made(url: str, results: str) -> str:
        credential = Credential("folder", url, Rights(results=results))
        broker = open_broker(credential, BOX)
        (queue,) = await broker.queues()
        await (await broker.open(queue)).close()
        await broker.close()
        backend = open_results(credential, queue, BOX)
        assert backend is not None
        await backend.request_stop("job")
        await backend.close()
        return queue

    url = folder_url(str(tmp_path / name))
    if named:
        (tmp_path / "parent").mkdir()
        url = f"{folder_url(str(tmp_path / 'parent'))}?queue={folder_url('/' + name).removeprefix('folder:///')}"
    results = folder_url(str(tmp_path / "the results?"))
    for asked_results in ("", results):
        assert name == asyncio.run(runner_made(url, asked_results))
        place = find_place(asked(url, asked_results or None))
        assert place.root is not None
        assert (place.root / "queue.json").is_file()
        assert {"job"} == asyncio.run(stops_in(place))


def test_queues_that_share_a_result_backend_stay_apart() -> None:
    """The same id may stand in both, and a stop mark names no more than that."""
    assert "/r/train" == results_directory("folder:///r", "train")
    assert "/r/test" == results_directory("folder:///r/", "test")


def test_a_result_backend_names_no_queue() -> None:
    """It would be one directory to the one who reads it and another to the other."""
    with pytest.raises(ConfigurationError, match=r"leave \?queue= out"):
        results_directory("folder:///r?queue=train", "train")
    with pytest.raises(UsageError, match=r"leave \?queue= out"):
        find_place(asked("folder:///q", "folder:///r?queue=train"))
    with pytest.raises(Unusable, match=r"results is the directory .*: leave \?queue= out"):
        read_credential(b'kind = "folder"\nurl = "folder:///q"\nresults = "folder:///r?queue=train"')
