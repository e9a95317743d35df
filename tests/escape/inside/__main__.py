"""
Runs probes one after another, each in a process of its own, and says a JSON line for each.

    python3 probes.pyz WORLD.json [NAME …]
"""

import json
import os
import signal
import sys
from pathlib import Path

from tests.escape.inside import bombs, files, kernel, mounts, network, processes
from tests.escape.inside.world import PROGRAMS, NotTriedError, World

LIMIT_S = 40
MODULES = (mounts, kernel, processes, files, network, bombs)


def tried(name: str, world: World) -> dict[str, str]:
    """Try one, and say what became of it: ``open`` or ``held``, ``untried``, or ``broken`` where it is at fault."""
    try:
        got = PROGRAMS[name](world)
    except NotTriedError as reason:
        return {"verdict": "untried", "why": str(reason)}
    except OSError as refusal:
        return {"verdict": "held", "why": str(refusal)}
    except Exception as error:  # noqa: BLE001 - a probe that fails by itself shows nothing
        return {"verdict": "broken", "why": repr(error)}
    return {"verdict": "open", "why": got} if got else {"verdict": "held", "why": "it got nothing"}


def tried_apart(name: str, world: World) -> dict[str, str]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(LIMIT_S)
        os.write(writer, json.dumps(tried(name, world)).encode() + b"\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        # Not to its end: what a bomb leaves holds it open.
        answer = told.readline()
    _, status = os.waitpid(pid, 0)
    if answer:
        return dict(json.loads(answer))
    number = os.WTERMSIG(status)
    return {"verdict": "broken" if number == signal.SIGALRM else "held", "why": f"it was ended by signal {number}"}


def main(world_file: str, *names: str) -> None:
    # Before anything of this program's own is open.
    left = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]  # noqa: PTH110, PTH208
    world = {**json.loads(Path(world_file).read_text()), "descriptors": " ".join(left)}
    for name in names or PROGRAMS:
        print(json.dumps({"probe": name, **tried_apart(name, world)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
