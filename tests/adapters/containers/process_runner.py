"""
A runner's life in a process of its own: starts a container, follows it into a file, says how it ended. May be killed.

    python process_runner.py DIRECTORY NAME COMMAND…
"""

import asyncio
import sys
from pathlib import Path

from tests.conformance.container_harness import ProcessHarness


async def main(directory: Path, name: str, *command: str) -> None:
    harness = ProcessHarness(directory)
    async with harness.open() as containers:
        running = await containers.start(harness.spec(name, *command))
        print(running.pid, running.started_at, flush=True)
        with (directory / "followed").open("ab", buffering=0) as followed:
            async for chunk in containers.attach(name, {}):
                followed.write(chunk.data)
                print("followed", flush=True)
        print((await containers.wait(name)).code, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
