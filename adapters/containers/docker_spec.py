"""
What is asked of the Docker engine for one attempt: sealed, limited, labelled. Pure: a spec in, the engine's JSON out.

The profile is that of the Kubernetes "restricted" pod: a user of its own without capabilities or new privileges, a
read-only root, no network. What a job may loosen is not decided here, and what has to be looked up for it was before.
"""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec

from adapters.containers.docker_gpus import CDI, device_requests
from adapters.containers.docker_state import (
    LABEL_ATTEMPT,
    LABEL_BOX,
    LABEL_GPUS,
    LABEL_KEY,
    LABEL_NAME,
    LABEL_NETWORK,
    LABEL_UID,
)
from runner.ports import ContainerSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
"""What the engine takes as a container's name."""
WORK = "/work"
TMP = "/tmp"  # noqa: S108 - a directory of the container's own
DEADLINE_DIRECTORY = "/run/runner"
DEADLINE_FILE = "deadline"
SECRETS = "/run/secrets"
STEPS_SCRIPT, STEPS_CODES = "steps.sh", "steps"
"""Beside the deadline, of a job with steps."""
DEFAULT_SHM_BYTES = 64 << 20
DEFAULT_TMP_BYTES = 1 << 30
"""Of a job without a memory limit; with one, it is the limit of its temporary files too."""
BYTES_PER_FILE = 4096
"""An empty file in memory takes about a kilobyte of the kernel's."""
MESSAGE_BYTES = 819_200
HOST_NAME_LETTERS = 63
# A line of one byte takes 29 in the engine's log (measured on 20.10), so that even a log of empty lines never rotates.
LOG_FRAMING = 32


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    How containers are made on this box.

    Args:
        box: the box's id; containers without it are never touched.
        directory: where the adapter keeps a small directory per container, for as long as the container is there.
        uids: uids for jobs, used as gids too; with one, all jobs share it, with more each running job has its own. An
            engine that remaps users gets others instead, one for each of these.
        log_budget_bytes: what one attempt may write; the engine's own log never rotates below that.
        pids: processes and threads of one container.
        open_files: file descriptors of one process; 0: as many as the engine gives, and it may not give more.
        closed: paths that no mount may show to a job, beside the engine's socket: the runner's own.
        gpu_handover: how containers get GPUs: ``nvidia`` (NVIDIA's hook), ``cdi``, or ``auto``: what the engine can.
        answer_s: how long the engine may take to answer an ordinary call.
    """

    box: str
    directory: str
    uids: tuple[int, ...] = (65532,)
    log_budget_bytes: int = 1 << 30
    pids: int = 4096
    open_files: int = 16_384
    closed: tuple[str, ...] = ()
    gpu_handover: str = "auto"
    answer_s: float = 30.0


class Arranged(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was looked up or made on the box for one container.

    Args:
        uid: the job's uid and gid as the container sees them.
        owner: the same as the box sees them: another one where the engine remaps users.
        deadline_directory: the container's own directory, with the deadline file in it.
        volumes: directories for which the image declares volumes: writable, unless something stands there.
        seccomp: text of the system call filter; empty: the engine's own.
        network: the engine's name of the job's network.
        gpu_way: how it gets its GPUs, ``nvidia`` or ``cdi``.
    """

    uid: int
    owner: int
    deadline_directory: str
    volumes: tuple[str, ...] = ()
    seccomp: str = ""
    network: str = "none"
    gpu_way: str = "nvidia"


def request(spec: ContainerSpec, settings: DockerSettings, arranged: Arranged) -> dict[str, Any]:
    """Return the body of the engine's create call."""
    real = [gpu.uuid for gpu in spec.grant.here.gpus if not gpu.simulated]
    return {
        "Image": spec.image,
        **_program(program_of(spec)),
        "User": f"{arranged.uid}:{arranged.uid}",
        "Hostname": host_name(spec.key),
        "Domainname": "",
        "WorkingDir": WORK,
        "Env": [f"{name}={value}" for name, value in _environment(spec, real, arranged.gpu_way).items()],
        "Labels": _labels(spec, settings, arranged.owner),
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": arranged.network == "none",
        "HostConfig": {
            **_limits(spec, settings),
            **_sealing(spec, arranged),
            **_files(spec, arranged),
            "LogConfig": _log(spec.log_max or settings.log_budget_bytes),
            "DeviceRequests": device_requests(real, arranged.gpu_way),
        },
    }


def host_name(key: str) -> str:
    """Make a name for a machine of the job's id, with which its key begins."""
    job_id = key.rpartition(".")[0] or key
    return re.sub(r"[^a-z0-9]+", "-", job_id.lower())[:HOST_NAME_LETTERS].strip("-") or "job"


def program_of(spec: ContainerSpec) -> tuple[str, ...]:
    """Return what runs; empty: what the image was made for."""
    if not spec.steps:
        return spec.command
    here = DEADLINE_DIRECTORY
    return ("sh", "-c", f"exec 5>> {here}/{STEPS_CODES} && . {here}/{STEPS_SCRIPT}")


def _program(command: tuple[str, ...]) -> dict[str, Any]:
    """Run the job's command and nothing of the image's own; without a command, what the image was made for."""
    return {"Entrypoint": [command[0]], "Cmd": list(command[1:])} if command else {}


def _environment(spec: ContainerSpec, real: list[str], gpu_way: str) -> dict[str, str]:
    here = {
        "HOME": WORK,
        "TMPDIR": TMP,
        **spec.env,
        "RUNNER_DEADLINE_FILE": f"{DEADLINE_DIRECTORY}/{DEADLINE_FILE}",
        # The init process then passes signals on to the job's whole process group, not to its first process alone.
        "TINI_KILL_PROCESS_GROUP": "1",
    }
    simulated = [gpu.uuid for gpu in spec.grant.here.gpus if gpu.simulated]
    if simulated:
        here["CUDA_VISIBLE_DEVICES"] = ",".join(simulated)
    # CUDA images ask for all cards by themselves, and get them where the engine's default runtime is NVIDIA's.
    here["NVIDIA_VISIBLE_DEVICES"] = ",".join(real) if real and gpu_way != CDI else "void"
    here["NVIDIA_DRIVER_CAPABILITIES"] = "compute,utility"
    return here


def _labels(spec: ContainerSpec, settings: DockerSettings, owner: int) -> dict[str, str]:
    return {
        LABEL_BOX: settings.box,
        LABEL_NAME: spec.name,
        LABEL_KEY: spec.key,
        LABEL_ATTEMPT: str(spec.attempt),
        LABEL_UID: str(owner),
        LABEL_NETWORK: spec.network,
        LABEL_GPUS: ",".join(gpu.uuid for gpu in spec.grant.here.gpus),
    }


def _limits(spec: ContainerSpec, settings: DockerSettings) -> dict[str, Any]:
    place = spec.grant.here
    return {
        "Memory": place.memory,
        "MemorySwap": place.memory,
        "NanoCpus": round(min(place.cpus, os.cpu_count() or place.cpus) * 1e9),
        "CpusetCpus": ",".join(map(str, place.cores)),
        "PidsLimit": settings.pids,
        "ShmSize": spec.shm or DEFAULT_SHM_BYTES,
        "Ulimits": [_ulimit(name, limit) for name, limit in _ulimits(place.disk, settings.open_files).items()],
        # The kernel ends a job before the runner, and the runner's lease does not starve behind its jobs.
        "OomScoreAdj": 500,
        "CpuShares": 512,
    }


def _ulimit(name: str, limit: int) -> dict[str, Any]:
    return {"Name": name, "Soft": limit, "Hard": limit}


def _ulimits(disk: int, open_files: int) -> dict[str, int]:
    """Say what the engine would leave to its own limits; none is above what root has everywhere."""
    limits = {"core": 0, "msgqueue": MESSAGE_BYTES}
    if disk:
        limits["fsize"] = disk
    if open_files:
        limits["nofile"] = open_files
    return limits


def _sealing(spec: ContainerSpec, arranged: Arranged) -> dict[str, Any]:
    return {
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.capabilities),
        "SecurityOpt": ["no-new-privileges", *([f"seccomp={arranged.seccomp}"] if arranged.seccomp else [])],
        "ReadonlyRootfs": True,
        "NetworkMode": arranged.network,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        **({"Runtime": spec.oci_runtime} if spec.oci_runtime else {}),
    }


def _files(spec: ContainerSpec, arranged: Arranged) -> dict[str, Any]:
    return {
        "Mounts": [
            {"Type": "bind", "Source": spec.workspace, "Target": WORK},
            {"Type": "bind", "Source": arranged.deadline_directory, "Target": DEADLINE_DIRECTORY, "ReadOnly": True},
            *_steps(spec, arranged.deadline_directory),
            *map(_read_only, spec.mounts),
        ],
        "Tmpfs": dict.fromkeys((TMP, *arranged.volumes), _in_memory(spec.grant.here.memory or DEFAULT_TMP_BYTES)),
    }


def _read_only(path: str) -> dict[str, Any]:
    # What is mounted below it would stay writable, so it is left out.
    return {"Type": "bind", "Source": path, "Target": path, "ReadOnly": True, "BindOptions": {"NonRecursive": True}}


def _in_memory(size: int) -> str:
    """Programs that unpack themselves run from there, hence exec; its bytes count as the job's memory."""
    return f"rw,exec,nosuid,nodev,mode=1777,size={size},nr_inodes={max(1, size // BYTES_PER_FILE)}"


def _steps(spec: ContainerSpec, directory: str) -> list[dict[str, Any]]:
    codes = {"Source": f"{directory}/{STEPS_CODES}", "Target": f"{DEADLINE_DIRECTORY}/{STEPS_CODES}"}
    return [{"Type": "bind", **codes}] if spec.steps else []


def _log(budget_bytes: int) -> dict[str, Any]:
    size = str(budget_bytes * LOG_FRAMING)
    # The engine's own default could be to drop lines when it is busy.
    kept = {"max-size": size, "max-file": "1", "compress": "false", "mode": "blocking"}
    return {"Type": "local", "Config": kept}
