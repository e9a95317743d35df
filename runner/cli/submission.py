"""
What `submit` was given, as one document: the job file, the options over it, and what is filled in.

Pure but for reading the file. The document is checked by the dialect that the runner decodes it with.
"""

from __future__ import annotations

import argparse
import getpass
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from runner.errors import UsageError
from runner.job import MESSAGE_MAX_BYTES
from runner.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.cli.parser import Parser
    from runner.job import Job

    Document = dict[str, object]

ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
ID_LENGTH = 8
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def text_of(check: Callable[[object], object]) -> Callable[[str], str]:
    """Make a converter of an option that keeps the text once it can be read."""

    def convert(text: str) -> str:
        try:
            check(int(text) if text.isdigit() else text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text

    return convert


def number(text: str) -> float:
    """Read a count that may be a fraction."""
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number: write 1 or 0.5") from None


def whole(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def pair(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value


def input_pair(text: str) -> dict[str, object]:
    """Read ``[PATH=]URL``; an equals sign within a URL or a local name is its own."""
    path, equals, url = text.partition("=")
    if not equals or "://" in path or path.startswith((".", "/", "~")):
        path, url = "", text
    return {"url": url, "path": path} if path else {"url": url}


def output_pair(text: str) -> dict[str, object]:
    """Read ``PATH[=URL]``; without a URL it is stored below the current directory, by the job's id."""
    path, _, url = text.partition("=")
    return {"path": path, "url": url or "./"}


DURATION, SIZE = text_of(parse_duration), text_of(parse_size)
FIELDS: dict[str, tuple[str, Callable[[str], object], str]] = {
    "id": ("TEXT", str, "the job's id; absent: readable and unique"),
    "name": ("TEXT", str, "what people call it"),
    "user": ("TEXT", str, "whose it is; absent: who is logged in"),
    "image": ("NAME", str, "the container image"),
    "timeout": ("DURATION", DURATION, "wall time of one attempt"),
    "expires": ("DURATION", DURATION, "from submission, over all attempts"),
    "silent-for": ("DURATION", DURATION, "no output for so long ends it"),
    "stop-grace": ("DURATION", DURATION, "from SIGTERM to SIGKILL"),
    "retries": ("N", whole, "more attempts after a failure of the job itself"),
    "priority": ("N", whole, "higher first"),
    "exclusive": ("no|gpu|box", str, "cores of its own, or alone on the machine"),
    "network": ("NAME", str, "a network of the queue's policy"),
    "continue-from": ("KEY", str, "an ended job whose workspace this one starts with"),
}
RESOURCES: dict[str, tuple[str, Callable[[str], object], str]] = {
    "gpus": ("N", number, "GPUs"),
    "gpu-memory": ("SIZE", SIZE, "memory of each GPU, at least"),
    "gpu-model": ("TEXT", str, "which GPU"),
    "cpus": ("N", number, "cores"),
    "memory": ("SIZE", SIZE, "memory"),
    "disk": ("SIZE", SIZE, "disk of the workspace"),
    "shm": ("SIZE", SIZE, "shared memory"),
    "nodes": ("N", whole, "machines"),
}
LISTS: dict[str, tuple[str, str, Callable[[str], object], str]] = {
    "env": ("env", "NAME=VALUE", pair, "a variable; again for more"),
    "requires": ("requires", "LABEL=VALUE", pair, "a label that the box must have; again for more"),
    "secret": ("secrets", "NAME", str, "a secret of the queue; again for more"),
    "capability": ("capabilities", "NAME", str, "a capability of the queue's policy; again for more"),
    "mount": ("mounts", "NAME", str, "a mount of the queue's policy; again for more"),
    "input": ("inputs", "[PATH=]URL", input_pair, "a URL, or ./file or ./directory here; again for more"),
    "output": ("outputs", "PATH[=URL]", output_pair, "a file or directory to store; again for more"),
}


def add_fields(parser: Parser) -> None:
    """Add an option for each simple field of a job."""
    group = parser.add_argument_group("the job", "fields of the job file; an option wins over the file")
    for name, (metavar, kind, about) in {**FIELDS, **RESOURCES}.items():
        group.add_argument(f"--{name}", metavar=metavar, type=kind, default=None, help=about)
    for name, (_, metavar, kind, about) in LISTS.items():
        group.add_argument(f"--{name}", dest=f"{name}_list", metavar=metavar, type=kind, action="append", help=about)


def read_document(file: str | None) -> Document:
    """
    Read a job file, ``-`` from standard input; none gives an empty document.

    Raises:
        UsageError: it is not there, or is no TOML or JSON table; names the place.
    """
    from adapters.wire.document import Unreadable, read

    if file is None:
        return {}
    try:
        document = read(_body(file))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; name a job file, or give a command after --") from error
    except Unreadable as error:
        raise UsageError(f"{told_name(file)}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{told_name(file)}: a job is a table of fields, not a list or a single value")
    return cast("Document", document)


def _body(file: str) -> bytes:
    """Read a byte more than a message may have, so that what is too large is found, however large."""
    if file == "-":
        return sys.stdin.buffer.read(MESSAGE_MAX_BYTES + 1)
    with Path(file).open("rb") as opened:
        return opened.read(MESSAGE_MAX_BYTES + 1)


def told_name(file: str | None) -> str:
    """Return what a document is called in messages."""
    return {None: "the job", "-": "standard input"}.get(file, str(file))


def apply_options(document: Document, args: argparse.Namespace) -> None:
    """Write options over the document, and a command over its command or steps."""
    for name in FIELDS:
        _set(document, name, getattr(args, name.replace("-", "_")))
    resources = document.setdefault("resources", {})
    for name in RESOURCES:
        if isinstance(resources, dict):
            _set(resources, name, getattr(args, name.replace("-", "_")))
    for name, (field, *_) in LISTS.items():
        _extend(document, field, getattr(args, f"{name}_list") or ())
    if args.words is not None:
        document.pop("steps", None)
        document["command"] = list(args.words)


def _set(document: Document, name: str, value: object) -> None:
    if value is not None:
        document[name.replace("-", "_")] = value


def _extend(document: Document, field: str, values: Sequence[object]) -> None:
    """Add to a table or a list; what is neither is left for the dialect to name."""
    if not values:
        return
    if field in {"env", "requires"}:
        table = document.setdefault(field, {})
        if isinstance(table, dict):
            table.update(cast("Sequence[tuple[str, str]]", values))
        return
    listed = document.setdefault(field, [])
    if isinstance(listed, list):
        listed.extend(values)


def fill_in(document: Document) -> None:
    """Set the user and a readable, unique id where they are absent."""
    if not document.get("user"):
        document["user"] = _login_name()
    if not document.get("id"):
        document["id"] = new_id(_called(document))


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _called(document: Document) -> str:
    command = document.get("command")
    first = command[0] if isinstance(command, list) and command else "job"
    return str(document.get("name") or Path(str(first)).name or "job")


def new_id(called: str) -> str:
    """Return a fresh id that begins with what the job is called."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", called).strip("-._")[:40] or "job"
    return f"{readable}-{''.join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))}"


def checked(document: Document, called: str) -> Job:
    """
    Return the job, decoded as the runner will.

    Raises:
        UsageError: a field that cannot be used, or a job without a command; names it and what to write.
    """
    import json

    from adapters.wire.native import decode

    found = decode(json.dumps(document, default=str).encode())
    if found.problem:
        raise UsageError(f"{called}: {found.problem}")
    return found.job
