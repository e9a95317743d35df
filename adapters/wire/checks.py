"""
What a well-formed job may still say wrongly: each check names the field, what is wrong, and what to write.

Pure. The order is that of the reference, so the first sentence is about the first field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from adapters.shape import nearest, quoted
from runner.job import ID_PATTERN, TEXT_INPUT_MAX_BYTES, Build, Input, Job, Output
from runner.unserved import not_served

LATER_SCHEMES = ("s3", "https", "http", "gs")
RETRIES_MAX = 100
PRIORITY_MAX = 1_000_000
SIZE_MAX_BYTES = 1 << 60
MEMORY_MIN_BYTES = 1 << 20
DURATION_MAX_S = 366 * 86400
ARGUMENT_MAX_BYTES = 131_071
"""Linux starts no process with a longer argument or variable (MAX_ARG_STRLEN)."""
STEPS_MAX = 1000
PATH_MAX_BYTES = 4000
LABEL_MAX_CHARACTERS = 256

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_UPLOAD = re.compile(r"upload:sha256/[0-9a-f]{64}")
_PUSHED = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:\w[\w.-]{0,127})?", re.ASCII)
_FOLDER = "folder://"

Problems = Iterator[str]


def problem_with(job: Job) -> str:
    """Return the first thing wrong with a job that fits the struct, or the empty text."""
    checks: tuple[Callable[[Job], Problems], ...] = (
        _id, _texts, _labels, _command, _steps, _durations, _counts, _env, _sizes, _inputs, _outputs, _unserved,
    )  # fmt: skip
    return next((problem for check in checks for problem in check(job)), "")


def _id(job: Job) -> Problems:
    if job.id and not ID_PATTERN.fullmatch(job.id):
        yield (
            f"id {quoted(job.id)} must be 1 to 128 letters, digits, dots, underscores or dashes, "
            "and begin with a letter or digit"
        )


def _texts(job: Job) -> Problems:
    """NUL ends a text for the kernel, and half a surrogate pair cannot be written anywhere."""
    for where, text in _all_texts(job):
        if "\0" in text:
            yield f"{where} holds a NUL byte: take it out"
        if _is_torn(text):
            yield f"{where} holds half of a surrogate pair, which is no character: take it out"


def _is_torn(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _all_texts(job: Job) -> Iterator[tuple[str, str]]:
    """Give every text of a job with the name of its field; the key of a table stands under the table's name."""
    yield from (("name", job.name), ("user", job.user), ("image", job.image), ("network", job.network))
    for name in ("command", "capabilities", "mounts", "secrets"):
        yield from ((f"{name}[{index}]", text) for index, text in enumerate(getattr(job, name)))
    yield from ((f"steps[{index}]", text) for index, step in enumerate(job.steps) for text in step)
    if job.build is not None:
        yield from ((f"build.{name}", getattr(job.build, name)) for name in ("path", "dockerfile", "push"))
    for table, name in ((job.env, "env"), (job.requires, "requires")):
        yield from ((name, key) for key in table)
        yield from ((f"{name}.{key}", text) for key, text in table.items())
    for index, item in enumerate(job.inputs):
        yield from ((f"inputs[{index}].path", item.path), (f"inputs[{index}].url", item.url))
        yield f"inputs[{index}].text", item.text or ""
    for index, output in enumerate(job.outputs):
        yield from ((f"outputs[{index}].{name}", getattr(output, name)) for name in ("path", "url", "key"))


def _labels(job: Job) -> Problems:
    labels = ("name", job.name), ("user", job.user), ("image", job.image)
    for where, text in labels:
        if len(text) > LABEL_MAX_CHARACTERS:
            yield f"{where} is longer than {LABEL_MAX_CHARACTERS} characters: shorten it"
        if not text.isprintable():
            yield f"{where} {quoted(text)} holds control characters: take them out"
    if job.build is not None:
        yield from _build(job, job.build)
    if " " in job.image:
        yield f'image {quoted(job.image)} holds a space: write a name like "python:3.12-slim"'


def _build(job: Job, build: Build) -> Problems:
    if job.image:
        yield "image and build exclude each other: keep one of them"
    for where, path in (("path", build.path), ("dockerfile", build.dockerfile)):
        if problem := path_problem(path):
            yield f"build.{where} {problem}"
    if _is_root(build.dockerfile):
        yield f"build.dockerfile {quoted(build.dockerfile)} is a directory: name a file below build.path"
    if build.push and not _PUSHED.fullmatch(build.push):
        yield f"build.push {quoted(build.push)} names no place for an image: write HOST/PATH:TAG"


def _command(job: Job) -> Problems:
    if job.command and job.steps:
        yield "command and steps exclude each other: keep one of them"
    if not (job.command or job.steps or job.image or job.build):
        yield 'command is missing: write command = ["program", "argument"], or an image that brings its own'
    if job.command and not job.command[0]:
        yield "command[0] is empty: name the program to run"
    yield from _too_long("command", job.command)


def _steps(job: Job) -> Problems:
    if job.keep_going and not job.steps:
        yield "keep_going is for a job with steps: leave it out"
    if len(job.steps) > STEPS_MAX:
        yield f"steps are more than {STEPS_MAX}: put them into a script"
    for index, step in enumerate(job.steps):
        if not step or not step[0]:
            yield f'steps[{index}] is empty: write it as ["program", "argument"]'
        yield from _too_long(f"steps[{index}]", step)


def _too_long(where: str, words: tuple[str, ...]) -> Problems:
    for index, argument in enumerate(words):
        if len(argument.encode()) > ARGUMENT_MAX_BYTES:
            yield f"{where}[{index}] is longer than {ARGUMENT_MAX_BYTES} bytes: hand it over as a text input"


def _durations(job: Job) -> Problems:
    named = ("timeout", job.timeout), ("expires", job.expires), ("silent_for", job.silent_for)
    for where, seconds in named:
        if seconds is not None and seconds <= 0:
            yield f"{where} must be longer than 0"
    for where, seconds in (*named, ("stop_grace", job.stop_grace)):
        if seconds is not None and not 0 <= seconds <= DURATION_MAX_S:
            yield f"{where} must be at most 366d"


def _counts(job: Job) -> Problems:
    if not 0 <= job.retries <= RETRIES_MAX:
        yield f"retries must be 0 to {RETRIES_MAX}, not {_number(job.retries)}"
    if abs(job.priority) > PRIORITY_MAX:
        yield f"priority must be -{PRIORITY_MAX} to {PRIORITY_MAX}, not {_number(job.priority)}"


def _number(value: float) -> str:
    return "a huge number" if abs(value) >= SIZE_MAX_BYTES else f"{value:g}"


def _env(job: Job) -> Problems:
    for name, value in job.env.items():
        if not _ENV_NAME.fullmatch(name):
            yield f"env {quoted(name)} is no name of a variable: write letters, digits and underscores, no digit first"
        if len(name.encode()) + len(value.encode()) >= ARGUMENT_MAX_BYTES:
            yield f"env.{name[:60]} is longer than {ARGUMENT_MAX_BYTES} bytes: hand it over as a text input"


def _sizes(job: Job) -> Problems:
    wanted = job.resources
    if not 0 <= wanted.gpus <= 1 << 20:
        yield f"resources.gpus must be 0 or more, not {_number(wanted.gpus)}"
    if not 0 < wanted.cpus <= 1 << 20:
        yield f"resources.cpus must be more than 0, not {_number(wanted.cpus)}"
    if not 1 <= wanted.nodes <= 1 << 20:
        yield f"resources.nodes must be 1 or more, not {_number(wanted.nodes)}"
    for name in ("gpu_memory", "memory", "disk", "shm"):
        size = getattr(wanted, name)
        if size is not None and not 0 < size <= SIZE_MAX_BYTES:
            yield f"resources.{name} must be more than 0 and at most 1 EiB; write 4GiB or the like"
        elif name == "memory" and size is not None and size < MEMORY_MIN_BYTES:
            yield "resources.memory must be at least 1MiB, without which no program starts; write 4GiB or the like"


def path_problem(path: str) -> str:
    """Return what keeps a path from being a place in the workspace; ``.`` is the workspace itself."""
    if not path:
        return "is missing: name a place in the workspace"
    if path.startswith("/"):
        return f"{quoted(path)} must be relative to the workspace: leave the first / away"
    if ".." in path.split("/"):
        return f"{quoted(path)} would leave the workspace: write it without .."
    if len(path.encode()) > PATH_MAX_BYTES or any(len(part.encode()) > 255 for part in path.split("/")):  # noqa: PLR2004 - NAME_MAX
        return "is too long for a file system"
    return "" if path.isprintable() else f"{quoted(path)} holds control characters: take them out"


def _inputs(job: Job) -> Problems:
    seen: set[str] = set()
    for index, item in enumerate(job.inputs):
        where = f"inputs[{index}]"
        if problem := path_problem(item.path):
            yield f"{where}.path {problem}"
        yield from _input(item, where)
        yield from _repeated(item.path, seen, where)


def _input(item: Input, where: str) -> Problems:
    if bool(item.url) == (item.text is not None):
        yield f"{where} needs exactly one of url and text"
    if item.text is not None and len(item.text.encode()) > TEXT_INPUT_MAX_BYTES:
        yield f"{where}.text is over 256 KiB: put it into a store and name its url"
    if item.text is not None and item.unpack:
        yield f"{where}.unpack needs a url: a text is no archive"
    if item.sha256 and not _SHA256.fullmatch(item.sha256):
        yield f"{where}.sha256 must be 64 hexadecimal digits"
    if _is_root(item.path) and not item.unpack:
        yield f"{where}.path {quoted(item.path)} is the workspace itself: only an archive with unpack = true goes there"
    if item.url and (problem := url_problem(item.url, readable=True)):
        yield f"{where}.url {problem}"


def _repeated(path: str, seen: set[str], where: str) -> Problems:
    place = "/".join(part for part in path.split("/") if part not in ("", "."))
    if place in seen:
        yield f"{where}.path {quoted(path)} is taken by an earlier one: write another place"
    seen.add(place)


def _is_root(path: str) -> bool:
    return bool(path) and all(part in ("", ".") for part in path.split("/"))


def url_problem(url: str, *, readable: bool) -> str:
    """Return why a URL cannot be served; uploads can be read only."""
    scheme = _SCHEME.match(url)
    name = scheme[1].lower() if scheme else ""
    match name:
        case "":
            return (
                f"{quoted(url)} is a path on the machine that submits: submit packs it; in a message write folder:///…"
            )
        case "folder":
            return _folder_problem(url)
        case "upload" if readable:
            return "" if _UPLOAD.fullmatch(url) else f"{quoted(url)} must be upload:sha256/ and 64 hexadecimal digits"
        case "upload":
            return f"{quoted(url)}: uploads are only read; write folder:///…"
        case _ if name in LATER_SCHEMES:
            return f"{quoted(url)} is not served yet: this runner reads and writes folder:///…"
        case _:
            return f"{quoted(url)}: no such scheme{_likely(name)}"


def _likely(name: str) -> str:
    later = ", ".join(f"{scheme}://" for scheme in LATER_SCHEMES)
    return nearest(name, ("folder",)) or f"; known are folder:// and, for inputs, upload: ({later} are not served yet)"


def _folder_problem(url: str) -> str:
    path = url[len(_FOLDER) :]
    if not url.startswith(_FOLDER) or not path.startswith("/"):
        return f"{quoted(url)} needs an absolute path after folder://, as in folder:///data/file"
    return f"{quoted(url)} must not hold .." if ".." in path.split("/") else ""


def _outputs(job: Job) -> Problems:
    seen: set[str] = set()
    for index, output in enumerate(job.outputs):
        where = f"outputs[{index}]"
        if problem := path_problem(output.path):
            yield f"{where}.path {problem}"
        yield from _output(output, where)
        yield from _repeated(output.path, seen, where)


def _output(output: Output, where: str) -> Problems:
    if not output.url:
        yield f"{where} needs a url: say where it is stored; a key is exact below it"
    elif problem := url_problem(output.url, readable=False):
        yield f"{where}.url {problem}"
    key = output.key.replace("{id}", "id")
    if ".." in key.split("/") or key.startswith("/") or _SCHEME.match(key):
        yield f"{where}.key {quoted(output.key)} must be a plain name below the url"
    if "{" in key or "}" in key:
        yield f"{where}.key {quoted(output.key)} knows one name in braces: {{id}}"


def _unserved(job: Job) -> Problems:
    for name in not_served(job):
        yield f"{name} is not served yet by this version: leave it out"
