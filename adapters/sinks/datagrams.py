"""Datagrams to a service of this box or elsewhere; blocking, each bounded. What is too large for one goes by memfd."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
from contextlib import suppress

from adapters.files import write_all
from runner.errors import ConfigurationError, RunnerError, Unavailable

SEND_S = 5.0
SEALS = fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
DOING = "send log"


class Datagrams:
    """Sends to one socket, which is connected at the first call and anew after each failure."""

    def __init__(self, path: str = "", host: str = "", port: int = 0) -> None:
        """Name the path of a socket of this box, or a host and a port."""
        self._path = path
        self._address = (host, port)
        self._name = path or f"{host}:{port}"
        self._socket: socket.socket | None = None

    def send(self, data: bytes) -> None:
        """
        Send one datagram.

        Raises:
            Unavailable: nobody takes it, or not in time; nothing tells whether a host elsewhere took it.
            ConfigurationError: this user may not.
        """
        try:
            self._send(data)
        except OSError as error:
            self.close()
            raise self._explained(error) from error

    def close(self) -> None:
        """Close the socket; the next call opens one."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def _send(self, data: bytes) -> None:
        opened = self._socket = self._socket or self._connected()
        try:
            opened.send(data)
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS} or not self._path:
                raise
            _send_as_file(opened, data)
        if refused := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(refused, os.strerror(refused))

    def _connected(self) -> socket.socket:
        if self._path:
            return _connected(socket.AF_UNIX, self._path)
        family, _, _, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        return _connected(family, address)

    def _explained(self, error: OSError) -> RunnerError:
        said = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        if isinstance(error, PermissionError):
            return ConfigurationError(f"{DOING}: {self._name}: {said}: this user may not write there")
        return Unavailable(f"{DOING}: {self._name}: {said}: check that it runs and can be reached")


def _connected(family: int, address: object) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        opened.settimeout(SEND_S)
        opened.connect(address)  # type: ignore[arg-type]  # of the family
    except OSError:
        opened.close()
        raise
    return opened


def _send_as_file(opened: socket.socket, data: bytes) -> None:
    """Hand a sealed file over instead, as journald wants it."""
    fd = os.memfd_create("log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        write_all(fd, data)
        fcntl.fcntl(fd, *SEALS)
        opened.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    finally:
        with suppress(OSError):
            os.close(fd)
