"""Ways to another view of files: mounts, roots and namespaces."""

import ctypes
import errno
import os
import platform
from pathlib import Path

from tests.escape.inside.world import NotTriedError, World, call, permitted, probe

MOUNT, UMOUNT, PIVOT_ROOT, CHROOT = (165, 40), (166, 39), (155, 41), (161, 51)
OPEN_TREE, FSOPEN, MOUNT_SETATTR = (428, 428), (430, 430), (442, 442)
NAME_TO_HANDLE, OPEN_BY_HANDLE = (303, 264), (304, 265)
UNSHARE, SETNS, CLONE, CLONE3 = (272, 97), (308, 268), (56, 220), (435, 435)
NEW_MOUNTS, NEW_USER, NEW_NET = 0x20000, 0x10000000, 0x40000000
BIND, REMOUNT, DETACH = 0x1000, 0x20, 2
AT_FDCWD, SIGCHLD = -100, 17


def mount(source: bytes, kind: bytes, flags: int = 0, data: bytes = b"") -> str:
    target = Path("mounted-here")
    target.mkdir(exist_ok=True)
    call(MOUNT, source, os.fsencode(target), kind, flags, data)
    return f"{kind.decode() or 'a directory'} is mounted"


@probe
def mount_tmpfs(_: World) -> str:
    return mount(b"none", b"tmpfs")


@probe
def mount_proc(_: World) -> str:
    return mount(b"none", b"proc")


@probe
def mount_bind(_: World) -> str:
    return mount(b"/", b"", BIND)


@probe
def mount_overlay(_: World) -> str:
    for name in ("upper", "work"):
        Path(name).mkdir(exist_ok=True)
    return mount(b"none", b"overlay", 0, b"lowerdir=/usr,upperdir=upper,workdir=work")


@probe
def mount_by_descriptor(_: World) -> str:
    return f"descriptor {call(FSOPEN, b'tmpfs', 0)}"


@probe
def copy_of_mounts(_: World) -> str:
    return f"descriptor {call(OPEN_TREE, AT_FDCWD, b'/', 1)}"


@probe
def remount_writable(_: World) -> str:
    call(MOUNT, None, b"/", None, BIND | REMOUNT, None)
    return "/ can be written"


@probe
def attributes_of_mounts(_: World) -> str:
    clear_read_only = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    call(MOUNT_SETATTR, AT_FDCWD, b"/", 0, clear_read_only, 32)
    return "/ can be written"


@probe
def unmount(_: World) -> str:
    call(UMOUNT, b"/proc", DETACH)
    return "/proc is gone"


@probe
def pivot_root(_: World) -> str:
    return permitted(PIVOT_ROOT, b"/", b"/", beyond=errno.EBUSY)


@probe
def chroot(_: World) -> str:
    Path("jail").mkdir(exist_ok=True)
    os.chroot("jail")
    for _step in range(64):
        os.chdir("..")
    os.chroot(".")
    return f"sees {len(os.listdir('/'))} entries of a root"  # noqa: PTH208 - relative to a root that is no path's


@probe
def file_by_handle(_: World) -> str:
    handle, mount_id = (ctypes.c_uint32 * 34)(128), ctypes.c_int()
    call(NAME_TO_HANDLE, AT_FDCWD, b".", handle, ctypes.byref(mount_id), 0)
    here = os.open(".", os.O_RDONLY)
    return f"descriptor {call(OPEN_BY_HANDLE, here, handle, os.O_RDONLY)}"


@probe
def unshare_user(_: World) -> str:
    call(UNSHARE, NEW_USER)
    return "all capabilities, in a user namespace"


@probe
def unshare_mounts(_: World) -> str:
    call(UNSHARE, NEW_MOUNTS)
    return "mounts of its own"


@probe
def unshare_network(_: World) -> str:
    call(UNSHARE, NEW_NET)
    return "a network of its own"


def as_child(pid: int) -> str:
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "a child with all capabilities, in a user namespace"


@probe
def clone_user(_: World) -> str:
    return as_child(call(CLONE, NEW_USER | SIGCHLD, 0, 0, 0, 0))


@probe
def clone3_user(_: World) -> str:
    arguments = (ctypes.c_uint64 * 8)(NEW_USER, 0, 0, 0, SIGCHLD, 0, 0, 0)
    return as_child(call(CLONE3, arguments, 64))


@probe
def unshare_by_other_numbers(_: World) -> str:
    """As a 32-bit program calls, which a filter of 64-bit numbers alone would let through."""
    if platform.machine() != "x86_64":
        raise NotTriedError(platform.machine())
    # mov eax, 310; mov ebx, NEW_USER; int 0x80; ret - with rbx kept.
    code = b"\x53\xb8\x36\x01\x00\x00\xbb\x00\x00\x00\x10\xcd\x80\x5b\xc3"
    return "all capabilities" if run_code(code) == 0 else ""


def run_code(code: bytes) -> int:
    import mmap  # noqa: PLC0415 - where memory may not be written and run, only this probe fails

    area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


@probe
def enter_namespaces(world: World) -> str:
    """Of the box, by any process of it that is seen."""
    pids = [world["runner_pid"], world["neighbour_pid"], "1"]
    refusal = OSError("none")
    for path in [f"/proc/{pid}/ns/{kind}" for pid in pids for kind in ("mnt", "net", "ipc", "uts")]:
        try:
            call(SETNS, os.open(path, os.O_RDONLY), 0)
        except OSError as error:
            refusal = error
        else:
            return path
    raise refusal
