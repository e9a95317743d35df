"""
Files of whoever submits: local inputs are uploaded to the queue's result backend, outputs become absolute.

Nothing is uploaded before the whole job was found good.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from runner.cli.output import say
from runner.cli.submission import SCHEME
from runner.errors import UsageError
from runner.units import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.cli.submission import Document
    from runner.job import Input, Job
    from runner.ports import Results

NAMED_MAX = 5
PLACEHOLDER = "upload:sha256/" + "0" * 64


class LocalInput(msgspec.Struct, frozen=True):
    """A local file or directory that stands behind the input of this index."""

    index: int
    path: Path


def is_local(url: object) -> bool:
    """Tell whether an input's or output's URL is a name in the file system."""
    return isinstance(url, str) and bool(url) and not SCHEME.match(url)


def add_upload(document: Document, directory: str) -> None:
    """Make a directory the job's workspace."""
    if not Path(directory).is_dir():
        raise UsageError(f"--upload {directory}: no such directory")
    inputs = document.setdefault("inputs", [])
    if isinstance(inputs, list):
        absolute = str(Path(directory).absolute())
        inputs.insert(0, {"url": absolute, "path": ".", "unpack": True, "mutable": True})


def take_local_inputs(document: Document, base: Path) -> list[LocalInput]:
    """
    Replace local names of inputs by a placeholder and return them; ``base`` is what relative names are relative to.

    Raises:
        UsageError: there is no such file.
    """
    found = []
    for index, item in enumerate(_tables(document, "inputs")):
        if is_local(item.get("url")):
            path = base / Path(str(item["url"])).expanduser()
            if not path.exists():
                raise UsageError(f"input {item['url']}: no such file or directory: {path}")
            found.append(LocalInput(index, path))
            item["url"] = PLACEHOLDER
            item["unpack"] = item.get("unpack", False) or path.is_dir()
            item.setdefault("path", path.resolve().name)
        elif isinstance(item.get("url"), str) and not item.get("path"):
            item["path"] = str(item["url"]).split("?")[0].rstrip("/").rpartition("/")[2]
    return found


def make_outputs_absolute(document: Document, base: Path) -> None:
    """Turn local names of outputs, also behind ``folder://``, into absolute ``folder://`` URLs."""
    for item in _tables(document, "outputs"):
        url = str(item.get("url") or "").removeprefix("folder://")
        if is_local(url) and not url.startswith("/"):
            item["url"] = f"folder://{(base / url).resolve()}" + ("/" if url.endswith(("/", ".")) else "")
        elif url.startswith("/"):
            item["url"] = f"folder://{url}"


def _tables(document: Document, field: str) -> list[dict[str, object]]:
    items = document.get(field)
    return (
        [cast("dict[str, object]", item) for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    )


async def upload(job: Job, local: list[LocalInput], results: Results) -> Job:
    """Put the local inputs into the result backend and return the job that names them there."""
    inputs: list[Input] = list(job.inputs)
    for item in local:
        url = await _upload_one(item.path, results)
        inputs[item.index] = msgspec.structs.replace(inputs[item.index], url=url)
    return msgspec.structs.replace(job, inputs=tuple(inputs))


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


async def _upload_one(path: Path, results: Results) -> str:
    with tempfile.TemporaryDirectory(prefix="runner-upload-") as scratch:
        return await results.put_upload(await asyncio.to_thread(_packed, path, Path(scratch)))


def _packed(path: Path, scratch: Path) -> str:
    """Tell the size, and return what to upload: the file itself, or the directory as one."""
    if not path.is_dir():
        say(f"uploading {path.name}, {format_size(path.stat().st_size)}")
        return str(path)
    from adapters.archives import measure, pack_directory

    size = measure(str(path))
    say(f"uploading {path.name}/, {size.files} files, {format_size(size.bytes)}")
    if size.left_out:
        say(f"left out, since a pack holds only files and directories: {_some(size.left_out)}")
    packed = str(scratch / "upload.tar.gz")
    pack_directory(str(path), packed)
    return packed
