"""The address that ``listen`` names."""

from __future__ import annotations

import ipaddress
import re

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+)|(?P<name>localhost))?:(?P<port>[0-9]{1,5})")
PORT_MAX = 65535


def parse_address(text: str) -> tuple[str, int]:
    """
    Return an address as a number, "" for every one of this machine, and a port, 0 for any that is free.

    Raises:
        ValueError: it is none; the text says what to write.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > PORT_MAX:
        raise ValueError(f"{text!r} is no address to listen at: write 127.0.0.1:8080, [::1]:8080 or :8080")
    host = "127.0.0.1" if found["name"] else found["six"] or found["four"] or ""
    try:
        return str(ipaddress.ip_address(host)) if host else "", int(found["port"])
    except ValueError as error:
        raise ValueError(f"{text!r} is no address to listen at: {error}") from error
