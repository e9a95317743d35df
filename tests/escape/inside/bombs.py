"""Ways to harm by taking too much. Each runs as a job of its own, beside a neighbour that must go on."""

import os
import subprocess
import sys
import time
from pathlib import Path

from inside.world import World, probe


@probe
def fork_bomb(world: World) -> str:
    """As many processes as there may be, and then some; all that live stay."""
    for _ in range(int(world["processes"]) + 200):
        if os.fork() == 0:
            time.sleep(120)
            os._exit(0)
    return "more than it may"
