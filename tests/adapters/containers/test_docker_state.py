"""What the engine tells is read as it is meant, on engines and boxes that are not here to try."""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.containers.docker_state import Engineered, Inspected, epoch_seconds, exit_of, running_of


def inspected(*, exit_code: int = 0, oom: bool = False, memory: int = 0) -> Inspected:
    told: dict[str, Any] = {
        "Id": "c0ffee",
        "Image": "sha256:1",
        "State": {
            "Status": "exited",
            "StartedAt": "2026-11-22T04:02:12.861341917Z",
            "FinishedAt": "2026-11-22T04:02:13+00:00",
            "ExitCode": exit_code,
            "OOMKilled": oom,
        },
        "Config": {"User": "1000:1000", "Labels": None, "Env": None},
        "HostConfig": {"NetworkMode": "none", "Memory": memory, "DeviceRequests": None},
    }
    return msgspec.convert(told, Inspected)


def test_times_have_nanoseconds_or_none() -> None:
    later, earlier = epoch_seconds("2026-11-22T04:02:13Z"), epoch_seconds("2026-11-22T04:02:12.861341917Z")
    assert round(later - earlier, 6) == 0.138659


def test_the_limit_is_the_peak_of_what_ran_out_of_memory() -> None:
    """What was sampled before the kill is less."""
    assert exit_of(inspected(exit_code=137, oom=True, memory=1000), 700).usage.memory_peak == 1000
    assert exit_of(inspected(exit_code=137, memory=1000), 700).usage.memory_peak == 700
    assert exit_of(inspected(exit_code=137, oom=True), None).usage.memory_peak is None


def test_a_job_with_the_runners_own_uid_is_not_kept_apart_by_it() -> None:
    assert running_of("a", inspected(), ("swap",), own_uid=1000).isolation.missing == ("swap", "user")
    assert running_of("a", inspected(), ("swap",), own_uid=0).isolation.missing == ("swap",)


def test_what_an_engine_cannot_enforce_is_named() -> None:
    whole = {"MemoryLimit": True, "SwapLimit": True, "PidsLimit": True, "CpuCfsQuota": True}
    seccomp = {"SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin"]}
    assert msgspec.convert({**whole, **seccomp}, Engineered).missing == ()
    assert msgspec.convert({**whole, **seccomp, "SwapLimit": False}, Engineered).missing == ("swap",)
    assert msgspec.convert({**whole, "SecurityOptions": ["name=seccomp,profile=unconfined"]}, Engineered).missing == (
        "seccomp",
    )
