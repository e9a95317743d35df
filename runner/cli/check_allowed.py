"""What `doctor` says of what the configuration and credential files name for containers: is it here, and allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runner.config import Config
from runner.credential import QueueRights
from runner.errors import BadInput, RuntimeMissing, Unavailable
from runner.receipt import Check

FIXES = {
    "oci_runtime": "add it to runtimes in the engine's daemon.json, or correct oci_runtime in",
    "seccomp": "write a profile there, or correct seccomp in",
    "mounts": "make it, or take it out of mounts in",
    "own": "take it out of mounts in",
}


def in_configuration(config: Config) -> Iterator[Check]:
    """Look at what every queue's jobs are run with, or may have."""
    yield from _all(config, config, "", "the configuration, see: runner config explain")


def in_file(config: Config, file: str, rights: QueueRights) -> Iterator[Check]:
    """Look at what a credential file says of its own queues' jobs."""
    yield from _all(config, rights, f"certs/{file} ", str(Path(config.certs_dir) / file))


def _all(config: Config, said: Config | QueueRights, prefix: str, where: str) -> Iterator[Check]:
    if said.oci_runtime:
        yield _runtime(config, said.oci_runtime, f"{prefix}oci_runtime", where)
    if said.seccomp:
        yield _profile(said.seccomp, f"{prefix}seccomp", where)
    if said.mounts:
        problems = tuple(_mounts(config, said.mounts, f"{prefix}mounts", where))
        yield from problems or (Check(f"{prefix}mounts", "ok", ", ".join(said.mounts)),)


def _runtime(config: Config, runtime: str, name: str, where: str) -> Check:
    from adapters.containers.docker_look import engine_runtimes
    from adapters.containers.docker_loosening import check_runtime

    try:
        check_runtime(runtime, engine_runtimes(config.docker_host))
    except RuntimeMissing as error:
        return _failed(name, error, f"{FIXES['oci_runtime']} {where}")
    except Unavailable as error:
        return Check(name, "warn", f"cannot tell whether the engine has {runtime}: {error}")
    return Check(name, "ok", runtime)


def _profile(path: str, name: str, where: str) -> Check:
    from adapters.containers.docker_loosening import read_profile

    try:
        read_profile(path)
    except RuntimeMissing as error:
        return _failed(name, error, f"{FIXES['seccomp']} {where}")
    return Check(name, "ok", f"{path} can be read; the engine judges it as a job starts")


def _mounts(config: Config, mounts: tuple[str, ...], name: str, where: str) -> Iterator[Check]:
    from adapters.containers.docker_loosening import check_mounts, closed_paths
    from adapters.containers.docker_spec import WORK

    closed = closed_paths(config.docker_host, config.state_dir, config.certs_dir)
    for mount in mounts:
        try:
            check_mounts((mount,), closed, WORK)
        except RuntimeMissing as error:
            yield _failed(name, error, f"{FIXES['mounts']} {where}")
        except BadInput as error:
            yield _failed(name, error, f"{FIXES['own']} {where}")


def _failed(name: str, error: BadInput | RuntimeMissing, fix: str) -> Check:
    """Say what is wrong; what to do about it is said once."""
    return Check(name, "fail", str(error).partition("; ")[0], fix)
