"""A private image registry on a free loopback port, one for each test that wants one: open, or with one login."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.services.daemon import Daemon, running
from tests.services.ports import free_port
from tests.services.service import Service, find_program

USER, PASSWORD = "ada", "a-good-password"
# What htpasswd writes for them.
LOGIN = "ada:$2b$05$jzCzg45AeyyfsCDtwYTFfOQE84IjoHycUkSp9RiGh3qBjZ5twrYRC\n"
HTTP_UNAUTHORIZED = 401


@contextmanager
def registry(directory: Path, *, login: bool = False) -> Iterator[str]:
    """Run one, and give its `HOST:PORT`."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = directory / "config.yml"
    config.write_text(_config(directory, port, login=login))
    daemon = Daemon(
        command=[find_program("docker-registry") or "docker-registry", "serve", str(config)],
        environment={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        log=directory / "registry.log",
        ready=lambda: _answers(port),
        stop_timeout_s=5.0,
    )
    with running(daemon):
        yield f"127.0.0.1:{port}"


def _config(directory: Path, port: int, *, login: bool) -> str:
    text = (
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: '{directory / 'data'}'}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    if not login:
        return text
    path = directory / "htpasswd"
    path.write_text(LOGIN)
    return f"{text}auth: {{htpasswd: {{realm: test, path: '{path}'}}}}\n"


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1.0):
            return True
    except HTTPError as error:
        return error.code == HTTP_UNAUTHORIZED
    except OSError:
        return False


SERVICE = Service(
    name="registry",
    purpose="images: pulled with a login, pushed",
    programs=("docker-registry",),
    packages=("docker-registry",),
    root_needed=False,
    start=None,
)
