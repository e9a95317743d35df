"""
The configuration: one struct, and the one function that says which value wins.

Every field is a key of ``runner.toml``, an option of ``runner run`` (dashes for underscores) and an environment
variable (``RUNNER_`` and the name in upper case). Option, ``RUNNER_X``, bare ``X`` (a few), file, default: the first
that is set wins.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta

from runner.errors import ConfigurationError
from runner.listen import parse_address
from runner.loosening import LOOSENINGS, misworded
from runner.pattern import problem
from runner.units import Duration, Size, decode_hook

BARE_NAMES = frozenset({"certs_dir", "cpu_only", "max_cores", "max_mem", "max_disk", "queue_match", "queue_mismatch",
                        "cache_dir", "cache_size", "limit_tasks", "limit_idle_duration"})  # fmt: skip
"""Read without the prefix too, since deployments of the systems that this one replaces set them."""


def _key(about: str) -> Meta:
    return Meta(description=about)


def _count(about: str) -> Meta:
    return Meta(description=about, ge=0)


def _positive(about: str) -> Meta:
    return Meta(description=about, ge=1)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every key of ``runner.toml`` with its default. Zero and the empty text mean: find out by yourself."""

    certs_dir: Annotated[str, _key("directory that is watched for credential files")] = ""
    state_dir: Annotated[str, _key("journal, spools, workspaces, own queue; /var/lib/runner as root")] = ""
    cache_dir: Annotated[str, _key("cache of inputs; <state_dir>/cache")] = ""
    cache_size: Annotated[Size, _key("bytes the cache may hold")] = Size(20 << 30)
    queue_match: Annotated[str, _key("regular expression (RE2); only queues that it finds are read")] = ""
    queue_mismatch: Annotated[str, _key("regular expression (RE2); queues that it finds are left alone")] = ""
    own_queue: Annotated[bool, _key("serve folder://<state_dir>/queue")] = True
    max_jobs: Annotated[int, _count("jobs that run at once; 0: as many as fit")] = 0
    max_cores: Annotated[int, _count("cores for jobs; 0: all")] = 0
    max_mem: Annotated[Size, _key("memory for jobs; 0: all but 5 %")] = Size(0)
    max_disk: Annotated[Size, _key("disk for workspaces; 0: what is free but 5 %")] = Size(0)
    cpu_only: Annotated[bool, _key("hand out no GPU")] = False
    gpus: Annotated[str, _key('"auto" (NVML), "none", or "simulated:2"')] = "auto"
    job_memory: Annotated[Size, _key("memory of a job that names none")] = Size(1 << 30)
    job_disk: Annotated[Size, _key("disk of a job that names none")] = Size(1 << 30)
    job_shm: Annotated[Size, _key("shared memory of a container that names none")] = Size(64 << 20)
    timeout: Annotated[Duration, _key("wall time of an attempt that names none")] = Duration(86400)
    default_image: Annotated[str, _key("image of a job that names none, where its queue has no process runtime")] = ""
    docker_host: Annotated[str, _key("the Docker engine")] = "unix:///var/run/docker.sock"
    job_uids: Annotated[str, _key("first uid and how many, for process jobs of a runner that is root")] = "210000:4096"
    job_pids: Annotated[int, _positive("processes and threads of one container")] = 4096
    network: Annotated[tuple[str, ...], _key("networks that jobs of every queue may ask for")] = ()
    capabilities: Annotated[tuple[str, ...], _key("capabilities that jobs of every queue may ask for")] = ()
    mounts: Annotated[tuple[str, ...], _key("directories that jobs of every queue may ask to read")] = ()
    seccomp: Annotated[str, _key("seccomp profile of every container: a file; the engine's own")] = ""
    oci_runtime: Annotated[str, _key("runtime of every container, by its name in the engine; the engine's own")] = ""
    gpu_handover: Annotated[
        Literal["auto", "nvidia", "cdi"], _key("how containers get GPUs: by NVIDIA's hook, or by CDI")
    ] = "auto"
    refuse_vulnerable: Annotated[bool, _key("run no GPU job in containers while `runner doctor` knows an open CVE")] = (
        False
    )
    images_free: Annotated[Size, _key("images that are not used give way below so much free disk")] = Size(10 << 30)
    pull_timeout: Annotated[Duration, _key("limit on pulling, building or pushing one image")] = Duration(3600)
    log_max: Annotated[Size, _key("output of one attempt; 0: as much as its disk")] = Size(0)
    log_rate: Annotated[int, _count("lines a second of one attempt, on average over ten; 0: any number")] = 0
    log_overflow: Annotated[
        Literal["kill", "truncate", "pause"],
        _key("what more than that means: the end; head and tail kept, lines left out; containers wait (for log_rate)"),
    ] = "kill"
    sinks: Annotated[tuple[str, ...], _key("where the logs of all jobs go as well, as URLs")] = ()
    listen: Annotated[str, _key("HTTP to read logs and metrics at, like 127.0.0.1:8080; absent: none")] = ""
    gpu_locks: Annotated[str, _key("directory of one lock file a GPU, shared by all runners of a machine")] = (
        "/run/lock/runner-gpus"
    )
    max_waiting: Annotated[int, _positive("jobs of one queue that wait on this box")] = 4
    patience: Annotated[Duration, _key("a job waits so long on a box before it is given back")] = Duration(60)
    ahead: Annotated[int, _count("jobs staged ahead of their grant")] = 1
    lease: Annotated[Duration, _key("a claim on a folder queue lapses after so long without a sign of life")] = (
        Duration(60)
    )
    port_timeout: Annotated[Duration, _key("limit on one call to a service")] = Duration(60)
    transfer_timeout: Annotated[Duration, _key("limit on moving one input or output")] = Duration(14400)
    output_patience: Annotated[Duration, _key("uploads are retried so long before the job ends as output_failed")] = (
        Duration(3600)
    )
    on_stop: Annotated[Literal["drain", "leave"], _key("what SIGTERM means")] = "drain"
    drain_grace: Annotated[Duration, _key("a drain waits so long for what runs")] = Duration(600)
    preempt_grace: Annotated[
        Duration,
        _key("after a drain's grace, and on notice of the box's end: a quarter to stop jobs, the rest to upload"),
    ] = Duration(120)
    limit_tasks: Annotated[int, _count("take so many jobs, and end when they have ended; 0: any number")] = 0
    limit_idle_duration: Annotated[
        Duration, _key("drain after so long without a job, whether queues are empty or away; 0: never")
    ] = Duration(0)
    on_removed: Annotated[
        Literal["finish", "cancel"], _key("what becomes of running jobs whose credential file is taken away")
    ] = "finish"
    keep_workspaces: Annotated[Duration, _key("workspaces of failed jobs")] = Duration(7 * 86400)
    keep_spools: Annotated[Duration, _key("logs on this box after the end")] = Duration(14 * 86400)
    keep_results: Annotated[Duration, _key("receipts, log archives and uploads in folder result backends")] = Duration(
        90 * 86400
    )
    keep_dead: Annotated[Duration, _key("rejected messages in folder queues")] = Duration(90 * 86400)
    keep_journal: Annotated[Duration, _key("rows of ended jobs in ps --all and show")] = Duration(90 * 86400)
    mailbox: Annotated[int, _positive("messages that may wait in a mailbox before senders wait")] = 64
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _key("how much the runner itself says")] = "info"


FIELDS = {field.name: field for field in msgspec.structs.fields(Config)}


class Origin(msgspec.Struct, frozen=True):
    """Where a value came from: an option, a variable, the file, or the default; ``text`` is what was found there."""

    name: str
    value: object
    source: str


def resolve(
    options: Mapping[str, object], environ: Mapping[str, str], file: Mapping[str, object], file_name: str
) -> tuple[Config, tuple[Origin, ...]]:
    """
    Return the configuration and the origin of each value, in the order of the fields.

    ``options`` holds only what was given on the command line; ``file`` the decoded ``runner.toml``.

    Raises:
        ConfigurationError: an unknown key (naming the nearest one), or a value that does not fit, with its origin.
    """
    for key in file:
        if key not in FIELDS:
            raise ConfigurationError(f"{file_name}: no such key {key!r}{_nearest(key)}")
    origins = tuple(_origin(name, options, environ, file, file_name) for name in FIELDS)
    values = {origin.name: _convert(origin) for origin in origins if origin.source != "default"}
    return Config(**values), origins  # type: ignore[arg-type]  # each value was converted to its field's type


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, FIELDS, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _origin(
    name: str, options: Mapping[str, object], environ: Mapping[str, str], file: Mapping[str, object], file_name: str
) -> Origin:
    if name in options:
        return Origin(name, options[name], f"option --{name.replace('_', '-')}")
    prefixed, bare = f"RUNNER_{name.upper()}", name.upper()
    if prefixed in environ:
        return Origin(name, environ[prefixed], f"environment {prefixed}")
    if name in BARE_NAMES and bare in environ:
        return Origin(name, environ[bare], f"environment {bare}")
    if name in file:
        return Origin(name, file[name], file_name)
    return Origin(name, FIELDS[name].default, "default")


def _convert(origin: Origin) -> object:
    kind = FIELDS[origin.name].type
    from_text = isinstance(origin.value, str) and not origin.source.endswith(".toml")
    plain = (
        _listed(origin.value)
        if from_text and kind.__origin__ == tuple[str, ...]
        else _plain(origin.value, from_text=from_text and kind.__origin__ is not str)
    )
    try:
        value = msgspec.convert(plain, kind, strict=not from_text, dec_hook=decode_hook)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigurationError(f"{origin.source}: {origin.name}: {_problem(origin, error)}") from error
    if problem := _misform(origin.name, value):
        raise ConfigurationError(f"{origin.source}: {origin.name}: {problem}")
    return value


_FORMS = {
    "gpus": (re.compile(r"auto|none|simulated:\d{1,4}"), '"auto", "none" or "simulated:2"'),
    "job_uids": (re.compile(r"[1-9]\d{0,9}:[1-9]\d{0,9}"), 'the first and how many, like "210000:4096"'),
}

_A_SECOND_AT_LEAST = frozenset({"lease", "port_timeout", "transfer_timeout", "timeout"})


def _misform(name: str, value: object) -> str:
    """Say what is wrong with text that has a form of its own."""
    if name in {"queue_match", "queue_mismatch"}:
        wrong = problem(str(value))
        return f"{value!r} is no regular expression of RE2's syntax: {wrong}" if wrong else ""
    if name in LOOSENINGS:
        return misworded(name, *((value,) if isinstance(value, str) else cast("tuple[str, ...]", value)))
    if name == "listen" and value:
        return _misaddressed(str(value))
    if name in _A_SECOND_AT_LEAST and cast("float", value) < 1:
        return "too short: write at least '1s'"
    if name in _FORMS and not _FORMS[name][0].fullmatch(str(value)):
        return f"{value!r} will not do: write {_FORMS[name][1]}"
    return ""


def _misaddressed(text: str) -> str:
    try:
        parse_address(text)
    except ValueError as error:
        return str(error)
    return ""


def _problem(origin: Origin, error: Exception) -> str:
    """Say what to write instead, where msgspec names types only."""
    kind = FIELDS[origin.name].type.__origin__
    least = next((meta.ge for meta in FIELDS[origin.name].type.__metadata__ if meta.ge is not None), 0)
    wanted = {
        int: f"a whole number from {least} up",
        bool: "true or false",
        str: "text in quotes",
        tuple[str, ...]: "texts, with commas between",
    }.get(kind)
    if choices := getattr(kind, "__args__", ()):
        wanted = " or ".join(repr(choice) for choice in choices)
    return f"{origin.value!r} will not do: write {wanted}" if wanted else str(error)


def _plain(value: object, *, from_text: bool) -> object:
    """Let variables and options say plain numbers for durations and sizes, as deployments do (``MAX_MEM=0``)."""
    if from_text and cast("str", value).strip().isdigit():
        return int(cast("str", value))
    return value


def _listed(value: object) -> list[str]:
    """Let variables and options say lists with commas between."""
    return [part.strip() for part in cast("str", value).split(",") if part.strip()]


def load_file(path: Path | None) -> tuple[dict[str, object], str]:
    """
    Read a ``runner.toml``; no path gives an empty one.

    Raises:
        ConfigurationError: it is not there, not readable, or not TOML (with the line).
    """
    if path is None:
        return {}, ""
    try:
        return tomllib.loads(path.read_text("utf-8")), str(path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as TOML: {error}; see runner.toml for every key") from error
