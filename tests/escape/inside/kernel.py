"""Ways to what the whole box shares: its kernel, clock, name, devices and settings."""

import ctypes
import errno
import fcntl
import os
import signal
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.escape.inside.world import NotTriedError, World, call, first_open, permitted, probe

REBOOT, KEXEC, INIT_MODULE, SWAPON, ACCT = (169, 142), (246, 104), (175, 105), (167, 224), (163, 89)
SETTIMEOFDAY, CLOCK_ADJTIME, SETHOSTNAME, SYSLOG = (164, 170), (305, 266), (170, 161), (103, 116)
QUOTACTL, BPF, PERF, ADD_KEY = (179, 60), (321, 280), (298, 241), (248, 217)
USERFAULTFD, IO_URING_SETUP, FANOTIFY_INIT = (323, 282), (425, 425), (300, 262)
TIOCSTI = 0x5412
ADJ_TICK = 0x4000
QUOTA_OFF = 0x80000300
PROCESS_KEYRING = -2


@probe
def reboot(_: World) -> str:
    return permitted(REBOOT, 0, 0, 0, 0)


@probe
def kexec(_: World) -> str:
    return permitted(KEXEC, 0, 0, 0, 0xFFFF)


@probe
def kernel_module(_: World) -> str:
    return permitted(INIT_MODULE, b"", 0, b"", beyond=errno.ENOEXEC)


@probe
def swap_on(_: World) -> str:
    return permitted(SWAPON, b"/dev/null", 0)


@probe
def process_accounting(_: World) -> str:
    return permitted(ACCT, b"/no/such/file", beyond=errno.ENOENT)


@probe
def set_time(_: World) -> str:
    return permitted(SETTIMEOFDAY, None, (ctypes.c_int * 2)(99_999, 0))


@probe
def adjust_clock(_: World) -> str:
    return permitted(CLOCK_ADJTIME, 0, (ctypes.c_uint32 * 64)(ADJ_TICK))


@probe
def set_hostname(_: World) -> str:
    name = os.uname().nodename.encode()
    call(SETHOSTNAME, name, len(name))
    return "the name is set"


@probe
def quotas(_: World) -> str:
    return permitted(QUOTACTL, QUOTA_OFF, b"/dev/null", 0, None, beyond=errno.ENOTBLK)


@probe
def load_bpf(_: World) -> str:
    array = (ctypes.c_uint32 * 32)(2, 4, 4, 1)
    return f"descriptor {call(BPF, 0, array, 128)}"


@probe
def watch_whole_processor(_: World) -> str:
    clock = (ctypes.c_uint32 * 32)(1, 128, 0)
    return f"descriptor {call(PERF, clock, -1, 0, -1, 0)}"


@probe
def keyring(_: World) -> str:
    return f"key {call(ADD_KEY, b'user', b'probe', b'x', 1, PROCESS_KEYRING)}"


@probe
def userfaultfd(_: World) -> str:
    return f"descriptor {call(USERFAULTFD, 1)}"


@probe
def io_uring(_: World) -> str:
    return f"descriptor {call(IO_URING_SETUP, 1, (ctypes.c_uint32 * 64)())}"


@probe
def watch_files(_: World) -> str:
    report_names = 0x200
    return f"descriptor {call(FANOTIFY_INIT, report_names, 0)}"


@probe
def kernel_log(_: World) -> str:
    try:
        return first_open(["/dev/kmsg", "/proc/kmsg"])
    except OSError:
        read_all = 3
        return f"{call(SYSLOG, read_all, ctypes.create_string_buffer(4096), 4096)} bytes"


@probe
def kernel_memory(_: World) -> str:
    return first_open(["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"])


@probe
def disks(_: World) -> str:
    names = [*os.listdir("/sys/block"), "sda", "vda", "xvda", "nvme0n1"]  # noqa: PTH208 - names
    return first_open([f"/dev/{name}" for name in names])


@probe
def virtual_machines_and_fuse(_: World) -> str:
    return first_open(["/dev/kvm", "/dev/fuse", "/dev/loop-control", "/dev/vhost-net", "/dev/mapper/control"])


@probe
def card_not_granted(world: World) -> str:
    return first_open([world["card"], "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm"], os.O_RDWR)


@probe
def make_device(_: World) -> str:
    os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    return "memory, by a node of its own"


@probe
def type_for_others(_: World) -> str:
    terminals = ["/dev/tty", "/dev/console", "/dev/tty1", *(f"/dev/pts/{number}" for number in range(4))]
    for terminal in terminals:
        try:
            fcntl.ioctl(os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK), TIOCSTI, b"\n")
        except OSError:
            continue
        return terminal
    return ""


@probe
def settings_of_the_kernel(_: World) -> str:
    names = ("kernel/panic", "vm/drop_caches", "net/ipv4/ip_forward", "kernel/sysrq", "fs/protected_hardlinks")
    return first_open([f"/proc/sys/{name}" for name in names], os.O_WRONLY)


@probe
def core_pattern(_: World) -> str:
    return first_open(["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe"], os.O_WRONLY)


@probe
def sysrq(_: World) -> str:
    return first_open(["/proc/sysrq-trigger"], os.O_WRONLY)


def files_below(directories: list[str], depth: int = 3) -> Iterator[Path]:
    for directory in directories:
        for root, inner, files in os.walk(directory):
            if root.count("/") - directory.count("/") >= depth:
                inner.clear()
            yield from (Path(root, name) for name in files)


@probe
def sys_files(_: World) -> str:
    found = files_below(["/sys/kernel", "/sys/power", "/sys/module", "/sys/block"])
    return next((str(path) for path in found if os.access(path, os.W_OK)), "")


@probe
def control_groups(_: World) -> str:
    """Its own, whose limits it would lift, and those of others; a release agent would run as root outside."""
    found = files_below(["/sys/fs/cgroup"], depth=4)
    return next((str(path) for path in found if os.access(path, os.W_OK)), "")


@probe
def core_dump(_: World) -> str:
    pid = os.fork()
    if pid == 0:
        os.abort()
    return "its memory is on the disk" if os.WCOREDUMP(os.waitpid(pid, 0)[1]) else ""


@probe
def ports_of_the_machine(_: World) -> str:
    if os.uname().machine != "x86_64":
        raise NotTriedError(os.uname().machine)
    return f"returned {call((172, 0), 3)}"


@probe
def real_time(_: World) -> str:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "before everybody else"


@probe
def nicer(_: World) -> str:
    return f"niceness {os.nice(-5)}"


@probe
def higher_limits(_: World) -> str:
    import resource  # noqa: PLC0415 - it is in no place but this one

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == resource.RLIM_INFINITY:
        return "there is none"
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard + 1))
    except ValueError as refusal:
        raise PermissionError(refusal) from refusal
    return "one byte more"


@probe
def killed_last(_: World) -> str:
    """When memory runs out, jobs are to be ended before the runner."""
    own = Path("/proc/self/oom_score_adj")
    own.write_text(f"{int(own.read_text()) - 1}")
    return own.read_text().strip()


@probe
def open_files(_: World) -> str:
    enough = 70_000
    signal.alarm(20)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    while len(taken) < enough:
        taken.append(os.dup(taken[0]))
    return f"{enough} open files"


@probe
def loopback_down(_: World) -> str:
    """Only what is so is set again: a box's own network must not change by this."""
    import socket  # noqa: PLC0415 - the same

    with socket.socket() as any_socket:
        request = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, 0x8913, request), 16)
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", flags))
    return "interfaces change"
