"""A service that is absent or broken is a reason that tests can show, never the end of the run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.services.service import Service, ServiceError
from tests.suite.provision import provide
from tests.suite.screen import Screen


@contextmanager
def healthy(directory: Path) -> Iterator[Mapping[str, str]]:
    (directory / "data").touch()
    yield {"RUNNER_TEST_ECHO": f"unix://{directory}/socket"}


@contextmanager
def broken(directory: Path) -> Iterator[Mapping[str, str]]:
    (directory / "data").touch()
    if directory.exists():
        raise ServiceError("no room on this device")
    yield {}


def service(
    start: Callable[[Path], AbstractContextManager[Mapping[str, str]]], programs: tuple[str, ...] = ("sh",)
) -> Service:
    return Service(name="echo", purpose="answers", programs=programs, packages=(), root_needed=False, start=start)


def test_tests_are_told_where_a_service_is_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        environment = provide([service(healthy)], tmp_path, stack, Screen(), present_only=True).environment()
        (directory,) = tmp_path.iterdir()
        assert environment == {"RUNNER_TEST_ECHO": f"unix://{directory}/socket"}
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_does_not_start_is_a_reason_and_leaves_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        environment = provide([service(broken)], tmp_path, stack, Screen(), present_only=True).environment()
    assert environment == {"RUNNER_TEST_ECHO_ABSENT": "no room on this device"}
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_installed_where_only_what_is_present_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = service(healthy, ("no-such-program",))
    with ExitStack() as stack:
        environment = provide([absent], tmp_path, stack, Screen(), present_only=True).environment()
    assert environment == {"RUNNER_TEST_ECHO_ABSENT": "echo: not installed: no-such-program"}
    assert "only what is present is used" in capsys.readouterr().out
