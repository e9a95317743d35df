"""Ways to harm by taking too much. Each runs as a job of its own, beside a neighbour that must go on."""

import os
import time
from pathlib import Path

from tests.escape.inside.world import World, probe

CHUNK = bytes(1 << 20)
MEASURED_S = 8
"""Longer than it takes until a disk is looked at."""


@probe
def fork_bomb(world: World) -> str:
    """All that live stay until somebody ends them."""
    for _ in range(int(world["processes"]) + 200):
        if os.fork() == 0:
            time.sleep(120)
            os._exit(0)
    return "more processes than it may have"


@probe
def memory_bomb(world: World) -> str:
    taken = [bytearray(CHUNK.replace(b"\0", b"\1")) for _ in range(int(world["memory_mib"]) * 2)]
    return f"{len(taken)} MiB"


def filled(directory: str, mib: int) -> str:
    with Path(directory, "filled").open("wb") as file:
        file.writelines(CHUNK for _ in range(mib))
    return f"{mib} MiB"


@probe
def shared_memory_bomb(world: World) -> str:
    return filled("/dev/shm", int(world["memory_mib"]) * 2)


@probe
def temporary_files_bomb(world: World) -> str:
    """In many files, since the size of one is limited."""
    for number in range(4):
        Path(f"/tmp/{number}").mkdir()
        filled(f"/tmp/{number}", int(world["disk_mib"]))
    time.sleep(MEASURED_S)
    return "four times its disk"


@probe
def disk_bomb(world: World) -> str:
    for number in range(4):
        Path(f"{number}").mkdir()
        filled(f"{number}", int(world["disk_mib"]))
    time.sleep(MEASURED_S)
    return "four times its disk"


@probe
def inode_bomb(world: World) -> str:
    """Empty files, which take no room but a place in the disk's table each."""
    for number in range(int(world["disk_mib"]) * 400):
        Path(f"{number}").touch()
    time.sleep(MEASURED_S)
    return "more files than its disk has room for"


@probe
def what_stays_behind(_: World) -> str:
    """A process that left its parents, its session and its standard streams, and ignores what it can."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(3):
                os.close(number)
            time.sleep(120)
        os._exit(0)
    return ""
