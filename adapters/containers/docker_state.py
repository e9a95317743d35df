"""What the Docker engine tells of a container, decoded, and what it means in the words of the port. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from runner.ports import Exit, Running
from runner.receipt import Isolation, Usage

LABEL_BOX = "gpu-runner.box"
LABEL_NAME = "gpu-runner.name"
LABEL_KEY = "gpu-runner.key"
LABEL_ATTEMPT = "gpu-runner.attempt"
LABEL_UID = "gpu-runner.uid"
LABEL_GPUS = "gpu-runner.gpus"
LABEL_NETWORK = "gpu-runner.network"
_NEVER = "0001-"


class State(msgspec.Struct, frozen=True):
    """The engine's account of a container's life; times are RFC 3339, year 1 where it did not come to that yet."""

    status: str = msgspec.field(name="Status")
    started_at: str = msgspec.field(name="StartedAt")
    finished_at: str = msgspec.field(name="FinishedAt")
    running: bool = msgspec.field(name="Running", default=False)
    pid: int = msgspec.field(name="Pid", default=0)
    exit_code: int = msgspec.field(name="ExitCode", default=0)
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    error: str = msgspec.field(name="Error", default="")


class ContainerConfig(msgspec.Struct, frozen=True):
    """The part of its configuration that belongs to the program."""

    user: str = msgspec.field(name="User", default="")
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    env: list[str] | None = msgspec.field(name="Env", default=None)


class HostConfig(msgspec.Struct, frozen=True):
    """The part of its configuration that belongs to the machine."""

    network: str = msgspec.field(name="NetworkMode", default="")
    memory: int = msgspec.field(name="Memory", default=0)
    device_requests: list[Any] | None = msgspec.field(name="DeviceRequests", default=None)


class Mount(msgspec.Struct, frozen=True):
    """What a container sees somewhere: ``bind`` is a path of the box, ``volume`` what an image asked for."""

    kind: str = msgspec.field(name="Type", default="")
    target: str = msgspec.field(name="Destination", default="")


class Inspected(msgspec.Struct, frozen=True):
    """One container as the engine describes it."""

    id: str = msgspec.field(name="Id")
    image: str = msgspec.field(name="Image")
    state: State = msgspec.field(name="State")
    config: ContainerConfig = msgspec.field(name="Config")
    host: HostConfig = msgspec.field(name="HostConfig")
    mounts: tuple[Mount, ...] = msgspec.field(name="Mounts", default=())

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.config.labels or {}

    @property
    def was_started(self) -> bool:
        """Whether it runs or ran."""
        return not self.state.started_at.startswith(_NEVER)

    @property
    def has_ended(self) -> bool:
        """Whether it ran and does not run any more."""
        return self.was_started and not self.state.running

    @property
    def ended_at(self) -> float:
        """When it ended, in epoch seconds."""
        return epoch_seconds(self.state.finished_at)


class Made(msgspec.Struct, frozen=True):
    """A container that was created and not started: its id and its image's, its user on the box, its environment."""

    id: str
    image: str
    owner: int
    env: tuple[str, ...]


class Device(msgspec.Struct, frozen=True):
    """A device that the engine found described, by its name: ``nvidia.com/gpu=GPU-…``."""

    id: str = msgspec.field(name="ID", default="")
    source: str = msgspec.field(name="Source", default="")


class Engineered(msgspec.Struct, frozen=True):
    """What an engine can enforce."""

    memory: bool = msgspec.field(name="MemoryLimit", default=False)
    swap: bool = msgspec.field(name="SwapLimit", default=False)
    pids: bool = msgspec.field(name="PidsLimit", default=False)
    cpus: bool = msgspec.field(name="CpuCfsQuota", default=False)
    security: list[str] = msgspec.field(name="SecurityOptions", default_factory=list)
    runtimes: dict[str, Any] = msgspec.field(name="Runtimes", default_factory=dict)
    root: str = msgspec.field(name="DockerRootDir", default="")
    cdi_directories: list[str] | None = msgspec.field(name="CDISpecDirs", default=None)
    devices: list[Device] | None = msgspec.field(name="DiscoveredDevices", default=None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Name what it cannot keep apart or limit, sorted."""
        can = {
            "memory": self.memory,
            "swap": self.swap,
            "pids": self.pids,
            "cpus": self.cpus,
            "seccomp": self._has_seccomp,
        }
        return tuple(sorted(name for name, enforced in can.items() if not enforced))

    @property
    def remaps_users(self) -> bool:
        """Whether uid 0 inside of its containers is somebody else outside."""
        return "name=userns" in self.security

    @property
    def _has_seccomp(self) -> bool:
        return any(option.startswith("name=seccomp") and "unconfined" not in option for option in self.security)


def running_of(name: str, found: Inspected, missing: tuple[str, ...], own_uid: int) -> Running:
    """
    Describe a container that was started, in the same words while it runs and afterwards, so without a pid.

    A job that has the runner's own uid is not kept apart by it.
    """
    user = found.config.user.partition(":")[0]
    owner = found.labels.get(LABEL_UID, user)
    isolation = Isolation(
        runtime="docker",
        user=user,
        network=found.labels.get(LABEL_NETWORK, found.host.network),
        gpu="advisory" if found.labels.get(LABEL_GPUS) and not found.host.device_requests else "enforced",
        missing=tuple(sorted((*missing, "user"))) if owner == str(own_uid) else missing,
    )
    return Running(name, epoch_seconds(found.state.started_at), isolation)


def made_of(found: Inspected, own_uid: int) -> Made:
    """Describe a container that was created as the engine tells of it."""
    owner = int(found.labels.get(LABEL_UID, own_uid))
    return Made(found.id, found.image, owner, tuple(found.config.env or ()))


def exit_of(found: Inspected, memory_peak: int | None, steps: tuple[int, ...] = ()) -> Exit:
    """Tell how a container that was started ended."""
    state = found.state
    oom = state.oom_killed
    # The kernel kills at the limit, so that is the peak whatever was seen before.
    peak = (max(memory_peak or 0, found.host.memory) or None) if oom else memory_peak
    usage = Usage(memory_peak=peak)
    return Exit(state.exit_code, found.ended_at, oom=oom, message=state.error, usage=usage, steps=steps)


def epoch_seconds(time: str) -> float:
    """Read RFC 3339 with up to nanoseconds."""
    return datetime.fromisoformat(time).timestamp()
