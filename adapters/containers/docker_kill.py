"""
Ends the processes of a container whose engine does not answer: by the pid of their first one, as the kernel knows it.

Possible for a runner that is root beside its engine; anywhere else nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def send(number: signal.Signals, pid: int, container_id: str) -> bool:
    """
    Send a signal to a container's first process; its init passes it on, and SIGKILL ends all with it.

    False: it is gone, somebody else's by now, or out of reach.
    """
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            # Asked with the pidfd open: what is the container's now cannot become another's before the signal.
            if container_id in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii"):
                signal.pidfd_send_signal(process, number)
                return True
        finally:
            os.close(process)
    return False
