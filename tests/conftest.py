"""What every test may rely on: services are found by environment variables, and absence is a visible skip."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Machines that run tests are shared and slow at times; a deadline for each example would make failures of that. A run
# by hand explores; `make test` takes the same examples each time, so that it fails for a change and not by chance.
hypothesis.settings.register_profile(
    "shared machine", deadline=None, print_blob=True, derandomize="RUNNER_TEST_PROGRESS" in os.environ
)
hypothesis.settings.load_profile("shared machine")

THREAD_END_S = 2.0
NVIDIA_DRIVER = Path("/proc/driver/nvidia/gpus")
NO_ENGINE = "no Docker engine: run `make test`, or `python -m tests.services docker -- pytest …`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a service or a device that is not here, and say so; begin with what takes long."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    absent = {
        "docker": "" if "RUNNER_TEST_DOCKER" in os.environ else os.environ.get("RUNNER_TEST_DOCKER_ABSENT", NO_ENGINE),
        "gpu": "" if NVIDIA_DRIVER.is_dir() and any(NVIDIA_DRIVER.iterdir()) else "no NVIDIA GPU on this machine",
    }
    for item in items:
        for mark, reason in absent.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    """Fail a test that leaves a thread behind, since the next one would meet it."""
    before = frozenset(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(THREAD_END_S)
    assert [] == [thread.name for thread in left if thread.is_alive()]


@pytest.fixture(scope="session")
def docker_url() -> str:
    """Return the URL of the private engine."""
    return os.environ["RUNNER_TEST_DOCKER"]


@pytest.fixture(scope="session")
def busybox_image() -> str:
    """Return the name of an image with a shell and the usual small programs."""
    return os.environ["RUNNER_TEST_IMAGE_BUSYBOX"]


@pytest.fixture(scope="session")
def python_image() -> str:
    """Return the name of an image that also has `python3`."""
    return os.environ["RUNNER_TEST_IMAGE_PYTHON"]
