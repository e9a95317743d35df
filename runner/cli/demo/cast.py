"""
The six jobs of the demo: what each wants, what it runs, and how it must end.

The box is shared by all of them at once, so on few cores the small ones ask for little.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

import msgspec

from runner.cli.demo.account import BoxFacts
from runner.errors import ConfigurationError
from runner.job import EndReason

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "digits"
EPOCHS = 30
STEPS_AN_EPOCH = 103
"""1,437 digits in batches of 14."""

EVIL_MEMBER = "../../etc/passwd"
ROOMY_CORES = 6
TYPO_EXIT = 3
GPU_ONE_S, GPU_TWO_S = 8, 2
GPU_ONE_LIMIT = "15s"
_PROGRAMS = ("train.py", "curve.py")
_OUTPUTS = ("model.json", "metrics.json", "curve.svg")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Source(msgspec.Struct, frozen=True):
    """A local file that is uploaded as an input."""

    file: Path
    path: str
    unpack: bool = False


class Part(msgspec.Struct, frozen=True):
    """One job: its document but for the inputs, the files behind those, and its end."""

    id: str
    document: dict[str, object]
    expected: EndReason
    sources: tuple[Source, ...] = ()
    exit_code: int | None = None

    @property
    def resources(self) -> dict[str, object]:
        """Return what it asks for."""
        asked = self.document["resources"]
        return dict(asked) if isinstance(asked, dict) else {}

    @property
    def wants(self) -> str:
        """Say what it asks for, of a job with GPUs just those."""
        gpus, cpus = (self.resources.get(name, 0) for name in ("gpus", "cpus"))
        return f"{gpus} gpu{'' if gpus == 1 else 's'}" if gpus else f"{cpus} cpu"

    @property
    def expected_end(self) -> str:
        """Return the end that is expected, as it is shown."""
        return end_as_shown(self.expected.value, self.exit_code)


def end_as_shown(reason: str, exit_code: int | None) -> str:
    """Name an end: a failure with its exit code, all others by their reason."""
    return f"{reason}, exit {exit_code}" if reason == EndReason.FAILED and exit_code is not None else reason


def check_example() -> None:
    """
    Look whether the training stands where a checkout has it.

    Raises:
        ConfigurationError: it does not.
    """
    for name in (*_PROGRAMS, "digits.tar.gz"):
        if not (EXAMPLE / name).is_file():
            raise ConfigurationError(f"the demo needs {EXAMPLE / name}, which is not there: run it from a checkout")


def six_jobs(box: BoxFacts, outputs: Path, scratch: Path) -> tuple[Part, ...]:
    """Return the jobs in the order in which they are submitted; ``scratch`` gets the hostile archive."""
    small = _small_share(box)
    evil = scratch / "evil.tar"
    evil.write_bytes(evil_archive())
    typo = _part("typo", _training("--epoch", "5"), EndReason.FAILED, cpus=small, sources=_programs())
    hostile = (Source(evil, "data", unpack=True),)
    return (
        _digits(1 if box.cores > 1 else 0.6, outputs),
        _gpu_job("gpu-one", small, gpus=max(1, box.gpus - 1), seconds=GPU_ONE_S, timeout=GPU_ONE_LIMIT),
        _gpu_job("gpu-two", small, gpus=min(2, box.gpus), seconds=GPU_TWO_S, timeout="1m"),
        msgspec.structs.replace(typo, exit_code=TYPO_EXIT),
        _part("evil.tar", ["cat", "data"], EndReason.INPUT_REFUSED, cpus=small, sources=hostile),
        _part("forever", ["sh", "-c", _EVERY_SECOND], EndReason.CANCELLED, cpus=small),
    )


_EVERY_SECOND = 'n=0; while [ "$n" -lt 600 ]; do n=$((n + 1)); echo "second $n"; sleep 1; done'
"""For ever means ten minutes, should everything that could stop it be killed."""


def evil_archive() -> bytes:
    """Return an archive whose one member would replace the file of users on a careless box."""
    member = tarfile.TarInfo(EVIL_MEMBER)
    content = b"root::0:0::/:/bin/sh\n"
    member.size = len(content)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _digits(cpus: float, outputs: Path) -> Part:
    command = _training("--data", "data", "--out", ".", "--epochs", str(EPOCHS))
    data = Source(EXAMPLE / "digits.tar.gz", "data", unpack=True)
    part = _part("digits", command, EndReason.SUCCEEDED, cpus=cpus, sources=(data, *_programs()))
    stored = [{"path": name, "url": f"folder://{outputs}/"} for name in _OUTPUTS]
    return _with(part, timeout="5m", outputs=stored)


def _gpu_job(job_id: str, cpus: float, *, gpus: int, seconds: int, timeout: str) -> Part:
    command = ["sh", "-c", f'echo "GPUs: $CUDA_VISIBLE_DEVICES"; sleep {seconds}']
    part = _part(job_id, command, EndReason.SUCCEEDED, cpus=cpus)
    return _with(part, timeout=timeout, resources={"gpus": gpus, **part.resources})


def _part(
    job_id: str, command: list[str], expected: EndReason, *, cpus: float, sources: tuple[Source, ...] = ()
) -> Part:
    document: dict[str, object] = {"id": job_id, "name": job_id, "user": "demo", "command": command}
    document |= {"timeout": "10m", "stop_grace": "1s"}
    document["resources"] = {"cpus": cpus, "memory": "256MiB", "disk": "64MiB"}
    return Part(job_id, document, expected, sources)


def _with(part: Part, **fields: object) -> Part:
    return msgspec.structs.replace(part, document={**part.document, **fields})


def _small_share(box: BoxFacts) -> float:
    """What a small job asks for, so that five of them fit beside the training."""
    if box.cores >= ROOMY_CORES:
        return 1
    return 0.2 if box.cores > 1 else 0.08


def _training(*options: str) -> list[str]:
    return [_python(), "train.py", *options]


def _programs() -> tuple[Source, ...]:
    return tuple(Source(EXAMPLE / name, name) for name in _PROGRAMS)


def _python() -> str:
    """Name a Python that jobs find: they have the system's path, and a virtual environment may be hidden from them."""
    return "python3" if shutil.which("python3", path=_SYSTEM_PATH) else os.path.realpath(sys.executable)
