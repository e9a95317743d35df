"""
Which queue and which result backend a command's options mean, as a credential. Reads at most one file; opens nothing.

A URL may hold a user and a password. They go into the credential's secrets, and no sentence here repeats them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from runner.cli import paths
from runner.cli.output import masked
from runner.cli.parser import nearest
from runner.credential import Credential, Rights
from runner.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from runner.secret import Secret

T = TypeVar("T")
NONE: Mapping[str, Secret] = MappingProxyType({})

WRITE = "write folder:///path, redis://host:6379/0?queue=NAME, amqp://host/vhost?queue=NAME or sqs://region/NAME"
WRITE_RESULTS = "write folder:///path or redis://host:6379/0"
CREDENTIAL_MAX_BYTES = 1 << 20


class Place(msgspec.Struct, frozen=True):
    """
    A queue as a command means it; ``url`` may be printed, ``own`` says that it is the box's own.

    ``queue`` is empty where nothing names one of several behind a service; ``file`` is the credential file, if any.
    """

    url: str
    credential: Credential
    queue: str = ""
    own: bool = False
    file: str = ""

    @property
    def typed(self) -> str:
        """The option that named it."""
        return f"--credential {self.file}" if self.file else f"--queue {self.url}"

    def option(self, queue: str) -> str:
        """Return what to type for another queue behind the same service."""
        return f"{self.typed} --queue {queue}" if self.file else f"--queue {self.with_name(queue).url}"

    def with_name(self, queue: str) -> Place:
        """Return the place of another queue behind the same service, "" for that of them all."""
        url = self.credential.url.partition("?")[0]
        if self.credential.kind == "sqs":
            url = f"{url.rpartition('/')[0]}/{queue}"
        elif queue:
            url = f"{url}?queue={quote(queue)}"
        return Place(url, msgspec.structs.replace(self.credential, url=url), queue, file=self.file)

    @property
    def root(self) -> Path | None:
        """The directory of a folder queue."""
        from adapters.folder_urls import queue_location

        return Path(queue_location(self.credential.url)[0]) if self.credential.kind == "folder" else None


def means_box(args: argparse.Namespace) -> bool:
    """Tell whether no queue is named, so that the box is meant."""
    return not (args.queue or getattr(args, "credential", None))


def same_place(args: argparse.Namespace) -> list[str]:
    """Return the options that name the queue of a command again, for a command to type next; none for the box's own."""
    named = ("queue", "credential", "results")
    return [f"--{name}={masked(value)}" for name in named if (value := getattr(args, name, None))]


def find_place(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Place:
    """
    Return the queue that the options name, else the box's own; nothing is made.

    Raises:
        UsageError: an option cannot be used, or names several queues.
    """
    file, queue = getattr(args, "credential", None), args.queue or ""
    if file and args.results:
        raise UsageError("--results: the credential file says it: write results there, or name the queue by its URL")
    if args.results and not queue:
        raise UsageError("--results: it is of a queue that is named, too: add --queue URL")
    if file:
        return _of_file(Path(file), "" if queue == environ.get("RUNNER_QUEUE") else queue)
    if queue:
        return _named(queue, args.results or environ.get("RUNNER_RESULTS") or "", environ)
    return _folder("--queue", paths.own_queue(paths.state_dir(args)), Rights(), own=True)


def _named(url: str, results: str, environ: Mapping[str, str]) -> Place:
    kind, results_kind = _kind("--queue", url), _results_kind(results) if results else "folder"
    if kind == results_kind == "folder":
        return _folder("--queue", url, Rights(results=results))
    credential = _read(f"--queue {_shown(url)}", _document(kind, url, results, environ))
    if kind == "folder":
        return _folder("--queue", url, credential.rights, secrets=credential.secrets)
    return Place(credential.url, credential, _queue_of(credential))


def _shown(url: str) -> str:
    """Hide all up to the last ``@``: in a URL that is none of ours a password may stand anywhere before it."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if found and "@" in rest else url


def _kind(option: str, url: str) -> str:
    from adapters.credential_urls import KINDS

    scheme = url.partition(":")[0].lower() if ":" in url else ""
    if scheme in KINDS:
        return KINDS[scheme]
    if not scheme:
        raise UsageError(f"{option} {_shown(url)}: a queue has a kind; {WRITE}")
    raise UsageError(f"{option} {_shown(url)}: no such kind of queue: {scheme}{nearest(scheme, KINDS)}; {WRITE}")


def _results_kind(url: str) -> str:
    from adapters.credential_urls import KINDS

    kind = KINDS.get(url.partition(":")[0].lower(), "") if ":" in url else ""
    if kind in {"folder", "redis"}:
        return kind
    raise UsageError(f"--results {_shown(url)}: results are kept in a folder or in Redis; {WRITE_RESULTS}")


def _document(kind: str, url: str, results: str, environ: Mapping[str, str]) -> bytes:
    """Write what was typed as a credential file, so that there is one reader of both."""
    username, _, password = url.partition("://")[2].partition("/")[0].rpartition("@")[0].partition(":")
    lines = {"kind": kind, "url": url, "results": results}
    if kind in {"redis", "rabbitmq"}:
        lines["username"] = "" if username else environ.get("RUNNER_QUEUE_USERNAME", "")
        lines["password"] = "" if password else environ.get("RUNNER_QUEUE_PASSWORD", "")
    return "".join(f"{key} = {_toml(text)}\n" for key, text in lines.items() if text).encode("utf-8", "surrogateescape")


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _of_file(path: Path, queue: str) -> Place:
    """Read a credential file; ``queue`` names one of the queues behind it, "" the only one."""
    if ":" in queue:
        raise UsageError(f"--queue {_shown(queue)}: beside --credential it is the name of a queue, not a URL")
    credential = _read(f"--credential {path}", *_bytes_of(path))
    if credential.kind == "folder":
        url = _with_queue(credential.url, queue)
        return _folder(f"--credential {path}: url", url, credential.rights, secrets=credential.secrets)
    return Place(credential.url, credential, queue or _queue_of(credential), file=str(path))


def _bytes_of(path: Path) -> tuple[bytes, tuple[bytes, ...]]:
    """Read a credential file, and what stands beside it and belongs to it."""
    from adapters.credential_files import is_companion, uses_companions

    try:
        data = _limited(path)
        wanted = uses_companions(data)
        beside = [_limited(it) for it in sorted(path.parent.iterdir()) if it.is_file()] if wanted else []
    except OSError as error:
        raise UsageError(f"--credential {path}: {error.strerror}; name a credential file") from error
    return data, tuple(it for it in beside if is_companion(it))


def _limited(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(CREDENTIAL_MAX_BYTES)


def _read(what: str, data: bytes, beside: tuple[bytes, ...] = ()) -> Credential:
    from adapters.credential_files import read_credential
    from adapters.unusable import Unusable

    try:
        return read_credential(data, beside)
    except Unusable as error:
        raise UsageError(f"{what}: {error}") from None


def _queue_of(credential: Credential) -> str:
    """Return the queue that a URL names, "" where it names none."""
    parts = urlsplit(credential.url)
    if credential.kind == "sqs":
        name = parts.path.strip("/")
        return "" if name.endswith("*") else name
    return dict(parse_qsl(parts.query)).get("queue", "")


def _with_queue(url: str, name: str) -> str:
    return f"{url.partition('?')[0]}?queue={quote(name)}" if name else url


def _folder(option: str, url: str, rights: Rights, *, secrets: Mapping[str, Secret] = NONE, own: bool = False) -> Place:
    """Find the one directory that is meant, so that everybody who opens it opens that one."""
    from adapters.folder_urls import folder_url, queue_location, results_directory
    from adapters.queues.folder_layout import is_queue, queues_in

    root, single = _checked(option, url, queue_location)
    if rights.results.startswith("folder:"):
        _checked("--results", rights.results, lambda text: results_directory(text, "any"))
    found = () if single or is_queue(root) or not os.path.isdir(root) else queues_in(root)  # noqa: PTH112 - one of its own
    if len(found) > 1:
        example = f"{folder_url(root)}?queue={quote(found[0])}" if option == "--queue" else found[0]
        raise_several(f"{option} {url}", f"--queue {example}", len(found))
    root = os.path.join(root, found[0]) if found else root  # noqa: PTH118 - any bytes
    rights = msgspec.structs.replace(rights, own=True)  # this one directory, whatever stands around it
    credential = Credential("folder", folder_url(root), rights, secrets=dict(secrets))
    return Place(url, credential, Path(root).name, own=own)


def raise_several(what: str, example: str, count: int) -> NoReturn:
    """
    Refuse to guess which queue is meant.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{what}: there are {count} queues; name one, like {example}")


def _checked(option: str, url: str, read: Callable[[str], T]) -> T:
    try:
        return read(url)
    except ConfigurationError as error:
        raise UsageError(f"{option}: {error}") from error
