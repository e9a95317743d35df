"""An image with programs that give rights, as most images have some."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.containers.docker_engine import Engine

NAME = "runner-test-privileged"
SET_UID, CAPABLE = "/usr/bin/set-uid", "/usr/bin/capable"
MAKE = f"""
import os, shutil, struct
for target in ({SET_UID!r}, {CAPABLE!r}):
    shutil.copy(os.path.realpath("/usr/bin/python3"), target)
os.chmod({SET_UID!r}, 0o4755)
os.setxattr({CAPABLE!r}, "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
"""


@contextmanager
def privileged_image(url: str, image: str) -> Iterator[str]:
    """Make it of another image, and delete it in the end."""
    asyncio.run(_make(url, image))
    yield f"{NAME}:1"
    asyncio.run(_delete(url))


async def _make(url: str, image: str) -> None:
    engine = Engine(url)
    async with engine.call("make an image") as docker:
        container = await docker.containers.create({"Image": image, "Cmd": ["python3", "-c", MAKE]})
        await container.start()
        ended = await container.wait()
        assert ended["StatusCode"] == 0, await container.log(stderr=True)
        await container.commit(repository=NAME, tag="1")
        await container.delete()
    await engine.close()


async def _delete(url: str) -> None:
    engine = Engine(url)
    async with engine.call("delete an image") as docker:
        await docker.images.delete(f"{NAME}:1", force=True)
    await engine.close()
