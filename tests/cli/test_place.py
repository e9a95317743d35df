"""What ``--queue``, ``--results`` and ``--credential`` mean: one queue, its login as secrets, never printed."""

import argparse
from pathlib import Path

import pytest

from adapters.queues.folder_layout import open_layout
from runner.cli.place import Place, find_place
from runner.errors import UsageError

LOGIN = {"RUNNER_QUEUE_USERNAME": "eve", "RUNNER_QUEUE_PASSWORD": "s3cret"}


def place_of(
    queue: str = "", *, results: str = "", credential: str = "", environ: dict[str, str] | None = None
) -> Place:
    args = argparse.Namespace(queue=queue, results=results, credential=credential, state_dir=None)
    return find_place(args, environ or {})


def secrets_of(place: Place) -> dict[str, str]:
    return {name: secret.reveal() for name, secret in place.credential.secrets.items()}


@pytest.mark.parametrize(
    ("url", "kind", "shown", "queue", "secrets"),
    [
        ("redis://h:6379/0?queue=train", "redis", "redis://h:6379/0?queue=train", "train", {}),
        (
            "rediss://me:hunter2@h/0?queue=a%20b",
            "redis",
            "rediss://h/0?queue=a%20b",
            "a b",
            {"username": "me", "password": "hunter2"},
        ),
        ("redis://:p%2Fw@h/0", "redis", "redis://h/0", "", {"password": "p/w"}),
        (
            "amqps://me:hunter2@h:5671/v?queue=train",
            "rabbitmq",
            "amqps://h:5671/v?queue=train",
            "train",
            {"username": "me", "password": "hunter2"},
        ),
        ("sqs://eu-west-1/train", "sqs", "sqs://eu-west-1/train", "train", {}),
        ("sqs://eu-west-1/", "sqs", "sqs://eu-west-1/", "", {}),
        ("sqs://eu-west-1/train-*", "sqs", "sqs://eu-west-1/train-*", "", {}),
    ],
)
def test_a_url_is_a_credential(url: str, kind: str, shown: str, queue: str, secrets: dict[str, str]) -> None:
    """Read by the one reader of credential files; what is printed of it holds no login."""
    place = place_of(url)
    assert (kind, shown, shown, queue) == (place.credential.kind, place.credential.url, place.url, place.queue)
    assert secrets == secrets_of(place)
    assert "hunter2" not in repr(place)


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("redis://h/0", {"username": "eve", "password": "s3cret"}),
        ("amqp://me@h/", {"username": "me", "password": "s3cret"}),
        ("amqp://me:hunter2@h/", {"username": "me", "password": "hunter2"}),
        ("sqs://eu-west-1/train", {}),
    ],
)
def test_what_a_url_leaves_out_of_a_login_comes_from_the_environment(url: str, secrets: dict[str, str]) -> None:
    """A password on a command line is seen by every user of the machine."""
    assert secrets == secrets_of(place_of(url, environ=LOGIN))


def test_a_result_backend_elsewhere_has_a_login_of_its_own(tmp_path: Path) -> None:
    """Beside a queue of another service, and beside a folder."""
    for queue in ("amqp://h/?queue=train", f"folder://{tmp_path}/q"):
        place = place_of(queue, results="redis://me:hunter2@r:6379/1")
        assert "redis://r:6379/1" == place.credential.rights.results
        assert {"results_username": "me", "results_password": "hunter2"} == secrets_of(place)
    place = place_of("amqp://h/", environ={"RUNNER_RESULTS": "folder:///r"})
    assert "folder:///r" == place.credential.rights.results


def test_a_credential_file_says_it_all(tmp_path: Path) -> None:
    """The same file that a box has; several queues behind it are told apart by name."""
    file = tmp_path / "train.toml"
    file.write_text('kind = "redis"\nurl = "redis://h:6379/0"\npassword = "hunter2"\nresults = "folder:///r"\n')
    place = place_of(credential=str(file))
    assert ("redis://h:6379/0", "", "folder:///r") == (place.url, place.queue, place.credential.rights.results)
    assert {"password": "hunter2"} == secrets_of(place)
    assert "train" == place_of("train", credential=str(file)).queue
    environ = {"RUNNER_QUEUE": "folder:///q"}
    assert "" == place_of("folder:///q", credential=str(file), environ=environ).queue, "it was not typed"


def test_a_credential_file_of_folders(tmp_path: Path) -> None:
    """The queue that is named, in the directory that the file names."""
    file = tmp_path / "local.toml"
    file.write_text(f'kind = "folder"\nurl = "folder://{tmp_path}"\n')
    assert tmp_path / "train" == place_of("train", credential=str(file)).root


def test_what_is_said_to_be_typed_next_can_be_typed(tmp_path: Path) -> None:
    """A queue behind a file is named by its name, one behind a URL by its URL, and neither with a password."""
    file = tmp_path / "all.toml"
    file.write_text('kind = "redis"\nurl = "redis://h:6379/0"\npassword = "hunter2"\n')
    of_file, of_url = place_of(credential=str(file)), place_of("redis://:hunter2@h:6379/0")
    assert (f"--credential {file}", f"--credential {file} --queue a") == (of_file.typed, of_file.option("a"))
    assert place_of("a", credential=str(file)).queue == "a"
    assert ("--queue redis://h:6379/0", "--queue redis://h:6379/0?queue=a") == (of_url.typed, of_url.option("a"))
    for name in "ab":
        open_layout(str(tmp_path / name))
    file.write_text(f'kind = "folder"\nurl = "folder://{tmp_path}"\n')
    with pytest.raises(UsageError, match="there are 2 queues; name one, like --queue a"):
        place_of(credential=str(file))


@pytest.mark.parametrize(
    ("queue", "results", "text", "problem"),
    [
        ("redis://h/0", "", 'kind = "redis"\nurl = "redis://h/0"', "beside --credential it is the name of a queue"),
        ("", "folder:///r", 'kind = "redis"\nurl = "redis://h/0"', "the credential file says it"),
        ("", "", 'kind = "redis"\nurl = "redis://:hunter2@h/x"', "url must be"),
        ("", "", 'kind = "radis"\nurl = "redis://:hunter2@h/0"', "no such kind"),
        ("", "", "", "is empty"),
    ],
)
def test_a_credential_file_that_cannot_be_used_is_refused(
    tmp_path: Path, queue: str, results: str, text: str, problem: str
) -> None:
    """With the file's name, and without what stands in it."""
    file = tmp_path / "train.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=problem) as refused:
        place_of(queue, results=results, credential=str(file))
    assert "hunter2" not in str(refused.value)


def test_aws_files_are_read_with_what_stands_beside_them(tmp_path: Path) -> None:
    """As the AWS command line keeps them: the keys in one, the region in the other."""
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = AK\naws_secret_access_key = hunter2\n")
    (tmp_path / "config").write_text("[default]\nregion = eu-west-1\n")
    place = place_of("train", credential=str(tmp_path / "credentials"))
    assert ("sqs://eu-west-1/", "train") == (place.url, place.queue)
    assert {"access_key": "AK", "secret_key": "hunter2"} == secrets_of(place)


def test_a_credential_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--credential .*nosuch.toml: No such file"):
        place_of(credential=str(tmp_path / "nosuch.toml"))


def test_results_alone_name_no_queue() -> None:
    """They are of a queue; which one is missing."""
    with pytest.raises(UsageError, match="add --queue URL"):
        place_of(results="folder:///r")


@pytest.mark.parametrize(
    "results", ["/q/results", "amqp://h/", "sqs://eu-west-1/", "reddis://h/0", "amqp://me:hunter2@h/"]
)
def test_what_cannot_keep_results_is_told_with_what_can(results: str) -> None:
    """Not with the kinds of queues, most of which cannot."""
    with pytest.raises(UsageError) as raised:
        place_of("amqp://h/?queue=train", results=results)
    assert str(raised.value).endswith(
        ": results are kept in a folder or in Redis; write folder:///path or redis://host:6379/0"
    )
    assert str(raised.value).startswith("--results ")
    assert "hunter2" not in str(raised.value)
