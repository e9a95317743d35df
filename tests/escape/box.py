"""
A box to break out of: a real runner with things worth having around it, and a job of somebody else beside.

What is told to the probes as their ``World`` is made here. Nothing of it lies in temporary directories, which jobs see
their own of.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
import zipapp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from adapters.containers.command import PROCESSES
from runner.receipt import Receipt
from tests.adapters.unprivileged import NOBODY
from tests.at_work import AtWork, at_work, until
from tests.cli.typed import LIMIT_S, clean_environ
from tests.markdown import ROOT

INSIDE = Path(__file__).with_name("inside")
SYSTEM_PYTHON = "/usr/bin/python3"
CARD = Path("/dev/runner-test-card")
JOB_SECONDS = 60
USAGE = 64
START_LIMIT_S = 15.0
NET_RAW = 1 << 13
APART = ("unshare", "--mount", "--uts", "--ipc", "--propagation=private")
BOMBS_BOUNDS = {"processes": PROCESSES, "memory_mib": 96, "disk_mib": 32}
"""What jobs of bombs are granted, and more processes than any may have."""
NEIGHBOUR = """
echo $SECRET > kept
for place in /tmp /var/tmp /dev/shm; do echo $SECRET > $place/$SECRET; chmod 666 $place/$SECRET; done
chmod 777 . kept
exec sleep 300
"""


@dataclass(frozen=True)
class Box:
    """The runner, what is worth having, and how jobs are submitted here."""

    at_work: AtWork
    directory: Path
    world: Mapping[str, str]
    image: str
    under: Sequence[str]

    def type(self, word: str, *words: object) -> subprocess.CompletedProcess[str]:
        """Type a command as the runner's user."""
        place = f"--state-dir={self.at_work.state}"
        command = [*self.under, sys.executable, "-m", "runner", word, place, *map(str, words)]
        environ = {**clean_environ(), "HOME": str(self.directory)}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environ)

    @property
    def image_words(self) -> list[str]:
        """Return what has a command run in this box's image."""
        return ["--image", self.image] if self.image else []

    def job(self, job_id: str, *names: str, more: str = "") -> Path:
        """Write the job that tries these probes, all where none is named."""
        places = {"probes.pyz": self.directory / "probes.pyz", "world.json": self.directory / "world.json"}
        inputs = "".join(f'[[inputs]]\nurl = "folder://{url}"\npath = "{path}"\n' for path, url in places.items())
        words = ["python3", "-I", "probes.pyz", "world.json", *names]
        file = self.directory / f"{job_id}.toml"
        image = f'image = "{self.image}"\n' if self.image else ""
        file.write_text(f"command = {json.dumps(words)}\nretries = 0\ntimeout = {JOB_SECONDS}\n{image}{more}\n{inputs}")
        return file

    def try_out(self, job_id: str, *names: str, more: str = "") -> dict[str, dict[str, str]]:
        """Run a job of probes and return what became of each."""
        done = self.type("submit", "--follow", "--id", job_id, self.job(job_id, *names, more=more))
        assert done.returncode != USAGE, done.stderr
        return answers(done.stdout)

    def receipt(self, job_id: str) -> Receipt:
        """Return how a job ended."""
        shown = self.type("show", job_id, "--json")
        assert shown.returncode == 0, shown.stderr
        return msgspec.json.decode(shown.stdout, type=Receipt)

    def control(self, *names: str, loose: str = "root") -> dict[str, dict[str, str]]:
        """
        Run the same probes with nothing in their way but what keeps them from harming this machine.

        ``loose``: as ``root``; as ``somebody`` who may gain rights; as root in a ``cloud``, on a network of its own.
        """
        with tempfile.TemporaryDirectory(dir=self.directory) as here:
            Path(here).chmod(0o777)
            Path(here, "deadline").touch()
            program = [SYSTEM_PYTHON, "-I", str(self.directory / "probes.pyz"), str(self.directory / "world.json")]
            # The one that takes /proc away comes last.
            words = [*APART, *_loosened(loose, here), *program, *sorted(names, key=lambda name: name == "unmount")]
            environ = {"PATH": os.environ["PATH"], "RUNNER_DEADLINE_FILE": f"{here}/deadline"}
            with open_to_children(here) as descriptor:
                return answers(
                    subprocess.run(
                        words, capture_output=True, text=True, check=True, timeout=LIMIT_S,
                        env=environ, cwd=here, pass_fds=[descriptor],
                    ).stdout
                )  # fmt: skip


def answers(output: str) -> dict[str, dict[str, str]]:
    """Return what a job of probes said of each."""
    said = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {answer.pop("probe"): answer for answer in said}


@contextmanager
def open_to_children(directory: str) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _loosened(loose: str, here: str) -> list[str]:
    match loose:
        case "cloud":
            return ["unshare", "--net", str(_cloud(here))]
        case "somebody":
            return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
        case _:
            return ["sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh"]


def _cloud(here: str) -> Path:
    """Return a program that plays the cloud in a network of its own, where it runs another program."""
    script = Path(here, "cloud")
    listener = "import socket, sys, subprocess; s = socket.create_server(('169.254.169.254', 80)); "
    listener += "sys.exit(subprocess.call(sys.argv[1:]))"
    script.write_text(
        "#!/bin/sh\nip link set lo up && ip addr add 169.254.169.254/32 dev lo || exit 9\n"
        f'exec {SYSTEM_PYTHON} -I -c "{listener}" "$@"\n'
    )
    script.chmod(0o755)
    return script


@contextmanager
def opened(user: int, *options: object, image: str = "", under: Sequence[str] = (), path: str = "") -> Iterator[Box]:
    """Start a runner as this user, whom ``under`` makes of root, with this PATH, and a neighbour for the probes."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="runner-test-", dir="/var/lib"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        world = _worth_having(directory, stack)
        zipapp.create_archive(_package(directory), directory / "probes.pyz")
        for file in (directory, *directory.rglob("*")):
            if str(file) not in (world["set_uid"], world["capable"]):
                os.chown(file, user, user)
        environ = {"PROBED_SECRET": world["secret"], "HOME": world["home"], **({"PATH": path} if path else {})}
        words = ("--certs-dir", directory / "certs", "--on-stop", "drain", *options)
        runner = stack.enter_context(at_work(Path(world["state"]), *words, environ=environ, under=under, gpus="none"))
        box = Box(runner, directory, {**world, "runner_pid": str(runner.process.pid)}, image, under)
        yield stack.enter_context(_beside_a_neighbour(box))


def _package(directory: Path) -> Path:
    """Lay the probes out as an archive that runs: its own main, and the package that it imports."""
    root = directory / "program"
    package = root / INSIDE.relative_to(ROOT)
    shutil.copytree(INSIDE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__main__.py").rename(root / "__main__.py")
    return root


def _worth_having(directory: Path, stack: ExitStack) -> dict[str, str]:
    secret = f"secret-{uuid.uuid4().hex}"
    sockets = Path(tempfile.mkdtemp(prefix="runner-test-", dir="/run"))
    stack.callback(shutil.rmtree, sockets)
    sockets.chmod(0o755)
    (directory / "open").mkdir()
    (directory / "open").chmod(0o777)
    for name, mode, text in (("private", 0o600, secret), ("readable", 0o644, "the box's"), ("writable", 0o666, "")):
        (directory / name).write_text(text)
        (directory / name).chmod(mode)
    _directories_of_secrets(directory, secret)
    return {
        "secret": secret,
        **{name: str(value) for name, value in BOMBS_BOUNDS.items()},
        "neighbour_secret": f"neighbours-{uuid.uuid4().hex}",
        "state": str(directory / "state"),
        "control": str(directory / "state" / "control.sock"),
        "credential": str(directory / "certs" / "queue.toml"),
        "home": str(directory / "home"),
        **{name: str(directory / name) for name in ("private", "readable", "writable")},
        "open_directory": str(directory / "open"),
        "card": _card(stack),
        "set_uid": _privileged(directory / "set-uid", "set-uid"),
        "capable": _privileged(directory / "capable", "capable"),
        "engine": _listening(stack, str(sockets / "engine.sock"), 0o660),
        "socket": _listening(stack, str(sockets / "everybody.sock"), 0o666),
        "abstract": _listening(stack, f"\0{secret}").lstrip("\0"),
        "port": _port(stack),
    }


def _directories_of_secrets(directory: Path, secret: str) -> None:
    for name in ("certs", "home", "home/.aws", "state"):
        (directory / name).mkdir(mode=0o700)
    (directory / "home" / ".aws" / "credentials").write_text(secret)
    queue = f'# {secret}\nkind = "folder"\nurl = "folder://{directory}/queue"\nsole_reader = true\n'
    (directory / "certs" / "queue.toml").write_text(queue)
    (directory / "certs" / "queue.toml").chmod(0o600)


def _card(stack: ExitStack) -> str:
    """Make a device that all may use, as cards are; this one gives nothing but zeros."""
    CARD.unlink(missing_ok=True)
    os.mknod(CARD, 0o666 | 0o020000, os.makedev(1, 5))
    stack.callback(CARD.unlink)
    CARD.chmod(0o666)
    return str(CARD)


def _privileged(target: Path, kind: str) -> str:
    shutil.copy(os.path.realpath(SYSTEM_PYTHON), target)
    if kind == "set-uid":
        target.chmod(0o4755)
    else:
        # <linux/capability.h>, version 2: effective, one permitted.
        os.setxattr(target, "security.capability", struct.pack("<5I", 0x02000001, NET_RAW, 0, 0, 0))
    return str(target)


def _listening(stack: ExitStack, path: str, mode: int = 0) -> str:
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    if mode:
        os.chmod(path, mode)  # noqa: PTH101 - an abstract one has no path
    listener.listen(16)
    return path


def _port(stack: ExitStack) -> str:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return str(listener.getsockname()[1])


@contextmanager
def _beside_a_neighbour(box: Box) -> Iterator[Box]:
    secret = box.world["neighbour_secret"]
    submitted = box.type(
        "submit",
        "--id",
        "neighbour",
        *box.image_words,
        "--cpus",
        0.1,
        "--env",
        f"SECRET={secret}",
        "--",
        "sh",
        "-c",
        NEIGHBOUR,
    )
    assert submitted.returncode == 0, submitted.stderr
    workspace = Path(box.world["state"], "workspaces")
    until(lambda: list(workspace.glob("neighbour.*/kept")), "the neighbour runs", START_LIMIT_S)
    until(lambda: _pids_of(secret), "the neighbour sleeps")
    (kept,) = workspace.glob("neighbour.*/kept")
    facts = {"neighbour_workspace": str(kept.parent), "neighbour_pid": str(min(_pids_of(secret)))}
    world = {**box.world, **facts}
    (box.directory / "world.json").write_text(json.dumps(world))
    try:
        yield Box(box.at_work, box.directory, world, box.image, box.under)
        assert _pids_of(secret), "the neighbour did not outlive the probes"
    finally:
        box.type("cancel", "neighbour")
        until(lambda: not _pids_of(secret), "the neighbour is gone")
        for place in ("/tmp", "/var/tmp", "/dev/shm"):
            Path(place, secret).unlink(missing_ok=True)


def _pids_of(secret: str) -> list[int]:
    return pids_with(f"SECRET={secret}", "sleep")


def pids_with(variable: str, program: str = "") -> list[int]:
    """Find the processes of this machine that have a variable in their environment, and run a program."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            has_it = variable in (process / "environ").read_text(errors="replace").split("\0")
            if has_it and (not program or (process / "comm").read_text() == f"{program}\n"):
                found.append(int(process.name))
    return found
