"""Images in the whole ring: from a registry with a login, built from a Dockerfile, pushed, and run by a later job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.containers.docker_images import DockerImages
from runner.credential import RegistryLogin
from runner.secret import Secret
from tests.at_work import AtWork, at_work
from tests.cli.typed import Typed, typed
from tests.services.registry import PASSWORD, SERVICE, USER, registry

pytestmark = [
    pytest.mark.docker,
    pytest.mark.integration,
    pytest.mark.skipif(bool(SERVICE.missing_programs()), reason="not installed: docker-registry"),
]
QUEUE = (
    'kind = "folder"\nurl = "folder://{queue}"\nsole_reader = true\nimages = ["{host}/lab/*"]\npush = ["{host}/lab/"]\n'
)
LOGIN = 'kind = "registry"\nhost = "{host}/lab"\nusername = "{user}"\npassword = "{password}"\n'
JOB = """
command = ["cat", "/greeting"]
build = {{ path = "src", push = "{push}" }}
[[inputs]]
text = "FROM {base}\\nCOPY greeting /greeting\\nRUN echo built as $(id -u), devices $(ls /sys/class/net)\\n"
path = "src/Dockerfile"
[[inputs]]
text = "hello\\n"
path = "src/greeting"
"""


@dataclass
class Ring:
    """A registry with a login, which has one image; a queue that may use and push what is below ``lab``."""

    directory: Path
    url: str
    host: str

    @property
    def base(self) -> str:
        """The one image that the registry has."""
        return f"{self.host}/lab/base:1"

    def open(self) -> tuple[object, ...]:
        """Write the queue's file, and return the runner's options."""
        certs = self.directory / "certs"
        certs.mkdir(mode=0o700)
        self.write("q.toml", QUEUE.format(queue=self.directory / "q", host=self.host))
        return ("--certs-dir", certs, "--docker-host", self.url, "--no-own-queue")

    def write(self, name: str, text: str) -> None:
        path = self.directory / "certs" / name
        path.touch(mode=0o600)
        path.write_text(text)

    def let_in(self, password: str) -> None:
        self.write("login.toml", LOGIN.format(host=self.host, user=USER, password=password))

    def follow(self, box: AtWork, job_id: str, *words: object) -> Typed:
        return box.follow(job_id, "--queue", f"folder://{self.directory / 'q'}", *words)


async def fill(url: str, image: str, name: str) -> None:
    """Push an image as somebody who may, and forget its name here."""
    images = DockerImages(url)
    found = await images.resolve(image)
    assert found is not None
    await images.push(found.id, name, RegistryLogin("127.0.0.1", USER, Secret(PASSWORD)), lambda _: None)
    await images.close()


@pytest.fixture
def ring(tmp_path: Path, docker_url: str, busybox_image: str) -> Iterator[Ring]:
    with registry(tmp_path / "registry", login=True) as host:
        found = Ring(tmp_path, docker_url, host)
        asyncio.run(fill(docker_url, busybox_image, found.base))
        yield found


def test_a_login_that_comes_later_lets_the_next_job_in_and_what_is_built_is_pushed(ring: Ring) -> None:
    """Refused without a login and with a wrong one; with the right one pulled, built upon, pushed, and pulled again."""
    with at_work(ring.directory / "s", *ring.open()) as box:
        said = ring.follow(box, "nobody", "--image", ring.base, "--", "true")
        assert said.status == 125
        assert "image_refused" in said.err
        assert f"no credential file of kind registry has a login at {ring.host}" in said.err
        ring.let_in("wrong")
        assert "(with the login of login.toml)" in ring.follow(box, "wrong", "--image", ring.base, "--", "true").err
        ring.let_in(PASSWORD)
        pushed = f"{ring.host}/lab/new:2"
        (ring.directory / "job.toml").write_text(JOB.format(push=pushed, base=ring.base))
        said = ring.follow(box, "builds", ring.directory / "job.toml")
        assert (0, "hello\n") == (said.status, said.out), said.err
        receipt = box.receipt("builds", "--queue", f"folder://{ring.directory / 'q'}")
        assert receipt.image is not None
        assert receipt.image.name == pushed
        log = typed("logs", "builds", "--state-dir", ring.directory / "s").err
        assert "built as 0, devices lo" in log
        assert f"pulling image {ring.base}" in log
        assert f"build: {ring.base} is sha256:" in log
        said = ring.follow(
            box, "uses", "--image", f"{ring.host}/lab/new@{receipt.image.digest}", "--", "cat", "/greeting"
        )
        assert (0, "hello\n") == (said.status, said.out), said.err
        (ring.directory / "evil.toml").write_text(JOB.format(push=f"{ring.host}/other/x", base="python"))
        said = ring.follow(box, "evil", ring.directory / "evil.toml")
        assert (125, True) == (said.status, "push" in said.err)
        assert box.stop() == 0
    assert PASSWORD not in str(box.said)
    kept = [path for path in (ring.directory / "s").rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in kept if PASSWORD.encode() in path.read_bytes()]
    images = typed("images", "list", "--state-dir", ring.directory / "s", "--docker-host", ring.url).out
    ours = [line.split()[0] for line in images.splitlines() if " yes " in line]
    assert ring.base in ours
    assert any(name.startswith("runner-build:") for name in ours)
    assert typed("images", "prune", "--state-dir", ring.directory / "s", "--docker-host", ring.url).status == 0
