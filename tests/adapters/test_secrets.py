"""Directories of secrets: who may read them decides, values are those of now, and no sentence repeats one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.credential_scan import scan_directory
from adapters.secret_files import VALUE_MAX_BYTES
from adapters.secrets import Secrets
from runner.errors import SecretMissing

VALUE = b"hunter2"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with one secret, that a credential file beside it names."""
    made = tmp_path / "secrets"
    made.mkdir(mode=0o700)
    put(made, "HF_TOKEN", VALUE)
    certs = tmp_path / "certs"
    certs.mkdir()
    name(certs, "lab.toml", made)
    return made


def put(directory: Path, name: str, value: bytes, mode: int = 0o400) -> Path:
    path = directory / name
    path.write_bytes(value)
    path.chmod(mode)
    return path


def name(certs: Path, file: str, directory: Path) -> None:
    (certs / file).write_text(f'kind = "secret"\ndirectory = "{directory}"\n')
    (certs / file).chmod(0o600)


def certs_of(directory: Path) -> Path:
    return directory.parent / "certs"


def values(directory: Path, *names: str) -> dict[str, bytes]:
    return Secrets(str(certs_of(directory))).values(names)


def why_not(directory: Path, name: str = "HF_TOKEN") -> str:
    with pytest.raises(SecretMissing) as told:
        values(directory, name)
    assert name in str(told.value)
    assert "hunter2" not in str(told.value)
    assert not told.value.retryable
    return str(told.value)


def test_a_value_is_that_of_now(directory: Path) -> None:
    assert values(directory, "HF_TOKEN") == {"HF_TOKEN": VALUE}
    (directory / "HF_TOKEN").unlink()
    put(directory, "HF_TOKEN", b"new\n")
    assert values(directory, "HF_TOKEN", "HF_TOKEN") == {"HF_TOKEN": b"new\n"}


def test_a_kubernetes_volume_is_read_through_its_links(directory: Path) -> None:
    """Its directory changes by one link; a pod's group may read."""
    for turn in ("..1", "..2"):
        (directory / turn).mkdir()
        put(directory / turn, "WANDB", f"value{turn}".encode(), 0o440)
        (directory / "..new").symlink_to(turn)
        (directory / "..new").replace(directory / "..data")
        if turn == "..1":
            (directory / "WANDB").symlink_to("..data/WANDB")
        assert values(directory, "WANDB") == {"WANDB": f"value{turn}".encode()}
    assert [file.note for file in scan_directory(str(certs_of(directory)))] == ["2 secrets"]


def test_of_two_directories_the_first_files_wins_and_both_count(directory: Path) -> None:
    other = directory.parent / "other"
    other.mkdir(mode=0o700)
    put(other, "HF_TOKEN", b"later")
    put(other, "WANDB", b"w")
    name(certs_of(directory), "z.toml", other)
    assert values(directory, "HF_TOKEN", "WANDB") == {"HF_TOKEN": VALUE, "WANDB": b"w"}


def test_one_that_is_missing_is_named_with_where_to_put_it(directory: Path) -> None:
    assert str(directory) in why_not(directory, "WANDB")
    (certs_of(directory) / "lab.toml").unlink()
    assert 'kind = "secret"' in why_not(directory)
    with pytest.raises(SecretMissing, match="HF_TOKEN"):
        Secrets("").values(["HF_TOKEN"])
    assert Secrets("/nowhere").values([]) == {}


@pytest.mark.parametrize("mode", [0o404, 0o420, 0o444, 0o602, 0o401])
def test_a_file_that_others_may_read_or_change_is_not_used(directory: Path, mode: int) -> None:
    (directory / "HF_TOKEN").chmod(mode)
    assert f"mode {mode:04o}" in why_not(directory)


def test_a_directory_that_others_may_change_is_not_used(directory: Path) -> None:
    """Somebody could put another file in the place of a secret."""
    directory.chmod(0o770)
    (found,) = scan_directory(str(certs_of(directory)))
    assert found.credential is None
    assert "mode 0770" in found.reason
    assert "HF_TOKEN" in why_not(directory)


@pytest.mark.parametrize(
    ("value", "words"), [(b"", "is empty"), (b"hunter2" * VALUE_MAX_BYTES, "over 64 KiB")], ids=["empty", "huge"]
)
def test_a_size_that_no_secret_has_is_refused(directory: Path, value: bytes, words: str) -> None:
    (directory / "HF_TOKEN").unlink()
    put(directory, "HF_TOKEN", value)
    assert words in why_not(directory)
    (found,) = scan_directory(str(certs_of(directory)))
    assert words in found.warning


def test_the_largest_value_is_given(directory: Path) -> None:
    put(directory, "BIG", b"x" * VALUE_MAX_BYTES)
    assert len(values(directory, "BIG")["BIG"]) == VALUE_MAX_BYTES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_not_used(directory: Path) -> None:
    os.chown(directory / "HF_TOKEN", 12345, 12345)
    assert "user 12345" in why_not(directory)


def test_no_name_leaves_the_directory(directory: Path) -> None:
    put(directory.parent, "outside", b"x")
    for odd in ("../outside", "..", ".hidden", "a/b", ""):
        with pytest.raises(SecretMissing):
            values(directory, odd)


def test_a_fifo_is_no_secret_and_blocks_nobody(directory: Path) -> None:
    os.mkfifo(directory / "PIPE", 0o400)
    assert "is no file" in why_not(directory, "PIPE")


def test_a_scan_tells_how_many_there_are_and_never_what(directory: Path) -> None:
    put(directory, "OPEN", b"hunter2", 0o444)
    (found,) = scan_directory(str(certs_of(directory)))
    assert (found.note, found.reason, found.has_queues) == ("1 secret", "", False)
    assert found.warning.startswith("OPEN is open to other users (mode 0444): chmod")
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ('directory = "secrets"', "directory must be absolute"),
        ('directory = "/"', "directory must be absolute"),
        ('directory = "/etc/../x"', "directory must be absolute"),
        ('directory = "/nowhere/at/all"', "names /nowhere/at/all, which cannot be read: No such file"),
        ('directory = "/etc/hostname"', "which is no directory"),
        ('directory = "CERTS"', "a directory in the watched one"),
        ('directory = "CERTS/below"', "a directory in the watched one"),
        ("", "directory"),
        ('directory = "/etc/runner"\nweight = 2', "weight"),
    ],
)
def test_a_file_that_names_no_such_directory_says_why(tmp_path: Path, says: str, words: str) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "lab.toml").write_text(f'kind = "secret"\n{says.replace("CERTS", str(tmp_path))}\n')
    (found,) = (file for file in scan_directory(str(tmp_path)) if file.file == "lab.toml")
    assert found.credential is None
    assert words in found.reason
