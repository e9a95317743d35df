"""Ways to other processes: the runner, the jobs beside, whatever runs on the box."""

import ctypes
import errno
import os
from pathlib import Path

from tests.escape.inside.world import World, call, probe

PTRACE, READ_MEMORY, PIDFD_OPEN, PIDFD_GETFD = (101, 117), (310, 270), (434, 434), (438, 438)
SEIZE = 0x4206


def both(world: World) -> tuple[int, int]:
    return int(world["neighbour_pid"]), int(world["runner_pid"])


def read_process(pid: str, name: str, wanted: str) -> str:
    return name if wanted.encode() in Path(f"/proc/{pid}/{name}").read_bytes() else ""


@probe
def environ_of_the_runner(world: World) -> str:
    return read_process(world["runner_pid"], "environ", world["secret"])


@probe
def environ_of_a_neighbour(world: World) -> str:
    return read_process(world["neighbour_pid"], "environ", world["neighbour_secret"])


@probe
def command_lines(world: World) -> str:
    """What others were called with; secrets often stand there."""
    return read_process(world["runner_pid"], "cmdline", "runner")


@probe
def memory_of_the_runner(world: World) -> str:
    os.close(os.open(f"/proc/{world['runner_pid']}/mem", os.O_RDWR))
    return "reads and writes"


@probe
def memory_of_a_neighbour(world: World) -> str:
    os.close(os.open(f"/proc/{world['neighbour_pid']}/mem", os.O_RDWR))
    return "reads and writes"


@probe
def read_memory_by_call(world: World) -> str:
    place = (ctypes.c_uint64 * 2)(1, 1)
    try:
        call(READ_MEMORY, both(world)[0], place, 1, place, 1, 0)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
    return "its memory"


@probe
def trace_a_neighbour(world: World) -> str:
    call(PTRACE, SEIZE, both(world)[0], 0, 0)
    return "stops it, changes it"


@probe
def trace_the_runner(world: World) -> str:
    call(PTRACE, SEIZE, both(world)[1], 0, 0)
    return "stops it, changes it"


@probe
def descriptor_of_a_neighbour(world: World) -> str:
    return f"descriptor {call(PIDFD_GETFD, call(PIDFD_OPEN, both(world)[0], 0), 0, 0)}"


@probe
def signal_a_neighbour(world: World) -> str:
    os.kill(both(world)[0], 0)
    return "could end it"


@probe
def signal_the_runner(world: World) -> str:
    os.kill(both(world)[1], 0)
    return "could end it"


@probe
def slow_a_neighbour_down(world: World) -> str:
    os.sched_setaffinity(both(world)[0], os.sched_getaffinity(both(world)[0]))
    return "could move it to one core"


@probe
def root_of_a_neighbour(world: World) -> str:
    return ", ".join(path.name for path in Path(f"/proc/{world['neighbour_pid']}/cwd/").iterdir())


@probe
def files_by_the_first_process(world: World) -> str:
    """Whoever sees the first process of the box may see its root."""
    return read_process("1", f"root{world['private']}", world["secret"])
