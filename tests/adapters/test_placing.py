"""Inputs in their places: read-only unless asked otherwise, checked by digest, never over each other or outside."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import OutOfSpace, Refused, Unavailable
from runner.job import Input
from tests.adapters.hostile_archives import entry, tar
from tests.adapters.small_disk import small_disk
from tests.adapters.unprivileged import owned_directory, somebody
from tests.adapters.workspace_harness import Harness, mode

DATA = b"data " * 500_000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path) as opened:
        yield opened


def test_a_text_stands_at_its_path_read_only(harness: Harness) -> None:
    text = "π = 3\n"
    account = harness.place(Input(path="conf/job.toml", text=text))
    placed = harness.path / "conf" / "job.toml"
    assert (text, 0o444) == (placed.read_text(), mode(placed))
    assert (f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", 7) == (account.digest, account.bytes)


def test_a_file_is_copied_and_accounted_for(harness: Harness) -> None:
    account = harness.place(Input(path="data.bin", url="folder:///d", sha256=DIGEST.upper()), DATA)
    assert DATA == (harness.path / "data.bin").read_bytes()
    assert ("folder:///d", f"sha256:{DIGEST}", len(DATA)) == (account.url, account.digest, account.bytes)


def test_writing_to_a_mutable_input_leaves_the_cache_as_it_was(harness: Harness, tmp_path: Path) -> None:
    harness.place(Input(path="data.bin", url="folder:///d", mutable=True), DATA)
    with (harness.path / "data.bin").open("r+b") as file:
        file.write(b"changed")
    assert (0o644, DATA) == (mode(harness.path / "data.bin"), (tmp_path / "source").read_bytes())


@pytest.mark.parametrize("unpack", [True, False])
def test_a_wrong_digest_is_refused_and_nothing_stays(harness: Harness, *, unpack: bool) -> None:
    with pytest.raises(Refused, match=f"input data: its sha256 is .*, but the job says {DIGEST}"):
        harness.place(Input(path="data", url="folder:///d", sha256=DIGEST, unpack=unpack), b"other")
    assert [] == list(harness.path.iterdir())


def test_an_archive_is_unpacked_read_only(harness: Harness) -> None:
    archive = tar(entry("sub/a"), entry("run", mode=0o755))
    account = harness.place(Input(path="in/data", url="folder:///d", unpack=True), archive)
    place = harness.path / "in" / "data"
    modes = [mode(place / name) for name in (".", "sub", "sub/a", "run")]
    assert [0o555, 0o555, 0o444, 0o555] == modes
    assert (f"sha256:{hashlib.sha256(archive).hexdigest()}", len(archive)) == (account.digest, account.bytes)


def test_a_mutable_archive_can_be_written(harness: Harness) -> None:
    harness.place(Input(path="data", url="folder:///d", unpack=True, mutable=True), tar(entry("sub/a")))
    assert [0o755, 0o644] == [mode(harness.path / name) for name in ("data/sub", "data/sub/a")]


def test_a_workspace_may_come_from_an_archive_and_still_be_written(harness: Harness) -> None:
    """`submit --upload .` makes the project the workspace; the job's own new files stand beside it."""
    harness.place(Input(path=".", url="upload:x", unpack=True), tar(entry("train.py"), entry("src/lib.py")))
    assert {"train.py", "src"} == {path.name for path in harness.path.iterdir()}
    assert [0o700, 0o555, 0o444] == [mode(harness.path / name) for name in (".", "src", "src/lib.py")]


def test_inputs_may_stand_inside_each_others_directories(harness: Harness) -> None:
    harness.place(Input(path="src/conf.toml", text="x", mutable=True))
    harness.place(Input(path=".", url="upload:x", unpack=True), tar(entry("src/lib.py"), entry("src/deep/a")))
    harness.place(Input(path="src/deep/b", text="x"))
    found = {str(path.relative_to(harness.path)) for path in harness.path.rglob("*") if path.is_file()}
    assert {"src/conf.toml", "src/lib.py", "src/deep/a", "src/deep/b"} == found
    assert [0o755, 0o555] == [mode(harness.path / name) for name in ("src", "src/deep")]


def test_that_needs_no_power_over_modes() -> None:
    """Read-only directories of our own are opened for the moment, also where the runner is not root."""
    with owned_directory() as place, somebody(), Harness(place) as harness:
        harness.place(Input(path="src", url="upload:x", unpack=True), tar(entry("deep/a")))
        harness.place(Input(path="src/deep/b/c", text="x"))
        assert [0o555, 0o555, 0o444] == [mode(harness.path / name) for name in ("src", "src/deep", "src/deep/b/c")]
        harness.create()
        assert [] == list(harness.path.iterdir())


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Input(path="a", text="1"), Input(path="a", text="2"), "input a: another input stands there already"),
        (Input(path="a", text="1"), Input(path="a/b", text="2"), "input a/b: another input stands there already"),
        (Input(path="a/b", text="1"), Input(path="a", text="2"), "input a: another input stands there already"),
        (Input(path="a", text="1"), Input(path="a", unpack=True), "input a: another input stands there already"),
        (Input(path="sub/f", text="1"), Input(path=".", unpack=True), "input ./sub/f: another input stands there"),
        (Input(path="sub", text="1"), Input(path=".", unpack=True), "input ./sub: another input stands there"),
    ],
)
def test_an_input_never_covers_another(harness: Harness, first: Input, second: Input, told: str) -> None:
    harness.place(first)
    with pytest.raises(Refused, match=told):
        harness.place(second, tar(entry("sub/f")) if second.unpack else None)


def test_an_archive_that_would_leave_the_workspace_is_refused_in_these_words(harness: Harness) -> None:
    with pytest.raises(Refused) as refused:
        harness.place(Input(path="data", url="folder:///evil.tar", unpack=True), tar(entry("../../etc/passwd")))
    assert "input leaves the workspace: ../../etc/passwd" == str(refused.value)
    assert [] == list(harness.path.iterdir())


def test_a_file_that_was_evicted_meanwhile_can_be_fetched_again(harness: Harness, tmp_path: Path) -> None:
    """Another box on the same cache may have evicted it; that is no fault of the job."""
    with pytest.raises(Unavailable):
        harness.place_from(Input(path="a", url="folder:///d"), tmp_path / "evicted")


def fill_up(harness: Harness, elsewhere: Path) -> None:
    (elsewhere / "big").write_bytes(DATA)
    (elsewhere / "archive").write_bytes(tar(entry("big", b"x" * 1_000_000)))
    with pytest.raises(OutOfSpace, match="placing an input: no space"):
        harness.place_from(Input(path="a", url="folder:///d"), elsewhere / "big")
    with pytest.raises(OutOfSpace, match=r"more than the .* that the disk has free"):
        harness.place_from(Input(path="b", url="folder:///d", unpack=True), elsewhere / "archive")
    assert [] == list(harness.path.iterdir())


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=256k") as place, Harness(place) as harness:
        fill_up(harness, tmp_path)
