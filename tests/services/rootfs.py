"""
Root filesystems for test images, made of the host's own files, so that no registry is needed.

`busybox` holds the static busybox with its applets (2 MB). `host_python` adds the system's Python, its standard library
and the shared libraries that these load (about 37 MB).
"""

import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.services.service import ServiceError, find_program

EMPTY_DIRECTORIES = ("proc", "sys", "dev", "etc", "root", "run", "var")
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
# Loaded by name at run time, so the dynamic linker's list does not show them.
EXTRA_LIBRARIES = (
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
    "libm.so.6",
    "libgcc_s.so.1",
    "libz.so.1",
)
STDLIB_LEFT_OUT = frozenset(
    {
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "lib2to3",
        "ensurepip",
        "site-packages",
        "dist-packages",
        "pydoc_data",
        "__pycache__",
    }
)
LINKER_LINE = re.compile(r"(/\S+) \(0x")


class _Rootfs:
    """A tar being written, with merged /usr; the first entry of a name wins."""

    def __init__(self, target: Path) -> None:
        self._tar = tarfile.open(target, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 - closed by `close`
        self._names: set[str] = set()
        for top in ("bin", "sbin", "lib", "lib64"):
            self.directory(f"usr/{top}")
            self.link(top, f"usr/{top}")
        for name in EMPTY_DIRECTORIES:
            self.directory(name)
        self.directory("tmp", 0o1777)
        for name, text in ACCOUNTS.items():
            self._data(name, text.encode(), 0o644)

    def close(self) -> None:
        self._tar.close()

    def directory(self, name: str, mode: int = 0o755) -> None:
        for parent in reversed(Path(name).parents[:-1]):
            self._add(str(parent), tarfile.DIRTYPE, 0o755)
        self._add(name, tarfile.DIRTYPE, mode)

    def link(self, name: str, to: str) -> None:
        self._add(name, tarfile.SYMTYPE, 0o777, to)

    def host_file(self, path: str) -> None:
        mode = 0o755 if os.access(path, os.X_OK) else 0o644
        self._data(_merged(path), Path(path).read_bytes(), mode)

    def _add(self, name: str, kind: bytes, mode: int, to: str = "") -> None:
        if name in self._names:
            return
        self._names.add(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname = kind, mode, to
        self._tar.addfile(entry)

    def _data(self, name: str, content: bytes, mode: int) -> None:
        if name in self._names:
            return
        self.directory(str(Path(name).parent))
        self._names.add(name)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), mode
        self._tar.addfile(entry, io.BytesIO(content))


def write_busybox(target: Path) -> None:
    """Write the busybox root filesystem to `target` as a tar."""
    rootfs = _Rootfs(target)
    _add_busybox(rootfs)
    rootfs.close()


def write_host_python(target: Path) -> None:
    """Write busybox and the host's Python to `target` as a tar; `python3` is in /usr/bin there."""
    rootfs = _Rootfs(target)
    _add_busybox(rootfs)
    python, stdlib = _host_python()
    extensions = [str(path) for path in Path(stdlib, "lib-dynload").glob("*.so")]
    for library in sorted(_libraries([python, *extensions])):
        rootfs.host_file(library)
    rootfs.host_file(python)
    for name in ("python3", "python"):
        rootfs.link(f"usr/bin/{name}", os.path.relpath("/" + _merged(python), "/usr/bin"))
    for path in _stdlib_files(stdlib):
        rootfs.host_file(path)
    rootfs.close()


def _add_busybox(rootfs: _Rootfs) -> None:
    busybox = find_program("busybox")
    if busybox is None:
        raise ServiceError("no busybox to make images of: install busybox-static")
    if "statically linked" not in _linker_output(busybox):
        raise ServiceError(f"{busybox} is not static, so no image can be made of it: install busybox-static")
    rootfs.host_file(busybox)
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        # A link over the binary itself would leave an image without any program.
        if applet != "busybox":
            rootfs.link(f"usr/bin/{applet}", os.path.relpath("/" + _merged(busybox), "/usr/bin"))


def _host_python() -> tuple[str, str]:
    """Return the interpreter's real path and its library's; the system's Python, else the one that runs this."""
    python = os.path.realpath("/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable)
    script = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    result = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True)
    return python, result.stdout.strip()


def _libraries(programs: list[str]) -> set[str]:
    found = {match.group(1) for program in programs for match in LINKER_LINE.finditer(_linker_output(program))}
    folders = {str(Path(library).parent) for library in found if "-linux-gnu" in library}
    found |= {str(Path(folder, name)) for folder in folders for name in EXTRA_LIBRARIES if Path(folder, name).exists()}
    return found


def _linker_output(program: str) -> str:
    result = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    text = result.stdout + result.stderr
    return "statically linked" if "not a dynamic executable" in text else text


def _stdlib_files(stdlib: str) -> Iterator[str]:
    for root, directories, files in os.walk(stdlib):
        directories[:] = sorted(
            name for name in directories if name not in STDLIB_LEFT_OUT and not name.startswith("config-")
        )
        yield from (str(Path(root, name)) for name in sorted(files) if not name.endswith(".a"))


def _merged(path: str) -> str:
    """Give a host path its place under a merged /usr, without the leading slash."""
    return re.sub(r"^/(lib|lib64|bin|sbin)/", r"/usr/\1/", path).lstrip("/")
