"""
A host beyond the box, for tests of networks: answers HTTP and DNS on all addresses of its network namespace.

`GET /to?URL` redirects; everything else is answered with the address that was reached. It says `ready` on stdout.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

HTTP_PORT = 80
DNS_PORT = 53


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, target = self.path.partition("?")
        self.send_response(302 if path == "/to" else 200)
        if path == "/to":
            self.send_header("Location", unquote(target))
        self.end_headers()
        self.wfile.write(f"reached {self.connection.getsockname()[0]}".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


def _answer_names(names: dict[str, str]) -> None:
    """Answer each question for an IPv4 address; a name that is not known has none."""
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.bind(("0.0.0.0", DNS_PORT))
    while True:
        question, sender = asked.recvfrom(512)
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += question[at] + 1
        kind = struct.unpack(">H", question[at + 1 : at + 3])[0]
        address = names.get(".".join(labels)) if kind == 1 else None
        head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, 1 if address else 0, 0, 0)
        record = b""
        if address:
            record = struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4) + ipaddress.IPv4Address(address).packed
        asked.sendto(head + question[12 : at + 5] + record, sender)


def main(arguments: list[str]) -> None:
    """Serve until killed; arguments are `NAME=ADDRESS`."""
    names = dict(argument.split("=", 1) for argument in arguments)
    threading.Thread(target=_answer_names, args=(names,), daemon=True).start()
    server = _Server(("::", HTTP_PORT), _Answer)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
