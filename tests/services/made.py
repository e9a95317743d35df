"""
Environments of Python packages for services that are written in Python: made once from a locked list, kept for later.

They stand below the user's cache directory, named after what the list and the interpreter are, so that a changed list
makes a new one. Two runs at once take turns.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.services.service import ServiceError

DONE = ".made"
TIMEOUT_S = 600.0


def place(requirements: Path) -> Path:
    """Return the file that is there once the environment for this list is whole; `python_of` finds its interpreter."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    origin = requirements.read_bytes() + f"{sys.version} {os.path.realpath(sys.executable)}".encode()
    return cache / "gpu-runner-tests" / f"{requirements.stem}-{hashlib.sha256(origin).hexdigest()[:16]}" / DONE


def python_of(done: Path) -> Path:
    """Return the interpreter of an environment."""
    return done.parent / "bin" / "python"


def make(done: Path, requirements: Path) -> Path:
    """
    Make the environment unless it is there; return its interpreter.

    Raises:
        ServiceError: no package index answers, or it does not have these packages. The next call begins anew.
    """
    directory = done.parent
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            _fill(directory, requirements)
            done.touch()
    return python_of(done)


def _fill(directory: Path, requirements: Path) -> None:
    beside = Path(sys.executable).parent
    python = directory / "bin" / "python"
    _run([sys.executable, "-m", "venv", "--without-pip", str(directory)])
    # Wheels only: building one would fetch tools that no hash covers.
    wanted = ["--require-hashes", "--only-binary", ":all:", "-r", str(requirements)]
    try:
        _run([str(beside / "uv"), "pip", "install", "--quiet", "--python", str(python), *wanted])
    except ServiceError:
        # It does not read pip's configuration, which may be all that names an index here.
        pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--python", str(python)]
        _run([*pip, "install", "--quiet", *wanted])


def _run(command: list[str]) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise ServiceError(f"{' '.join(command[:3])}: {cause}") from cause
    if result.returncode != 0:
        last = " | ".join(result.stderr.strip().splitlines()[-3:])
        raise ServiceError(f"packages for it could not be installed; is a package index reachable? {last}")
