"""Brokers of one test's own, which it may kill, freeze and start again; what they keep stays from life to life."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.at_work import until
from tests.services.ports import free_port
from tests.services.rabbitmq import PASSWORD, SERVER, USER, node_environment, stop_mapper, write_configuration
from tests.services.rabbitmq import answers as rabbit_answers
from tests.services.redis import answers, redis_command
from tests.services.service import find_program

START_S = 60.0


class PrivateBroker(Protocol):
    """One broker; ``port`` is the same in every life."""

    port: int

    def url(self, port: int) -> str:
        """Return its URL by way of a port."""
        ...

    def start(self) -> None:
        """Begin a life, and wait until it serves."""
        ...

    def kill(self) -> None:
        """End a life as a power cut does."""
        ...

    def freeze(self) -> None:
        """Let it stand still."""
        ...

    def thaw(self) -> None:
        """Let it go on."""
        ...


class PrivateRedis:
    """A Redis that has written what it has confirmed."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port = directory, free_port()
        directory.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}"

    def start(self) -> None:
        command = [*redis_command(self._directory, self.port), "--appendonly", "yes", "--appendfsync", "always"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: answers(self.port), "Redis serves", START_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


class PrivateRabbit:
    """A RabbitMQ node with its files and its port mapper."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port, self.management = directory, free_port(), free_port()
        self._distribution, self._mapper = free_port(), free_port()
        directory.mkdir()
        write_configuration(directory, self.port, self.management)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, port: int) -> str:
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{port}/"

    def start(self) -> None:
        environment = node_environment(
            self._directory, node=f"t{self.port}@localhost", distribution=self._distribution, mapper=self._mapper
        )
        with (self._directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [SERVER], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        until(lambda: rabbit_answers(self.port, self.management), "RabbitMQ serves", START_S)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End a life in order."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._signal(number)
            self._process.wait()
            self._process = None
            stop_mapper(self._mapper)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """Tell the whole group: the server is a child of a shell."""
        assert self._process is not None
        os.killpg(self._process.pid, number)


KINDS: dict[str, type[PrivateRedis | PrivateRabbit]] = {"redis": PrivateRedis, "rabbitmq": PrivateRabbit}


@contextmanager
def private_rabbit(directory: Path) -> Iterator[PrivateRabbit]:
    """Start a node of one's own; it is gone at the end."""
    if find_program("rabbitmq-server") is None:
        pytest.skip("no RabbitMQ: run `make test`, or install rabbitmq-server")
    broker = PrivateRabbit(directory / "broker")
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@contextmanager
def private_broker(name: str, directory: Path) -> Iterator[PrivateBroker]:
    """Start one of its own; it is gone at the end."""
    broker = KINDS[name](directory / "broker")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
