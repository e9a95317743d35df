"""
What is asked of the Docker engine for one attempt: sealed, limited, labelled. Pure: a spec in, the engine's JSON out.

The profile is that of the Kubernetes "restricted" pod: a user of its own without capabilities or new privileges, a
read-only root, no network. What a job may loosen is not decided here.
"""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec

from adapters.containers.docker_state import LABEL_ATTEMPT, LABEL_BOX, LABEL_GPUS, LABEL_KEY, LABEL_UID
from runner.ports import ContainerSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
"""What the engine takes as a container's name."""
WORK = "/work"
TMP = "/tmp"  # noqa: S108 - a directory of the container's own
DEADLINE_DIRECTORY = "/run/runner"
DEADLINE_FILE = "deadline"
DEFAULT_SHM_BYTES = 64 << 20
# A line of one byte takes 29 in the engine's log (measured on 20.10), so that even a log of empty lines never rotates.
LOG_FRAMING = 32


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    How containers are made on this box.

    Args:
        box: the box's id; containers without it are never touched.
        directory: where the adapter keeps a small directory per container, for as long as the container is there.
        uids: uids for jobs, used as gids too; with one, all jobs share it, with more each running job has its own.
        log_budget_bytes: what one attempt may write; the engine's own log never rotates below that.
        pids: processes and threads of one container.
        open_files: file descriptors of one process; 0: as many as the engine gives, and it may not give more.
        answer_s: how long the engine may take to answer an ordinary call.
    """

    box: str
    directory: str
    uids: tuple[int, ...] = (65532,)
    log_budget_bytes: int = 1 << 30
    pids: int = 4096
    open_files: int = 0
    answer_s: float = 30.0


def request(spec: ContainerSpec, settings: DockerSettings, *, uid: int, deadline_directory: str) -> dict[str, Any]:
    """Return the body of the engine's create call."""
    real = [gpu.uuid for gpu in spec.grant.here.gpus if not gpu.simulated]
    return {
        "Image": spec.image,
        **_program(spec.command),
        "User": f"{uid}:{uid}",
        "WorkingDir": WORK,
        "Env": [f"{name}={value}" for name, value in _environment(spec, real).items()],
        "Labels": _labels(spec, settings, uid),
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": True,
        "HostConfig": {
            **_limits(spec, settings),
            **_sealing(),
            **_files(spec, deadline_directory),
            "LogConfig": _log(settings.log_budget_bytes),
            "DeviceRequests": _devices(real),
        },
    }


def _program(command: tuple[str, ...]) -> dict[str, Any]:
    """Run the job's command and nothing of the image's own; without a command, what the image was made for."""
    return {"Entrypoint": [command[0]], "Cmd": list(command[1:])} if command else {}


def _environment(spec: ContainerSpec, real: list[str]) -> dict[str, str]:
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
    if not real:
        # CUDA images ask for all cards by themselves, and get them where the engine's default runtime is NVIDIA's.
        here["NVIDIA_VISIBLE_DEVICES"] = "void"
    return here


def _labels(spec: ContainerSpec, settings: DockerSettings, uid: int) -> dict[str, str]:
    return {
        LABEL_BOX: settings.box,
        LABEL_KEY: spec.key,
        LABEL_ATTEMPT: str(spec.attempt),
        LABEL_UID: str(uid),
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
        "Ulimits": [_ulimit("core", 0), *([_ulimit("nofile", settings.open_files)] if settings.open_files else [])],
        # The kernel ends a job before the runner, and the runner's lease does not starve behind its jobs.
        "OomScoreAdj": 500,
        "CpuShares": 512,
    }


def _ulimit(name: str, limit: int) -> dict[str, Any]:
    return {"Name": name, "Soft": limit, "Hard": limit}


def _sealing() -> dict[str, Any]:
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Init": True,
        "RestartPolicy": {"Name": "no"},
    }


def _files(spec: ContainerSpec, deadline_directory: str) -> dict[str, Any]:
    size = f",size={spec.grant.here.memory}" if spec.grant.here.memory else ""
    return {
        "Mounts": [
            {"Type": "bind", "Source": spec.workspace, "Target": WORK},
            {"Type": "bind", "Source": deadline_directory, "Target": DEADLINE_DIRECTORY, "ReadOnly": True},
        ],
        # Programs that unpack themselves run from there, hence exec; its bytes count as the job's memory.
        "Tmpfs": {TMP: f"rw,exec,nosuid,nodev,mode=1777{size}"},
    }


def _log(budget_bytes: int) -> dict[str, Any]:
    size = str(budget_bytes * LOG_FRAMING)
    # The engine's own default could be to drop lines when it is busy.
    kept = {"max-size": size, "max-file": "1", "compress": "false", "mode": "blocking"}
    return {"Type": "local", "Config": kept}


def _devices(uuids: list[str]) -> list[dict[str, Any]]:
    if not uuids:
        return []
    return [{"Driver": "nvidia", "DeviceIDs": uuids, "Capabilities": [["gpu", "compute", "utility"]]}]
