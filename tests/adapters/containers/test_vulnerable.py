"""What a box that refuses to give GPUs to containers while they are known to be open says, and when."""

from __future__ import annotations

import asyncio

import pytest

from adapters.containers.vulnerable import OpenEscapes, reason
from adapters.escapes import Part

RUNC = Part("runc", "1.1.11", "project")
MENDED = Part("runc", "1.1.5+ds1-1+deb12u1", "distribution")
TOOLKIT = Part("nvidia-container-toolkit", "1.17.7-1", "project")


def test_only_what_is_known_to_be_open_counts_and_is_named() -> None:
    assert reason(()) == ""
    assert reason((MENDED, Part("docker", "29.8.1", "nobody knows"))) == ""
    assert "(CVE-2025-23266 in nvidia-container-toolkit 1.17.7-1, CVE-2025-23267" in reason((MENDED, TOOLKIT))
    assert "CVE-2024-21626 in runc 1.1.11" in reason((RUNC,))
    assert "and 4 more" in reason((RUNC, TOOLKIT))


def test_an_engine_that_is_away_forbids_nothing() -> None:
    assert asyncio.run(OpenEscapes("unix:///nowhere.sock").why_no_gpus()) == ""


@pytest.mark.docker
@pytest.mark.integration
def test_a_real_engine_is_asked_once_in_a_while(docker_url: str) -> None:
    """What a distribution mended, or may have, forbids nothing."""

    async def main() -> list[str]:
        gate = OpenEscapes(docker_url)
        return [await gate.why_no_gpus() for _ in range(3)]

    assert len(set(asyncio.run(main()))) == 1
