"""How a runtime tells, in the middle of a job's output, that some of it is lost."""

from __future__ import annotations

import msgspec

from runner.ports import Chunk, Gap


def gap_chunk(reason: str) -> Chunk:
    """Return what stands for output that is missing, nobody knows how much."""
    return Chunk("gap", msgspec.json.encode(Gap(reason=reason)) + b"\n")
