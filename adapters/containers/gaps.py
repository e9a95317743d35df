"""How a runtime tells, in the middle of a job's output, that some of it is lost."""

from __future__ import annotations

import msgspec

from runner.ports import Chunk, Gap


def gap_chunk(reason: str, stream: str = "", resumes_at: int | None = None) -> Chunk:
    """Return what stands for output of one stream, or of both, that is missing, nobody knows how much."""
    return Chunk("gap", msgspec.json.encode(Gap(stream, reason=reason, resumes_at=resumes_at)) + b"\n")
