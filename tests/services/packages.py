"""
Debian packages for the services: what is missing, how large it is, installing it without starting daemons.

The package manager asks `policy-rc.d` before it starts a daemon. While packages are installed that file says no;
afterwards what stood there before stands there again, also after a failure.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.service import ServiceError

POLICY_FILE = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Set for the time of a test installation: no daemon starts.\nexit 101\n"
NEW_LINE = re.compile(r"(?P<count>\d+) newly installed")
URI_LINE = re.compile(r"^'\S+' \S+ (?P<bytes>\d+) ", re.MULTILINE)
DISK_LINE = re.compile(r"After this operation, (?P<size>[\d.,]+ \wB) of additional disk space")
INSTALL_TIMEOUT_S = 900.0
APT_OPTIONS = ("-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What installing means: packages that come new, bytes to download, disk space as the package manager words it."""

    packages: tuple[str, ...]
    new: int
    download_bytes: int
    disk: str


def plan(packages: Sequence[str]) -> Plan:
    """
    Ask the package manager what installing `packages` means, without doing it.

    Raises:
        ServiceError: There is no apt here, or it does not know one of the packages.
    """
    if shutil.which("apt-get") is None:
        raise ServiceError("no apt-get here: install these programs by the means of this system")
    text = _with_fresh_lists("install", "--print-uris", *packages)
    new, disk = NEW_LINE.search(text), DISK_LINE.search(text)
    return Plan(
        packages=tuple(packages),
        new=int(new["count"]) if new else 0,
        download_bytes=sum(int(match["bytes"]) for match in URI_LINE.finditer(text)),
        disk=disk["size"] if disk else "no",
    )


def install(packages: Sequence[str]) -> None:
    """Install `packages`; needs root. No daemon is started by it."""
    with no_daemon_starts():
        _with_fresh_lists("install", *packages)


@contextmanager
def no_daemon_starts(policy: Path = POLICY_FILE) -> Iterator[None]:
    """Keep the package manager from starting daemons, and put `policy` back as it was."""
    kept = policy.with_name(policy.name + ".kept-by-runner-tests")
    # A kept file that is already there comes from a run that was killed: it is the true original.
    if policy.exists() and not kept.exists() and policy.read_text() != POLICY_TEXT:
        shutil.copy2(policy, kept)
    new = policy.with_name(policy.name + ".new")
    new.write_text(POLICY_TEXT)
    new.chmod(0o755)
    new.replace(policy)
    try:
        yield
    finally:
        if kept.exists():
            kept.replace(policy)
        else:
            policy.unlink(missing_ok=True)


def _with_fresh_lists(verb: str, *arguments: str) -> str:
    """Call apt, and once more after an update if it fails: new machines have no package lists, old ones stale ones."""
    try:
        return _apt(verb, *arguments)
    except ServiceError:
        if os.geteuid() != 0:
            raise
    _apt("update")
    return _apt(verb, *arguments)


def _apt(verb: str, *arguments: str) -> str:
    command = ["apt-get", verb, *APT_OPTIONS, *arguments]
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise ServiceError(f"apt-get {verb} did not end within {INSTALL_TIMEOUT_S:.0f} s") from cause
    if result.returncode != 0:
        raise ServiceError(f"apt-get {verb} failed: {' | '.join(result.stderr.strip().splitlines()[-3:])}")
    return result.stdout
