"""Brokers of one test's own, which it may kill, freeze and start again; what they keep stays from life to life."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest

from tests.at_work import until
from tests.services.ports import free_port
from tests.services.rabbitmq import PASSWORD, SERVER, USER, node_environment, stop_mapper, write_configuration
from tests.services.rabbitmq import answers as rabbit_answers
from tests.services.redis import answers, redis_command
from tests.services.service import find_program

B = TypeVar("B", bound="PrivateBroker")

START_S = 60.0


class PrivateBroker(ABC):
    """One broker in a process group of its own; ``port`` is the same in every life."""

    program: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        directory.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def url(self, port: int) -> str:
        """Return its URL by way of a port."""

    @abstractmethod
    def start(self) -> None:
        """Begin a life, and wait until it serves."""

    def kill(self) -> None:
        """End a life as a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End a life in order."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _begin(self, command: Sequence[str], serves: Callable[[], bool], environment: Mapping[str, str]) -> None:
        with (self.directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        until(serves, f"{self.program} serves", START_S)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._signal(number)
            self._process.wait()
            self._process = None

    def _signal(self, number: int) -> None:
        """Tell the whole group: a server may be the child of a shell."""
        assert self._process is not None
        os.killpg(self._process.pid, number)


class PrivateRedis(PrivateBroker):
    """A Redis that has written what it has confirmed."""

    program = "redis-server"

    def url(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}"

    def start(self) -> None:
        command = [*redis_command(self.directory, self.port), "--appendonly", "yes", "--appendfsync", "always"]
        self._begin(command, lambda: answers(self.port), os.environ)


class PrivateRabbit(PrivateBroker):
    """A RabbitMQ node with its files and its port mapper."""

    program = "rabbitmq-server"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.management, self._distribution, self._mapper = free_port(), free_port(), free_port()
        write_configuration(directory, self.port, self.management)

    def url(self, port: int) -> str:
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{port}/"

    def start(self) -> None:
        environment = node_environment(
            self.directory, node=f"t{self.port}@localhost", distribution=self._distribution, mapper=self._mapper
        )
        self._begin([SERVER], lambda: rabbit_answers(self.port, self.management), environment)

    def _end(self, number: int) -> None:
        super()._end(number)
        stop_mapper(self._mapper)


@contextmanager
def started(broker: B) -> Iterator[B]:
    """Start a broker; it is gone at the end."""
    if find_program(broker.program) is None:
        pytest.skip(f"{broker.program} is not installed: run `make test`")
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
