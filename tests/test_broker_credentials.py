"""Logins that change on a real service while a real runner works with it, and logins that were wrong from the start."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
import redis

from runner.broken_files import FINISHING
from tests.at_work import AtWork, end_orphans, until
from tests.shared_queue import WAITS, SharedQueue, service

pytestmark = [pytest.mark.broker, pytest.mark.integration, pytest.mark.timeout(180)]

LEASE_S = 60.0


class Users(Protocol):
    """The users of a service, as its administrator makes them."""

    def let_in(self, name: str, password: str) -> None:
        """Let a user do everything with this password and no other; who is connected with another one is cut off."""
        ...

    def close(self) -> None:
        """Forget them."""
        ...


class RedisUsers:
    """By ACL."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(url)
        self._names: set[str] = set()

    def let_in(self, name: str, password: str) -> None:
        """Let a user in."""
        self._names.add(name)
        self._redis.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", "~*", "&*", "+@all")
        self._redis.execute_command("CLIENT", "KILL", "USER", name)

    def close(self) -> None:
        """Forget them."""
        self._redis.execute_command("ACL", "DELUSER", *self._names)
        self._redis.close()


class RabbitUsers:
    """By the management API."""

    def __init__(self, url: str, management: str) -> None:
        self._management, self._names = management, set[str]()
        self._login = f"{urlsplit(url).username}:{urlsplit(url).password}"

    def let_in(self, name: str, password: str) -> None:
        """Let a user in."""
        self._names.add(name)
        self._ask("PUT", f"users/{name}", {"password": password, "tags": "management"})
        self._ask("PUT", f"permissions/%2F/{name}", {"configure": ".*", "write": ".*", "read": ".*"})
        self._ask("DELETE", f"connections/username/{name}", {})

    def close(self) -> None:
        """Forget them."""
        for name in self._names:
            self._ask("DELETE", f"users/{name}", {})

    def _ask(self, method: str, path: str, body: Mapping[str, str]) -> None:
        token = base64.b64encode(self._login.encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - a loopback address of this run
            f"{self._management}/api/{path}", json.dumps(body).encode(), headers, method=method
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - the same
            pass


@dataclass(frozen=True)
class Scene:
    """A queue, and the one user of its credential file."""

    shared: SharedQueue
    users: Users
    user: str

    def say(self, password: str) -> None:
        """Let the credential file hold this password, as a deployment tool changes it."""
        bare = re.sub("//[^/@]+@", "//", self.shared.text)
        aside = self.shared.certs.parent / "aside"
        aside.write_text(f'{bare}username = "{self.user}"\npassword = "{password}"\n')
        aside.chmod(0o600)
        aside.rename(self.shared.credential)


@pytest.fixture(params=["redis", "rabbitmq"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    variable = f"RUNNER_TEST_{request.param.upper()}"
    if variable not in os.environ:
        pytest.skip(os.environ.get(f"{variable}_ABSENT", f"no {request.param}: run `make test`"))
    url = os.environ[variable]
    users = RedisUsers(url) if request.param == "redis" else RabbitUsers(url, os.environ[f"{variable}_MANAGEMENT"])
    shared = SharedQueue(tmp_path, service(request.param), lease_s=LEASE_S)
    try:
        yield Scene(shared, users, f"worker-{secrets.token_hex(4)}")
    finally:
        users.close()
        end_orphans(tmp_path)


def rows(box: AtWork) -> list[dict[str, Any]]:
    return list(json.loads(box.type("sources", "--json").out))


def row(box: AtWork) -> dict[str, Any]:
    return next(iter(rows(box)), {"queues": []})


def has_ended(scene: Scene, job_id: str) -> bool:
    return any((it.id, it.end_reason) == (job_id, "succeeded") for it in scene.shared.ended())


def test_a_password_that_changes_while_a_job_runs_touches_nothing_of_it(scene: Scene) -> None:
    """Not even where everybody who had the old one is cut off before the file says the new one."""
    scene.users.let_in(scene.user, "first-hunter2")
    scene.say("first-hunter2")
    scene.shared.submit({"job": scene.shared.command(WAITS)})
    with scene.shared.box("first") as box:
        until(lambda: scene.shared.starts("job") == 1, "it runs")
        scene.users.let_in(scene.user, "second-hunter2")
        scene.say("second-hunter2")
        scene.shared.go("first")
        until(lambda: has_ended(scene, "job"), "it has ended")
        scene.shared.submit({"next": scene.shared.command("true")})
        until(lambda: has_ended(scene, "next"), "the next one has ended")
        until(lambda: row(box)["state"] == "in use", "nothing is wrong any more")
        assert box.stop() == 0
        assert "hunter2" not in json.dumps(box.said)
    assert (scene.shared.starts("job"), scene.shared.starts("next"), scene.shared.depth()) == (1, 1, 0)
    assert scene.shared.dead() == []


def test_a_wrong_password_is_told_and_the_right_one_is_used_at_once(scene: Scene) -> None:
    scene.users.let_in(scene.user, "right-hunter2")
    scene.say("wrong-hunter2")
    scene.shared.submit({"job": scene.shared.command("true")})
    with scene.shared.box("first") as box:
        until(lambda: told(row(box)), "it is told")
        scene.say("right-hunter2")
        until(lambda: has_ended(scene, "job"), "it is used", 10.0)
        assert "hunter2" not in json.dumps(box.said)
        assert box.stop() == 0


def told(shown: Mapping[str, object]) -> bool:
    """Tell whether the login is said to be wrong: of the file, or of its queue where the file names only one."""
    text = json.dumps(shown)
    assert "hunter2" not in text
    return shown["state"] == "refused" or "backing off" in text


def test_a_password_that_changes_while_the_runner_drains_is_used_once_the_file_says_it(scene: Scene) -> None:
    """Else the last job's end is not stored and settled, and the drain never comes to an end."""
    scene.users.let_in(scene.user, "first-hunter2")
    scene.say("first-hunter2")
    scene.shared.submit({"job": scene.shared.command(WAITS)})
    with scene.shared.box("first") as box:
        until(lambda: scene.shared.starts("job") == 1, "it runs")
        box.process.send_signal(signal.SIGTERM)
        until(lambda: row(box)["state"] == "finishing", "it drains")
        scene.users.let_in(scene.user, "second-hunter2")
        scene.shared.go("first")
        until(lambda: any(it.get("level") == "error" for it in box.said), "it is refused")
        assert box.process.poll() is None
        scene.say("second-hunter2")
        assert box.process.wait(60) == 0
        assert "hunter2" not in json.dumps(box.said)
    assert has_ended(scene, "job")
    assert (scene.shared.starts("job"), scene.shared.depth(), scene.shared.dead()) == (1, 0, [])


@pytest.mark.parametrize("kind", ["folder", "redis", "rabbitmq", "sqs"])
def test_a_file_that_is_renamed_and_says_another_lease_is_read_while_its_job_runs_on(kind: str, tmp_path: Path) -> None:
    """Its claim is taken over and renewed: another box that comes and waits for two leases does not get the job."""
    variable = f"RUNNER_TEST_{kind.upper()}"
    if kind != "folder" and variable not in os.environ:
        pytest.skip(os.environ.get(f"{variable}_ABSENT", f"no {kind}: run `make test`"))
    shared = SharedQueue(tmp_path, service(kind), lease_s=4.0)
    shared.submit({"job": shared.command(WAITS)})
    renamed = shared.certs / "renamed.toml"
    with shared.box("first") as box:
        until(lambda: shared.starts("job") == 1, "it runs")
        shared.credential.rename(renamed)
        until(lambda: "renamed.toml" in [it["file"] for it in rows(box)], "the new name is seen")
        shared.submit({"next": shared.command("true")})
        until(lambda: "next" in ended_ids(shared), "the file with another name is read", 10.0)
        aside = tmp_path / "aside"
        aside.write_text(shared.text.replace('lease = "4s"', 'lease = "5s"'))
        aside.chmod(0o600)
        aside.rename(renamed)
        until(lambda: FINISHING in [it["warning"] for it in rows(box)], "the new lease is seen")
        shared.submit({"last": shared.command("true")})
        until(lambda: "last" in ended_ids(shared), "the file with another lease is read", 10.0)
        until(lambda: queue_states(box, "renamed.toml") == ["polling"], "the claim is taken over", 30.0)
        with shared.box("second") as other:
            sleep(10.0)  # two leases of a real service
            assert other.stop() == 0
        shared.go("first")
        until(lambda: "job" in ended_ids(shared), "it has ended")
        assert box.stop() == 0
    assert [shared.starts(it) for it in ("job", "next", "last")] == [1, 1, 1]
    assert (shared.depth(), shared.dead()) == (0, [])


def queue_states(box: AtWork, file: str) -> list[str]:
    return [queue["state"] for it in rows(box) if it["file"] == file for queue in it["queues"]]


def ended_ids(shared: SharedQueue) -> set[str]:
    return {it.id for it in shared.ended() if it.end_reason == "succeeded"}


def test_an_aws_account_in_a_directory_of_its_own_is_served(tmp_path: Path) -> None:
    """Its queues are listed and read; nothing in such a file lets jobs run as processes, so one is refused by name."""
    if "RUNNER_TEST_SQS" not in os.environ:
        pytest.skip(os.environ.get("RUNNER_TEST_SQS_ABSENT", "no SQS server: run `make test`"))
    shared = SharedQueue(tmp_path, service("sqs"), lease_s=LEASE_S)
    shared.credential.unlink()
    shared.submit({"job": ["true"]})
    account = shared.certs / "lab"
    account.mkdir()
    (account / "config").write_text(f"[default]\nregion = us-east-1\nendpoint_url = {os.environ['RUNNER_TEST_SQS']}\n")
    keys = "aws_access_key_id = 112233445566\naws_secret_access_key = made-up-hunter2\n"
    with shared.box("first", "--queue-match", f"^{shared.name}$") as box:
        (account / "credentials").write_text(f"[default]\n{keys}")
        (account / "credentials").chmod(0o600)
        until(lambda: [it["name"] for it in row(box)["queues"]] == [shared.name], "its queue is found")
        assert (row(box)["file"], row(box)["kind"]) == ("lab/credentials", "sqs")
        until(shared.dead, "the job is refused")
        assert "hunter2" not in json.dumps(box.said)
        assert box.stop() == 0
    assert "image" in shared.dead()[0]
