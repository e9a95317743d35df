"""What the tests of the demo need: a box, its jobs, logs as they would be, and lines without their colours."""

import gzip
import hashlib
from pathlib import Path

from runner.cli.demo.account import BoxFacts
from runner.cli.demo.cast import Part, six_jobs
from runner.cli.demo.tables import Line
from runner.receipt import LogAccount

TWO_CORES = BoxFacts(cores=2, memory=1 << 34, gpus=2, why_simulated="no NVIDIA driver")


def plain(lines: list[Line]) -> list[str]:
    return ["".join(span if isinstance(span, str) else span[0] for span in line).rstrip() for line in lines]


def parts(box: BoxFacts, directory: Path) -> dict[str, Part]:
    return {part.id: part for part in six_jobs(box, directory / "out", directory)}


def training_log(*steps: int) -> bytes:
    return b"".join(b"step %d  loss 0.5\n" % step for step in steps)


def stored_log(directory: Path, content: bytes) -> LogAccount:
    archive = directory / "log.gz"
    archive.write_bytes(gzip.compress(content))
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return LogAccount(content.count(b"\n"), len(content), digest, url=f"folder://{archive}")
