"""
The visible tables kind → opener, and the real world made of them.

An SDK is imported inside the opener that needs it, so a box loads only what it uses.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from adapters.box import measure_box
from adapters.folder_urls import queue_location, results_directory
from adapters.own_cores import OwnCores
from adapters.results.secrets import results_secrets
from adapters.state_dir import StateDir
from runner.config import Config
from runner.credential import Credential, Rights
from runner.errors import ConfigurationError, Refused
from runner.ports import Box, Broker, Containers, Dialect, GpuProbe, Images, Results, Store, World

DOCKER_UIDS = 256
"""Of the configured uids the last ones are for containers, the others for processes."""


def open_broker(credential: Credential, box: Box) -> Broker:
    """Open the service of a credential file."""
    opener = BROKERS.get(credential.kind)
    if opener is None:
        raise ConfigurationError(f"no queues of kind {credential.kind!r} are served; known: {_names(BROKERS)}")
    return opener(credential, box)


def _folder_broker(credential: Credential, box: Box) -> Broker:
    from adapters.queues.folder import FolderBroker

    path, single = queue_location(credential.url)
    single = single or credential.rights.own
    return FolderBroker(path, box_id=box.id, now=time.time, lease_s=float(credential.lease), single=single)


def _redis_broker(credential: Credential, box: Box) -> Broker:
    from adapters.queues.redis import RedisBroker

    return RedisBroker(credential, box_id=box.id, now=time.time)


def _rabbit_broker(credential: Credential, box: Box) -> Broker:
    from adapters.queues.rabbitmq import RabbitBroker

    return RabbitBroker(credential, box_id=box.id, now=time.time)


def _sqs_broker(credential: Credential, box: Box) -> Broker:
    from adapters.queues.sqs import SqsBroker

    return SqsBroker(credential, box_id=box.id, now=time.time)


def open_results(credential: Credential, queue: str, box: Box) -> Results | None:
    """Open a queue's result backend: the one its file names, else the queue's own service where that can be one."""
    url = credential.rights.results
    opener = RESULTS.get(_scheme(url)) if url else OWN_RESULTS.get(credential.kind)
    if url and opener is None:
        raise ConfigurationError(f"results: no backend of kind {_scheme(url)!r} is served; known: {_names(RESULTS)}")
    secrets = results_secrets(credential)
    return opener(msgspec.structs.replace(credential, secrets=secrets), queue, box) if opener else None


def _folder_results(credential: Credential, queue: str, box: Box) -> Results:
    from adapters.results.folder import FolderResults

    return FolderResults(results_directory(credential.rights.results, queue), box_id=box.id)


def _own_folder_results(credential: Credential, queue: str, box: Box) -> Results:
    from adapters.queues.folder_layout import queue_directory
    from adapters.results.folder import FolderResults

    path, single = queue_location(credential.url)
    root = path if single or credential.rights.own else queue_directory(path, queue)
    return FolderResults(os.path.join(root, "results"), box_id=box.id)


def _redis_results(credential: Credential, queue: str, box: Box) -> Results:
    from adapters.results.redis import RedisResults

    url = credential.rights.results or credential.url
    return RedisResults(url, queue, box_id=box.id, secrets=credential.secrets, options=credential.options)


def open_store(url: str, rights: Rights, *, umask: int | None = None) -> Store:
    """Open the store that a job's URL names; ``umask`` says who may read files that are stored on this machine."""
    scheme = _scheme(url)
    opener = STORES.get(scheme)
    if opener is None:
        raise Refused(f"{url}: stores of kind {scheme!r} are not served yet; known: {_names(STORES)}")
    return opener(rights, umask)


def _folder_store(rights: Rights, umask: int | None) -> Store:
    from adapters.stores.folder import FolderStore

    return FolderStore(rights, umask=umask)


def _names(table: Mapping[str, object]) -> str:
    return ", ".join(sorted(table))


def _scheme(url: str) -> str:
    return url.partition(":")[0]


BROKERS: dict[str, Callable[[Credential, Box], Broker]] = {
    "folder": _folder_broker,
    "redis": _redis_broker,
    "rabbitmq": _rabbit_broker,
    "sqs": _sqs_broker,
}
RESULTS: dict[str, Callable[[Credential, str, Box], Results]] = {
    "folder": _folder_results,
    "redis": _redis_results,
    "rediss": _redis_results,
}
"""By the scheme of the URL that a credential file names."""
OWN_RESULTS: dict[str, Callable[[Credential, str, Box], Results]] = {
    "folder": _own_folder_results,
    "redis": _redis_results,
}
"""By the kind of a queue whose own service can be its result backend."""
STORES: dict[str, Callable[[Rights, int | None], Store]] = {"folder": _folder_store}


def open_probe(config: Config, box_id: str) -> GpuProbe:
    """
    Open the view of the GPUs.

    Raises:
        ConfigurationError: ``gpus`` is none of ``auto``, ``none``, ``simulated:N``.
    """
    from adapters.gpus.nvml import NvmlProbe
    from adapters.gpus.simulated import SimulatedProbe

    kind, _, count = config.gpus.partition(":")
    if kind == "simulated" and count.isdigit():
        return SimulatedProbe(int(count), box=box_id[:8], locks=config.gpu_locks)
    if kind == "none" or config.cpu_only:
        return SimulatedProbe(0, box=box_id[:8], locks=config.gpu_locks)
    if kind == "auto":
        return NvmlProbe(config.gpu_locks)
    raise ConfigurationError(f'gpus = {config.gpus!r}: write "auto", "none" or "simulated:2"')


def job_uids(config: Config) -> tuple[int, int]:
    """
    Read the range of uids for jobs: the first one and how many.

    Raises:
        ConfigurationError: it is no such range.
    """
    first, _, count = config.job_uids.partition(":")
    if first.isdigit() and count.isdigit() and int(first) > 0 and int(count) > DOCKER_UIDS:
        return int(first), int(count)
    raise ConfigurationError(f'job_uids = {config.job_uids!r}: write "FIRST:COUNT" with more than {DOCKER_UIDS} uids')


def open_containers(
    config: Config, state: StateDir, box_id: str, known: Callable[[], Iterable[bytes]] = tuple
) -> dict[str, Containers]:
    """Open the runtimes of this box; without an engine's socket there is none for containers."""
    from adapters.containers.process import ProcessContainers
    from adapters.containers.secret_shelf import SecretShelf
    from adapters.secrets import Secrets

    first, count = job_uids(config)
    shelf = functools.partial(SecretShelf, values=Secrets(config.certs_dir).values, known=known)
    process = ProcessContainers(
        state.path,
        box_id=box_id,
        uid_range=(first, count - DOCKER_UIDS),
        now=time.time,
        shelf=shelf(f"{box_id}.process"),
        closed=(config.certs_dir,) if config.certs_dir else (),
    )
    runtimes: dict[str, Containers] = {"process": process}
    if has_engine(config):
        from adapters.containers.docker import DockerContainers
        from adapters.containers.docker_spec import DockerSettings

        own = range(first + count - DOCKER_UIDS, first + count) if os.geteuid() == 0 else range(65532, 65533)
        directory = os.path.join(state.path, "docker")
        settings = DockerSettings(
            box=box_id,
            directory=directory,
            uids=tuple(own),
            pids=config.job_pids,
            closed=tuple(filter(None, (state.path, config.certs_dir))),
            gpu_handover=config.gpu_handover,
        )
        runtimes["container"] = DockerContainers(config.docker_host, settings, time.time, shelf(f"{box_id}.docker"))
    return runtimes


def open_images(config: Config, containers: Mapping[str, Containers] | None = None) -> Images | None:
    """Open the images of the container runtime, None where there is none; its containers' networks are for builds."""
    if not has_engine(config):
        return None
    from adapters.containers.docker_images import DockerImages

    networks = getattr((containers or {}).get("container"), "networks", None)
    return DockerImages(config.docker_host, networks=networks)


def has_engine(config: Config) -> bool:
    """Tell whether a Docker engine may be reached: its socket exists, or it is somewhere on a network."""
    scheme, _, path = config.docker_host.partition("://")
    return os.path.exists(path) if scheme == "unix" else bool(scheme)


def dialects() -> dict[str, Dialect]:
    """Return the message formats by name."""
    from adapters.wire.native import NativeDialect

    return {"native": NativeDialect()}


@asynccontextmanager
async def open_world(config: Config, *, umask: int | None = None) -> AsyncIterator[World]:
    """
    Open the real world of one box; ``config.state_dir`` is filled in. All is closed on leaving; containers run on.

    ``umask`` says who may read stored outputs, where the process's own is a stricter one.

    Raises:
        ConfigurationError: the state directory cannot be used, or another runner holds it; a sink cannot be used.
    """
    from adapters.blobs import FolderBlobs
    from adapters.box_secrets import BoxSecrets
    from adapters.containers.vulnerable import gate
    from adapters.credentials import DirectoryCredentials
    from adapters.image_records import FileImageRecords
    from adapters.journal import SqliteJournal
    from adapters.sinks.opening import box_sinks, open_sinks
    from adapters.spool import FileSpool
    from adapters.workspaces import FolderWorkspaces

    state, sinks = StateDir(config.state_dir), box_sinks(config.sinks)
    async with AsyncExitStack() as opened:
        lock = state.lock()
        opened.callback(lock.close)
        box_id = state.box_id()
        root = os.path.join(state.path, "workspaces")
        workspaces = FolderWorkspaces(root)
        box = measure_box(config, box_id, state.path)
        journal = SqliteJournal(state.journal, state.journal_key)
        known = BoxSecrets(config.certs_dir)
        probe, containers = open_probe(config, box_id), open_containers(config, state, box_id, known)
        images = open_images(config, containers)
        spool = FileSpool(state.spool, time.time_ns)
        blobs = FolderBlobs(config.cache_dir or os.path.join(state.path, "cache"))
        for port in (journal, probe, spool, workspaces, blobs, *containers.values(), *((images,) if images else ())):
            opened.push_async_callback(port.close)
        yield World(
            box=box,
            now=time.time,
            up_s=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
            random=random.random,
            keep_off=OwnCores().keep_off,
            journal=journal,
            credentials=DirectoryCredentials(config.certs_dir),
            spool=spool,
            workspaces=workspaces,
            blobs=blobs,
            probe=probe,
            containers=containers,
            images=images,
            image_records=FileImageRecords(state.path),
            dialects=dialects(),
            open_broker=lambda credential: open_broker(credential, box),
            open_store=functools.partial(open_store, umask=umask),
            open_results=lambda credential, queue: open_results(credential, queue, box),
            open_sinks=functools.partial(open_sinks, sinks, dialects(), box_id=box_id),
            redact=known.redact,
            why_no_gpus=gate(config, engine=has_engine(config)),
        )
        await asyncio.sleep(0)  # let callbacks of what was just stopped run before their ports close
