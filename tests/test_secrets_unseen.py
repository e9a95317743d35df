"""Passwords and keys of every kind of service, right ones and wrong ones, are nowhere to be read afterwards."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import redis

from adapters.journal import SqliteJournal
from tests.at_work import AtWork, end_orphans, until
from tests.cli.typed import started
from tests.services.ports import free_port
from tests.shared_queue import SharedQueue, service
from tests.test_broker_credentials import RabbitUsers, RedisUsers

pytestmark = [pytest.mark.broker, pytest.mark.integration, pytest.mark.timeout(240)]

KINDS = ("redis", "rabbitmq", "sqs")
NAMES = ("right", "wrong", "away", "broken")


class Secrets:
    """A distinctive secret by name, and every form in which one might be written."""

    def __init__(self) -> None:
        self._texts = {name: f"{name}/pa%ss+@{secrets.token_hex(6)}" for name in NAMES}

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def found_in(self, where: str, content: bytes) -> list[str]:
        """Name the secrets that stand in some bytes, and how."""
        return [
            f"{name} as {form} in {where}"
            for name, text in self._texts.items()
            for form, written in forms(text)
            if written in content
        ]


def forms(text: str) -> Iterator[tuple[str, bytes]]:
    yield "text", text.encode()
    yield "its random part", text[-12:].encode()
    yield "URL", quote(text, safe="").encode()
    yield "hex", text.encode().hex().encode()
    for shift in range(3):
        yield "base64", base64.b64encode(b"x" * shift + text.encode())[4 * (shift > 0) : -4]


def lines(kind: str, secret: str, *, port: int = 0) -> str:
    """Return where a credential file says the service is, and as whom it is used."""
    url = os.environ[f"RUNNER_TEST_{kind.upper()}"]
    host = f"127.0.0.1:{port or urlsplit(url).port}"
    login = f'username = "worker"\npassword = "{secret}"\n'
    match kind:
        case "redis":
            return f'kind = "redis"\nurl = "redis://{host}/0?queue={{queue}}"\n{login}'
        case "rabbitmq":
            management = f'management = "{os.environ["RUNNER_TEST_RABBITMQ_MANAGEMENT"]}"\n'
            return f'kind = "rabbitmq"\nurl = "amqp://{host}/?queue={{queue}}"\n{login}{management}'
        case _:
            keys = f'access_key = "112233445566"\nsecret_key = "{secret}"\nsession_token = "{secret}"\n'
            return f'kind = "sqs"\nurl = "sqs://us-east-1/{{queue}}"\nendpoint = "http://{host}"\n{keys}'


def broken(kind: str, secret: str) -> str:
    """Return a file with a mistake in each place where a secret may stand."""
    host = {"redis": "redis", "rabbitmq": "amqp", "sqs": "sqs"}[kind]
    return f'kind = "{kind}"\nurl = "{host}://worker:{secret}@127.0.0.1/#{secret}"\nlease = "{secret}"\n'


@pytest.fixture
def scene(kind: str, tmp_path: Path) -> Iterator[tuple[Secrets, SharedQueue]]:
    """A queue whose file says the right secret, beside others of its kind."""
    unseen, shared = Secrets(), SharedQueue(tmp_path, service(kind), lease_s=60.0)
    users = let_in(kind, unseen["right"])
    results = "" if kind == "redis" else f'results = "folder://{tmp_path}/results"\n'
    rights = f'runtime = "process"\npaths = ["{shared.marks}"]\n{results}'
    texts = {
        "q": lines(kind, unseen["right"]).replace("{queue}", shared.name) + rights,
        "wrong": lines(kind, unseen["wrong"]).replace("{queue}", f"{shared.name}-2"),
        "away": lines(kind, unseen["away"], port=free_port()).replace("{queue}", "train"),
        "broken": broken(kind, unseen["broken"]),
    }
    for name, text in texts.items():
        (shared.certs / f"{name}.toml").write_text(text)
        (shared.certs / f"{name}.toml").chmod(0o600)
    yield unseen, shared
    end_orphans(tmp_path)
    if users:
        users.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    variable = f"RUNNER_TEST_{request.param.upper()}"
    if variable not in os.environ:
        pytest.skip(os.environ.get(f"{variable}_ABSENT", f"no {request.param}: run `make test`"))
    return str(request.param)


def test_no_secret_is_anywhere_to_be_read(
    kind: str, scene: tuple[Secrets, SharedQueue], capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even of a runner that says all that it can, and with services that are away or refuse the login."""
    unseen, shared = scene
    told = at_work(shared)
    told |= {f"client with {file.name}": client(file) for file in shared.certs.iterdir()}
    told |= {"stdout": "".join(capfd.readouterr()).encode(), "journal": journal(shared.directory / "first")}
    files = (path for path in shared.directory.rglob("*") if path.is_file() and shared.certs not in path.parents)
    told |= {str(path): path.read_bytes() for path in files}
    told |= in_redis(shared.name) if kind == "redis" else {}
    assert [] == [it for where, content in told.items() for it in unseen.found_in(where, content)]
    assert b"good" in told["journal"], "it was read"


def at_work(shared: SharedQueue) -> dict[str, bytes]:
    """Let a runner do what there is, and return what it and commands said."""
    with shared.box("first", "--log-level", "debug") as box:
        shared.submit({"good": shared.command("echo x"), "bad": shared.command("exit 3"), "odd": []})
        until(lambda: {"good", "bad"} <= {it.id for it in shared.ended()} and shared.dead(), "they have ended")
        until(lambda: all_tried(box), "every file was tried")
        told = said_by_commands(box)
        assert box.stop() == 0
    return {**told, "stderr": json.dumps(box.said).encode()}


def let_in(kind: str, password: str) -> RedisUsers | RabbitUsers | None:
    """Make the user of the right file; of SQS its servers here know none."""
    users: RedisUsers | RabbitUsers
    match kind:
        case "redis":
            users = RedisUsers(os.environ["RUNNER_TEST_REDIS"])
        case "rabbitmq":
            users = RabbitUsers(os.environ["RUNNER_TEST_RABBITMQ"], os.environ["RUNNER_TEST_RABBITMQ_MANAGEMENT"])
        case _:
            return None
    users.let_in("worker", password)
    return users


def all_tried(box: AtWork) -> bool:
    rows = {row["file"]: row for row in json.loads(box.type("sources", "--json").out)}
    return len(rows) == 4 and ("backing off" in json.dumps(rows["away.toml"]) or rows["away.toml"]["state"] != "in use")


def said_by_commands(box: AtWork) -> dict[str, bytes]:
    typed = ("sources", "sources --json", "ps --all --json", "show good", "show bad --json", "logs good", "why bad",
             "doctor --json", "config explain", "cancel nobody")  # fmt: skip
    found = {words: box.type(*words.split()) for words in typed}
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(10)
        control.connect(str(box.state / "control.sock"))
        control.sendall(b"GET /metrics HTTP/1.0\r\nHost: runner\r\n\r\n")
        metrics = b"".join(iter(lambda: control.recv(65536), b""))
    assert b"runner_source_usable" in metrics
    return {**{words: (it.out + it.err).encode() for words, it in found.items()}, "metrics": metrics}


def client(file: Path) -> bytes:
    """Return what commands say that use a credential file from elsewhere."""
    told = [started(*words, "--credential", file, "--debug") for words in (["ps", "--json"], ["dead", "list"])]
    return "".join(it.out + it.err for it in told).encode()


def journal(state: Path) -> bytes:
    """Return all of a journal, decrypted."""

    async def read() -> bytes:
        opened = SqliteJournal(str(state / "journal.db"), str(state / "journal.key"))
        try:
            return repr(await opened.list(limit=1000, ended=True)).encode()
        finally:
            await opened.close()

    return asyncio.run(read())


def in_redis(queue: str) -> dict[str, bytes]:
    """Return all that stands in the database of one queue; other tests come and go there."""
    opened: Any = redis.Redis.from_url(os.environ["RUNNER_TEST_REDIS"])
    read = {b"string": opened.get, b"hash": opened.hgetall, b"set": opened.smembers, b"stream": opened.xrange,
            b"list": lambda key: opened.lrange(key, 0, -1), b"zset": lambda key: opened.zrange(key, 0, -1)}  # fmt: skip
    found = {f"key {key}": repr(read[opened.type(key)](key)).encode() for key in opened.keys(f"*{queue}*")}
    opened.close()
    assert found
    return found
