"""
How a container gets its GPUs, by UUID (MIG devices too): by NVIDIA's hook in the engine, or by CDI. Pure.

CDI names devices in files that NVIDIA's toolkit writes; engines know it since 25, and say what they found since 28.2.
"""

from __future__ import annotations

from typing import Any

from adapters.containers.docker_state import Engineered
from runner.errors import RuntimeMissing

NVIDIA = "nvidia"
CDI = "cdi"
API_TELLS_DEVICES = (1, 50)
_KIND = "nvidia.com/gpu="


def device_requests(uuids: list[str], way: str) -> list[dict[str, Any]]:
    """Return what the engine is asked for."""
    if not uuids:
        return []
    if way == CDI:
        return [{"Driver": "cdi", "DeviceIDs": [f"{_KIND}{uuid}" for uuid in uuids]}]
    return [{"Driver": "nvidia", "DeviceIDs": uuids, "Capabilities": [["gpu", "compute", "utility"]]}]


def way_of(handover: str, uuids: list[str], engine: Engineered, api: tuple[int, int]) -> str:
    """
    Choose how these GPUs are handed over: as configured, or with ``auto`` as the engine can.

    ``api`` is the newest version that it speaks.

    Raises:
        RuntimeMissing: CDI was asked for, and the engine has none, or does not know one of the GPUs by it.
    """
    if handover == NVIDIA:
        return NVIDIA
    obstacle = _obstacle_to_cdi(uuids, engine, api)
    if handover == CDI and obstacle:
        raise RuntimeMissing(f'gpu_handover = "cdi": {obstacle}; or write gpu_handover = "nvidia"')
    is_sure = handover == CDI or api >= API_TELLS_DEVICES or NVIDIA not in engine.runtimes
    return CDI if is_sure and not obstacle else NVIDIA


def _obstacle_to_cdi(uuids: list[str], engine: Engineered, api: tuple[int, int]) -> str:
    if not engine.cdi_directories:
        return 'the engine has no CDI: it takes Docker 25 or newer with {"features": {"cdi": true}} in daemon.json'
    if api < API_TELLS_DEVICES:
        return ""
    known = {device.id for device in engine.devices or ()}
    unknown = [uuid for uuid in uuids if f"{_KIND}{uuid}" not in known]
    where = ", ".join(engine.cdi_directories)
    return (
        f"no file in {where} names {', '.join(unknown)}: write one with "
        "`nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml`"
        if unknown
        else ""
    )
