"""Why a connection did not come about, in words: client libraries wrap what the system said. Pure."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl

_NUMBER = re.compile(r"\[?Errno (\d+)\]?")
_DEPTH_MAX = 10


def unreached(error: BaseException) -> str:
    """Say what an error, or the one that it wraps, means to whoever named the service; "" where nothing says it."""
    below: BaseException | None = error
    for _ in range(_DEPTH_MAX):
        if below is None:
            break
        if words := _words(below):
            return words
        below = below.__cause__ or below.__context__
    return ""


def _words(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return ""
        case ssl.SSLError() if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
            return "what listens there speaks no TLS"
        case ssl.SSLError():
            return ""
        case socket.gaierror():
            return "there is no host of this name"
        case OSError():
            return _of_system(error)
        case _:
            return ""


def _of_system(error: OSError) -> str:
    """Read the number out of the text where several addresses of one name were tried."""
    found = _NUMBER.search(str(error)) if error.errno is None else None
    number = int(found[1]) if found else error.errno
    match number:
        case None:
            return ""
        case errno.ECONNREFUSED:
            return "nothing listens there"
        case _:
            return os.strerror(number)
