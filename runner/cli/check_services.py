"""What `doctor` asks the services that the configuration names."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from runner.cli.books import box_id
from runner.cli.check_allowed import in_file
from runner.cli.check_box import existing
from runner.cli.paths import own_queue
from runner.config import Config
from runner.credential import Credential, CredentialFile
from runner.errors import RunnerError
from runner.ports import Box
from runner.receipt import Check

FOLDER = "folder://"


def docker(config: Config) -> Iterator[Check]:
    """Look for the Docker engine, and for containers that another runner left there."""
    from adapters.containers.docker_look import containers_of_others, engine_version

    try:
        yield Check("docker", "ok", f"engine {engine_version(config.docker_host)} at {config.docker_host}")
        others = containers_of_others(config.docker_host, box_id(Path(config.state_dir)))
    except RunnerError as error:
        fix = "apt-get install docker.io, or name it: --docker-host; process jobs need none"
        yield Check("docker", "warn", str(error), fix)
        return
    if others:
        fix = f"docker rm -f {' '.join(others[:3])}, once nobody misses them"
        told = f"{len(others)} are another box's and left alone: {', '.join(others)}"
        yield Check("containers", "warn", told, fix)


async def gpus(config: Config) -> Check:
    """Look at the GPUs as `run` would."""
    from runner.cli.look import look_at_gpus

    if config.cpu_only:
        return Check("gpus", "ok", "none are handed out: cpu_only is set")
    try:
        table = await look_at_gpus(config)
    except RunnerError as error:
        return Check("gpus", "fail", str(error), "mend the driver, or set --gpus none")
    ill = [gpu for gpu in table.gpus if gpu.health != "healthy"]
    if ill:
        return Check(
            "gpus", "warn", "; ".join(f"GPU {gpu.index} is {gpu.health}: {gpu.reason}" for gpu in ill), "nvidia-smi"
        )
    if not table.gpus:
        return Check("gpus", "warn", "no NVIDIA driver", "install it, or try --gpus simulated:2")
    return Check(
        "gpus", "ok", f"{len(table.gpus)} with driver {table.driver}: {', '.join(gpu.model for gpu in table.gpus)}"
    )


async def sources(config: Config) -> list[Check]:
    """Look at the own queue, then at each credential file, its queues and its stores."""
    from adapters.queues.folder_layout import is_queue

    own = Path(config.state_dir) / "queue"
    found = "will be made at its first use" if not is_queue(str(own)) else "is there"
    checks = [Check("own queue", "ok" if config.own_queue else "warn", f"{own_queue(Path(config.state_dir))} {found}")]
    if not config.certs_dir:
        return [*checks, Check("certs", "ok", "no directory is watched: the box serves its own queue alone")]
    if not os.access(config.certs_dir, os.R_OK | os.X_OK):
        return [
            *checks,
            Check("certs", "fail", f"{config.certs_dir} cannot be read", f"chmod u+rx {shlex.quote(config.certs_dir)}"),
        ]
    for file in await _scan(config):
        checks += await _source(config, file)
    return checks


async def _scan(config: Config) -> tuple[CredentialFile, ...]:
    from adapters.credentials import DirectoryCredentials

    return await DirectoryCredentials(config.certs_dir).scan()


async def _source(config: Config, file: CredentialFile) -> list[Check]:
    name = f"certs/{file.file}"
    if file.credential is None:
        reason = file.reason.removeprefix(f"{file.file} ")
        return [Check(name, "fail", reason, f"mend {Path(config.certs_dir) / file.file}")]
    if file.warning:
        found, _, fix = file.warning.removeprefix(f"{file.file} ").partition(": ")
        checks = [Check(name, "warn", found, fix)]
    else:
        told = ": ".join(filter(None, (f"{file.credential.kind} {file.credential.url}", file.note)))
        checks = [Check(name, "ok", told)]
    if not file.has_queues:
        return checks
    allowed = in_file(config, file.file, file.credential.rights)
    return [*checks, await _queues(config, name, file.credential), *_stores(name, file.credential), *allowed]


async def _queues(config: Config, name: str, credential: Credential) -> Check:
    from adapters.registry import open_broker

    try:
        broker = open_broker(credential, Box(box_id(Path(config.state_dir)), (), 0, 0))
        try:
            found = await broker.queues()
        finally:
            await broker.close()
    except RunnerError as error:
        return Check(f"{name} queues", "fail", str(error), "start the service, or correct the url")
    if credential.kind == "folder" and (problem := _folder_problem(credential.url)):
        return Check(f"{name} queues", "fail", problem, f"make it writable for user {os.geteuid()}, or correct the url")
    return Check(f"{name} queues", "ok", ", ".join(found) or "none yet")


def _folder_problem(url: str) -> str:
    """Say why a queue directory could not be used, or not be made."""
    from adapters.folder_urls import queue_location

    path = Path(queue_location(url)[0])
    place = existing(path)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return ""
    return f"{place} is not writable, or no directory" + (f", so {path} cannot be made" if place != path else "")


def _stores(name: str, credential: Credential) -> Iterator[Check]:
    for url in (*credential.rights.paths, *credential.rights.stores):
        path = url.removeprefix(FOLDER)
        if path.startswith("/") and not os.access(path, os.R_OK | os.X_OK):
            fix = f"mkdir -p {shlex.quote(path)}, or correct {name}"
            yield Check(f"{name} store", "fail", f"{path} is not there, or not readable", fix)
        elif path.startswith("/"):
            yield Check(f"{name} store", "ok", url)
