"""``runner images`` on a real engine: what is here, whose it is, and what may go."""

import asyncio
import io
import json
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.containers.docker_images import DockerImages
from adapters.image_records import FileImageRecords
from runner.credential import RegistryLogin
from runner.image_name import whole_name
from runner.secret import Secret
from tests.cli.typed import Typed, typed
from tests.services.engine import Engine
from tests.services.registry import PASSWORD, SERVICE, USER, registry

GOLDEN = Path(__file__).parent / "golden"
NO_REGISTRY = pytest.mark.skipif(bool(SERVICE.missing_programs()), reason="not installed: docker-registry")


class Box:
    """An engine, a state directory, and an image of one name that was imported, not pulled."""

    def __init__(self, url: str, state: Path) -> None:
        self.url, self.state, self.name = url, state, f"lab-{uuid.uuid4().hex[:8]}:1"
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(uuid.uuid4().hex))
        Engine(Path(url.removeprefix("unix://"))).import_image(io.BytesIO(content.getvalue()), self.name, "/bin")

    def images(self, *words: object) -> Typed:
        return typed("images", *words, "--state-dir", self.state, "--docker-host", self.url)

    def row(self, name: str = "") -> dict[str, object] | None:
        said = self.images("list", "--json")
        assert said.status == 0, said
        return next((row for row in json.loads(said.out) if row["name"] == (name or self.name)), None)

    def adopt(self) -> None:
        """Make the image the runner's own, used long ago."""

        async def write() -> None:
            images = DockerImages(self.url)
            image = await images.resolve(self.name)
            assert image is not None
            await FileImageRecords(str(self.state)).complete(whole_name(self.name), image, 1000.0)
            await images.close()

        asyncio.run(write())

    def forget(self, *names: str) -> None:
        async def remove() -> None:
            images = DockerImages(self.url)
            for name in (self.name, *names):
                await images.remove(name)
            await images.close()

        asyncio.run(remove())


@pytest.fixture
def box(docker_url: str, tmp_path: Path) -> Iterator[Box]:
    found = Box(docker_url, tmp_path / "state")
    yield found
    found.forget()


@pytest.mark.docker
def test_json_is_as_agreed(box: Box) -> None:
    """Other programs lean on every name; write ``golden/images.json`` again only with a reason for them."""
    box.adopt()
    row = box.row()
    assert row is not None
    assert str(row["id"]).startswith("sha256:")
    told = {**row, "name": "NAME", "id": "ID", "digest": "ID" if row["digest"] == row["id"] else "DIGEST"}
    assert json.loads((GOLDEN / "images.json").read_text()) == [told]


@pytest.mark.docker
def test_prune_takes_what_is_ours_and_neither_pinned_nor_of_others(box: Box) -> None:
    assert "0 images removed" in box.images("prune").out
    assert not (box.state / "images.db").exists(), "looking makes nothing"
    box.adopt()
    assert box.images("pin", box.name).status == 0
    assert "0 images removed" in box.images("prune").out
    row = box.row()
    assert row is not None
    assert (row["pinned"], row["ours"]) == (True, True)
    assert "was not pinned" in box.images("unpin", "another:1").out
    assert box.images("unpin", box.name).status == 0
    assert "1 image removed" in box.images("prune").out
    assert box.row() is None


@pytest.mark.docker
def test_what_is_pinned_before_it_is_here_is_told_and_stays_once_it_is(box: Box) -> None:
    """It may be a mistyped name as well."""
    assert ("", 0) == ((here := box.images("pin", box.name)).err, here.status)
    box.forget()
    said = box.images("pin", "nope")
    assert (said.status, said.out) == (0, "nope will stay, whatever becomes of the disk\n")
    assert "nope is not here, its name alone is pinned; to pull it: runner images pull nope" in said.err
    assert "cannot name an image" in box.images("pin", "no such/name").err


@pytest.mark.docker
@NO_REGISTRY
def test_pull_uses_the_login_of_a_credential_file(box: Box, tmp_path: Path) -> None:
    """A file that comes later holds at once; the image is ours from then on."""
    certs = tmp_path / "certs"
    certs.mkdir()
    login = f'kind = "registry"\nhost = "HOST"\nusername = "{USER}"\npassword = "{PASSWORD}"\n'

    async def push(host: str) -> None:
        images = DockerImages(box.url)
        image = await images.resolve(box.name)
        assert image is not None
        await images.push(image.id, f"{host}/lab/x:1", RegistryLogin(host, USER, Secret(PASSWORD)), lambda _: None)
        await images.remove(box.name)
        await images.close()

    with registry(tmp_path / "registry", login=True) as host:
        asyncio.run(push(host))
        name = f"{host}/lab/x:1"
        said = box.images("pull", name, "--certs-dir", certs)
        assert (said.status, "no basic auth credentials" in said.err) == (1, True)
        (certs / "registry.toml").write_text(login.replace("HOST", host))
        assert box.images("pull", name, "--certs-dir", certs).status == 0
        row = box.row(name)
        assert row is not None
        assert (row["ours"], row["digest"] != row["id"]) == (True, True)
        box.forget(name)


@pytest.mark.parametrize("words", [("pull",), ("list", "x"), ("prune", "x"), ("shred",)])
def test_words_that_do_not_fit_are_told(words: tuple[str, ...]) -> None:
    assert typed("images", *words).status == 64


def test_without_an_engine_it_says_where_it_looked(tmp_path: Path) -> None:
    said = typed("images", "list", "--state-dir", tmp_path, "--docker-host", f"unix://{tmp_path}/none.sock")
    assert said.status == 69
    assert f"no container engine at unix://{tmp_path}/none.sock" in said.err
