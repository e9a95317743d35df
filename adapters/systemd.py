"""
What systemd hears of a service of ``Type=notify``: lines of text in one datagram each, as sd_notify(3) says.

Outside of such a service nobody listens, and nothing is sent. Never waits: a message that finds no room is dropped, and
the next one tells the same.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Systemd:
    """
    The way to the service manager that started this process (the ``ServiceManager`` port).

    ``watchdog_s`` is how long it waits for a sign of life before it ends the process; None: for ever.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Read who listens, and how often it wants to hear."""
        path = environ.get("NOTIFY_SOCKET", "")
        # Another kind of address, as of a virtual machine's host, is for programs that run there alone.
        self._address = f"\0{path[1:]}" if path.startswith("@") else path if path.startswith("/") else None
        self._socket: socket.socket | None = None
        self.watchdog_s = _watchdog_s(environ) if self._address else None

    def tell(self, **facts: object) -> None:
        """Send facts by their names in lower case, like ``ready=1``, ``status="serving"``."""
        if self._address is None:
            return
        text = "\n".join(f"{name.upper()}={value}" for name, value in facts.items())
        try:
            self._opened().sendto(text.encode(), self._address)
        except OSError as error:
            facts = {"action": "notify", "told": text, "reason": str(error)}
            logger.warning("the service manager was not told", extra=facts)

    def close(self) -> None:
        """Let go; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0)
        return self._socket


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return the time that this very process was given; a child inherits variables that are not meant for it."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() and int(text) > 0 else None
