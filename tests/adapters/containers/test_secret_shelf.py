"""Where secrets stand while a container has them: in memory, in a directory of the runner's, found again by name."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.containers.secret_shelf import SecretShelf, no_secrets, variable
from adapters.containers.syscalls import is_in_memory
from adapters.secret_files import VALUE_MAX_BYTES
from runner.errors import SecretMissing
from tests.adapters.containers.docker_boxes import DockerBox, DockerMachine

pytestmark = pytest.mark.skipif(not is_in_memory("/dev/shm"), reason="no tmpfs for secrets here")
UID = 1_900_000_007 if os.geteuid() == 0 else os.geteuid()


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(f"/dev/shm/runner-test-{uuid.uuid4().hex}")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def shelf(*places: Path, owner: str = "box.docker") -> SecretShelf:
    return SecretShelf(owner, no_secrets, tuple(map(str, places)))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_laid_out_is_the_jobs_to_read_and_nobodys_to_list(place: Path) -> None:
    made = Path(shelf(place).fill("job.1", {"A": b"1", "B": b"2"}, UID))
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {"A": b"1", "B": b"2"}
    assert (mode(made / "A"), (made / "A").stat().st_uid) == (0o400, UID)
    assert (mode(made), made.stat().st_uid, made.stat().st_gid) == (0o550, os.geteuid(), UID)
    assert [mode(path) for path in (place, made.parent)] == [0o711, 0o711]


def test_an_empty_directory_is_shut_until_it_is_filled_and_a_second_try_starts_afresh(place: Path) -> None:
    """A runner that was killed may have left half of it."""
    made = Path(shelf(place).make("job.1"))
    assert mode(made) == 0o700
    shelf(place).fill("job.1", {"A": b"old", "GONE": b"x"}, UID)
    assert shelf(place).fill("job.1", {"A": b"new"}, UID) == str(made)
    assert [path.name for path in made.iterdir()] == ["A"]
    assert shelf(place).values_of("job.1") == (b"new",)


def test_what_a_job_makes_of_its_own_secret_does_not_fill_the_runner(place: Path) -> None:
    """It owns the file, and a file of many gigabytes without a byte in it costs nothing."""
    made = Path(shelf(place).fill("job.1", {"A": b"1"}, UID))
    (made / "A").chmod(0o600)
    os.truncate(made / "A", 64 << 20)
    assert [VALUE_MAX_BYTES] == [len(value) for value in shelf(place).values_of("job.1")]


def test_the_next_life_finds_them_by_name_and_those_of_others_stand(place: Path) -> None:
    shelf(place).fill("job.1", {"A": b"1"}, UID)
    shelf(place, owner="other.docker").fill("job.2", {"A": b"1"}, UID)
    life = shelf(place)
    assert life.names() == {"job.1"}
    life.remove("job.1")
    life.remove("job.1")
    assert (life.names(), life.values_of("job.1")) == (frozenset(), ())
    assert shelf(place, owner="other.docker").names() == {"job.2"}


def test_the_first_place_in_memory_is_taken(place: Path, tmp_path: Path) -> None:
    if is_in_memory(str(tmp_path)):
        pytest.skip("the test's own directory is in memory")
    assert shelf(tmp_path / "disk", place).make("job.1").startswith(str(place))
    with pytest.raises(SecretMissing, match="on a disk, not on a tmpfs"):
        shelf(tmp_path / "disk").make("job.1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_place_that_somebody_else_made_is_not_used(place: Path) -> None:
    """Anybody may make one in /dev/shm, and would be able to move what lies in it."""
    place.mkdir()
    os.chown(place, 12345, 12345)
    with pytest.raises(SecretMissing, match="somebody else's"):
        shelf(place).fill("job.1", {"A": b"1"}, UID)
    place.rmdir()
    place.symlink_to("/tmp")
    with pytest.raises(SecretMissing, match="somebody else's"):
        shelf(place).fill("job.1", {"A": b"1"}, UID)
    place.unlink()


def test_a_variable_is_text_without_the_last_line_end() -> None:
    assert variable("A", b"two\nlines\n\n") == "two\nlines"
    for value in (b"\xff", b"a\0b"):
        with pytest.raises(SecretMissing, match="secret A"):
            variable("A", value)


@pytest.mark.docker
@pytest.mark.integration
def test_secrets_of_a_container_that_was_never_made_are_found_and_removed(machine: DockerMachine) -> None:
    """The runner was killed between the two."""

    async def scenario(box: DockerBox) -> None:
        left = SecretShelf(f"{box.id}.docker", no_secrets)
        made = Path(left.fill("job.1", {"A": b"1"}, UID))
        assert await box.containers.list_ours() == ("job.1",)
        await box.containers.remove("job.1")
        assert await box.containers.list_ours() == ()
        assert left.values_of("job.1") == ()
        made.parent.rmdir()

    machine.run(scenario)
