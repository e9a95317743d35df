"""
A Docker engine of our own: all in one directory, no bridge, no firewall rules, no network but `none`.

Tests get `RUNNER_TEST_DOCKER` (its URL), `RUNNER_TEST_IMAGE_BUSYBOX` and `RUNNER_TEST_IMAGE_PYTHON` (image names).
Where NVIDIA's own hook is not installed a stand-in takes its place, so that requests for GPUs are accepted; it writes
what it was asked for to the file named by `RUNNER_TEST_GPU_HOOK_LOG`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from tests.services import rootfs
from tests.services.daemon import Daemon, running
from tests.services.engine import Engine
from tests.services.service import SYSTEM_PATH, Service, find_program

BUSYBOX_IMAGE = "runner-test-busybox:1"
PYTHON_IMAGE = "runner-test-python:1"
# Without these a second engine fights the first one over docker0 and its firewall chains.
PRIVATE_FLAGS = (
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--userland-proxy=false",
    f"--add-runtime=runc-ambient={Path(__file__).parents[2] / 'examples' / 'deployment' / 'runc-ambient'}",
)
IMAGES = MappingProxyType({BUSYBOX_IMAGE: rootfs.write_busybox, PYTHON_IMAGE: rootfs.write_host_python})
# The one place outside its own directory that the engine's containerd writes to.
PLUGINS = Path("/opt/containerd")
GPU_HOOK = "nvidia-container-runtime-hook"


@contextmanager
def start(directory: Path) -> Iterator[Mapping[str, str]]:
    """Start an engine that keeps everything in `directory`, with both test images in it."""
    with engine_in(directory, PRIVATE_FLAGS, IMAGES) as socket:
        yield {
            "RUNNER_TEST_DOCKER": f"unix://{socket}",
            "RUNNER_TEST_IMAGE_BUSYBOX": BUSYBOX_IMAGE,
            "RUNNER_TEST_IMAGE_PYTHON": PYTHON_IMAGE,
            "RUNNER_TEST_GPU_HOOK_LOG": str(directory / "gpu-hook.log"),
        }


@contextmanager
def engine_in(
    directory: Path,
    flags: Sequence[str],
    images: Mapping[str, Callable[[Path], None]],
    *,
    inside: Sequence[str] = (),
    has_gpus: bool = True,
) -> Iterator[Path]:
    """
    Start an engine with these flags and images (name and what writes its files), and yield its socket.

    `inside` is what it is run through, in the mount namespace that it has of its own. With `has_gpus` it takes requests
    for some.
    """
    socket = directory / "docker.sock"
    plugins_stood = PLUGINS.exists()
    engine = Engine(socket)
    daemon = Daemon(
        command=_command(directory, socket, flags, inside),
        environment=_environment(directory, has_gpus=has_gpus),
        log=directory / "dockerd.log",
        ready=engine.answers,
    )
    try:
        with running(daemon):
            _import_images(engine, directory, images)
            yield socket
            with suppress(OSError):
                engine.remove_all_containers()
    finally:
        if not plugins_stood:
            _remove_plugin_directory()


def _command(directory: Path, socket: Path, flags: Sequence[str], inside: Sequence[str]) -> list[str]:
    # In a mount namespace of its own: no mount of the engine outlives it, even if it is killed.
    return [
        *(["unshare", "--mount", "--propagation=slave", "--"] if find_program("unshare") else []),
        *inside,
        find_program("dockerd") or "dockerd",
        f"--data-root={directory / 'data'}",
        f"--exec-root={directory / 'exec'}",
        f"--pidfile={directory / 'pid'}",
        f"--config-file={_empty_configuration(directory)}",
        f"--host=unix://{socket}",
        *flags,
    ]


def _empty_configuration(directory: Path) -> Path:
    """Keep the machine's own daemon.json out: a host named there would be listened on as well."""
    path = directory / "daemon.json"
    path.write_text("{}\n")
    return path


def _environment(directory: Path, *, has_gpus: bool) -> dict[str, str]:
    hooks = directory / "hooks"
    if has_gpus and find_program(GPU_HOOK) is None:
        _write_gpu_hook(hooks, directory / "gpu-hook.log")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    # containerd leaves an account of its threads in TMPDIR when it is stopped the hard way.
    inherited["TMPDIR"] = str(directory)
    return {**inherited, "PATH": f"{hooks}:{inherited.get('PATH', '')}:{SYSTEM_PATH}"}


def _write_gpu_hook(hooks: Path, log: Path) -> None:
    # The engine offers its GPU driver only if it finds a program of this name as it starts.
    hooks.mkdir()
    hook = hooks / GPU_HOOK
    hook.write_text(
        "#!/bin/sh\n"
        'bundle=$(sed -E \'s/.*"bundle":"([^"]*)".*/\\1/\')\n'
        f'{{ echo "$*"; grep -oE \'"NVIDIA_[A-Z_]+=[^"]*"\' "$bundle/config.json"; }} >> \'{log}\'\n'
    )
    hook.chmod(0o755)


def _import_images(engine: Engine, directory: Path, images: Mapping[str, Callable[[Path], None]]) -> None:
    for tag, write in images.items():
        tar = directory / "rootfs.tar"
        write(tar)
        with tar.open("rb") as stream:
            engine.import_image(stream, tag, "/usr/bin:/bin")
        tar.unlink()


def _remove_plugin_directory() -> None:
    """Take away the empty directories that containerd made; what another made or filled stays."""
    for path in (PLUGINS / "bin", PLUGINS / "lib", PLUGINS):
        with suppress(OSError):
            path.rmdir()


SERVICE = Service(
    name="docker",
    purpose="containers: start, attach, limits, adoption",
    programs=("dockerd", "containerd", "runc", "busybox"),
    packages=("docker.io", "busybox-static"),
    root_needed=True,
    start=start,
)
