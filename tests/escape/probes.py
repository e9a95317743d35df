"""
What a job tries in order to get out, or to harm: the table that SECURITY.md shows, and that the tests hold it to.

The program of each is the function of its name in ``tests/escape/inside``. It is held where the program is refused, or
gets nothing; it is open where it succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass

WAYS = ("docker", "view", "uid", "bwrap", "plain")
"""A container of the Docker engine, and the four ways of process jobs, best first."""
PROCESS = WAYS[1:]
SHARED = ("uid", "plain")
"""The ways without a view of their own."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """
    One thing that is tried.

    Args:
        name: the function of ``tests/escape/inside`` that tries it.
        gives: what whoever succeeds has.
        open: the ways in which it succeeds, which is told and not hidden.
        either: the ways in which it depends on the engine's version or the box's kernel.
        unproved: why no control run shows that the program can succeed; empty where one does.
    """

    name: str
    gives: str
    open: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    unproved: str = ""

    def told(self, way: str) -> str:
        """Return what SECURITY.md says of a way."""
        if way in self.either:
            return "depends"
        return "**open**" if way in self.open else "held"


def _row(name: str, gives: str, *is_open: str, either: tuple[str, ...] = (), unproved: str = "") -> Probe:
    return Probe(name=name, gives=gives, open=is_open, either=either, unproved=unproved)


MOUNTS = (
    _row("mount_tmpfs", "a directory of the box hidden behind its own"),
    _row("mount_proc", "a view of processes without what hides others"),
    _row("mount_bind", "a second path to what is read-only"),
    _row("mount_overlay", "a bug of a file system, reached without rights"),
    _row("mount_by_descriptor", "the same by the newer calls, which filters forget"),
    _row("copy_of_mounts", "the box's files, through a copy of the tree"),
    _row("remount_writable", "its root, written"),
    _row("attributes_of_mounts", "its root, written, by the newer call"),
    _row("unmount", "what lies beneath a mount that hides it"),
    _row("pivot_root", "another root"),
    _row("chroot", "another root, and by way of it the box's"),
    _row("file_by_handle", "any file of a disk by its number"),
    _row("unshare_user", "all capabilities in a user namespace, and the kernel's bugs behind them"),
    _row("unshare_mounts", "mounts of its own"),
    _row("unshare_network", "interfaces and firewall rules of its own"),
    _row("clone_user", "a user namespace, by another call"),
    _row("clone3_user", "a user namespace, by a call whose arguments no filter reads"),
    _row("unshare_by_other_numbers", "a user namespace, past a filter that knows 64-bit calls alone"),
    _row("enter_namespaces", "the box's mounts and network, by a process of it"),
)
KERNEL = (
    _row("reboot", "the box restarted"),
    _row("kexec", "another kernel", unproved="this needs a kernel that can load another"),
    _row("kernel_module", "code in the kernel", unproved="this needs a kernel with modules"),
    _row("swap_on", "memory of others, in a file of its own"),
    _row("process_accounting", "a log of whatever runs on the box"),
    _row("set_time", "leases and certificates that lapse"),
    _row("adjust_clock", "the same, slowly"),
    _row("set_hostname", "another name for the box"),
    _row("quotas", "no limits on a disk"),
    _row("load_bpf", "code in the kernel"),
    _row("watch_whole_processor", "what all others on a core do"),
    _row("keyring", "keys of others, and memory that no limit counts"),
    _row("userfaultfd", "time to win races in the kernel"),
    _row("io_uring", "calls that a filter does not see", either=("docker",)),
    _row("watch_files", "what others open"),
    _row("kernel_log", "addresses of the kernel, names of others' programs"),
    _row("kernel_memory", "all memory", unproved="needs a kernel that shows its memory"),
    _row("disks", "all files, past their rights"),
    _row("virtual_machines_and_fuse", "the kernel's drivers for virtual machines and file systems"),
    _row("card_not_granted", "a GPU of somebody else", *PROCESS),
    _row("make_device", "memory or a disk, by a node of its own"),
    _row("type_for_others", "a command typed into another's terminal"),
    _row("settings_of_the_kernel", "settings of the whole box"),
    _row("core_pattern", "a program run as root outside at the next crash"),
    _row("sysrq", "the box restarted", unproved="needs a kernel with these keys"),
    _row("sys_files", "settings of devices and of the kernel"),
    _row("control_groups", "no limits, and a program run as root outside"),
    _row("core_dump", "a disk full of memory"),
    _row("ports_of_the_machine", "devices, past their drivers", unproved="needs a kernel with this call"),
    _row("real_time", "a core that nobody else gets"),
    _row("nicer", "more of the cores than others"),
    _row("higher_limits", "limits of its own choosing"),
    _row(
        "killed_last", "others ended before it when memory runs out", either=WAYS,
        unproved="lowering takes a right that root lacks in some virtual machines",
    ),
    _row("open_files", "no file that anybody could open", either=("docker",), unproved="root's limit may be lower"),
    _row("loopback_down", "no network for anybody"),
)  # fmt: skip
PROCESSES = (
    _row("environ_of_the_runner", "whatever secrets the runner was started with"),
    _row("environ_of_a_neighbour", "secrets of another job", "plain"),
    _row("command_lines", "secrets in command lines", *SHARED),
    _row("memory_of_the_runner", "all credentials"),
    _row("memory_of_a_neighbour", "another job's data", "plain"),
    _row("read_memory_by_call", "another job's data, by a call", "plain"),
    _row("trace_a_neighbour", "another job, stopped and changed", "plain"),
    _row("trace_the_runner", "the runner, stopped and changed"),
    _row("descriptor_of_a_neighbour", "an open file or connection of another job", "plain"),
    _row("signal_a_neighbour", "another job ended", "plain"),
    _row("signal_the_runner", "the runner ended", "plain"),
    _row("slow_a_neighbour_down", "another job on one core with it", "plain"),
    _row("root_of_a_neighbour", "another job's files, past what hides them", "plain"),
    _row("files_by_the_first_process", "the box's files, by way of its first process", "bwrap"),
)
FILES = (
    _row("journal", "what other jobs are told", "plain"),
    _row("key_of_the_journal", "the same, decrypted", "plain"),
    _row("credential_file", "the queues of the box", "plain"),
    _row("put_into_the_boxs_queue", "a job that may name any path", "plain"),
    _row("log_of_a_neighbour", "what another job prints", "plain"),
    _row("own_end", "a failed job that says it succeeded", "plain"),
    _row("own_deadline", "another word about its end", "plain"),
    _row("workspace_of_a_neighbour", "another job's data, where that leaves it open to all", *SHARED),
    _row("temporary_files_of_a_neighbour", "the same in `/tmp`", *SHARED),
    _row("shared_memory_of_a_neighbour", "the same in `/dev/shm`", *SHARED),
    _row("credentials_in_the_home", "whatever the runner's user may reach", "plain"),
    _row("private_file", "files that only the runner's user may read", "bwrap", "plain"),
    _row("readable_file", "files of the box that all users may read", *PROCESS),
    _row("writable_file", "files of the box that all users may write", *SHARED),
    _row("new_files", "a file where the box would run it or fill up", *SHARED),
    _row("programs_of_the_box", "programs that others run"),
    _row("second_name_in_the_workspace", "a file of the box, taken for the job's own afterwards", *SHARED),
    _row("move_out_of_the_workspace", "a file of its own where all users may write", *SHARED),
    _row("overwrite_what_runs_it", "the program that starts containers, replaced (CVE-2019-5736)"),
    _row("open_descriptors", "what the runner or engine had open (CVE-2024-21626)"),
    _row("directory_from_outside", "the box's root, by a directory left open", unproved="needs a start that leaks one"),
    _row(
        "links_left_behind",
        "a file of the box stored as an output, or made the runner's",
        unproved="what became of them is seen from outside",
    ),
    _row("set_uid_program", "root, by a program that gives it"),
    _row("file_capabilities", "a capability, by a program that gives it"),
)
NETWORK = (
    _row("socket_of_an_engine", "root on the box, by a container engine"),
    _row("control_socket_of_the_runner", "jobs cancelled, logs read, the runner stopped", "plain"),
    _row("socket_for_everybody", "services that all users may speak to, as the message bus", *SHARED),
    _row("abstract_socket", "services without a path", *SHARED),
    _row("loopback_of_the_box", "services that listen for the box alone", *SHARED),
    _row("metadata_of_the_cloud", "the box's own cloud credentials", *SHARED),
    _row("interfaces", "whatever network the box is on", *SHARED),
    _row("raw_socket", "packets under another's name"),
    _row("packet_socket", "what others send and receive"),
    _row("socket_to_the_hypervisor", "the host of a virtual machine", either=("docker",)),
)
PROBES = (*MOUNTS, *KERNEL, *PROCESSES, *FILES, *NETWORK)
BOMBS = (
    _row("fork_bomb", "no process for anybody else"),
    _row("memory_bomb", "no memory for anybody else"),
    _row("shared_memory_bomb", "the same, by way of `/dev/shm`"),
    _row("temporary_files_bomb", "no disk for the runner, by way of `/tmp`"),
    _row("disk_bomb", "no disk for the runner"),
    _row("inode_bomb", "no more files on the runner's disk"),
    _row("what_stays_behind", "processes that outlive their job"),
)
"""Each is a job of its own, beside a neighbour; tried in containers and with `view`, whose limits are set."""
