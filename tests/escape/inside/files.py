"""Ways to files: of the runner, of other jobs, of the box."""

import errno
import os
import subprocess
from pathlib import Path

from tests.escape.inside.world import World, first_open, probe

GONE_BEFORE = frozenset({0, 1, 2})


def read(path: str, wanted: str) -> str:
    return path if wanted.encode() in Path(path).read_bytes() else ""


@probe
def journal(world: World) -> str:
    return first_open([f"{world['state']}/{name}" for name in ("journal.db", "journal.db-wal")])


@probe
def key_of_the_journal(world: World) -> str:
    return first_open([f"{world['state']}/journal.key"])


@probe
def credential_file(world: World) -> str:
    return read(world["credential"], world["secret"])


@probe
def put_into_the_boxs_queue(world: World) -> str:
    """Its jobs may name any path, with the rights of the runner."""
    path = Path(world["state"], "queue", "probe")
    path.write_text("x")
    path.unlink()
    return str(path)


@probe
def log_of_a_neighbour(world: World) -> str:
    spool = Path(world["state"], "spool")
    return ", ".join(path.name for path in spool.iterdir())


@probe
def own_end(world: World) -> str:
    """A job that failed could say that it did not."""
    control = Path(world["state"], "process")
    directories = [Path(os.environ["RUNNER_DEADLINE_FILE"]).parent.parent, *control.glob("*")]
    return first_open([str(path / name) for path in directories for name in ("exit", "pid", "spec")], os.O_WRONLY)


@probe
def own_deadline(_: World) -> str:
    return first_open([os.environ["RUNNER_DEADLINE_FILE"]], os.O_WRONLY)


@probe
def workspace_of_a_neighbour(world: World) -> str:
    return read(f"{world['neighbour_workspace']}/kept", world["neighbour_secret"])


@probe
def temporary_files_of_a_neighbour(world: World) -> str:
    name = world["neighbour_secret"]
    return first_open([f"{place}/{name}" for place in ("/tmp", "/var/tmp")])


@probe
def shared_memory_of_a_neighbour(world: World) -> str:
    return first_open([f"/dev/shm/{world['neighbour_secret']}"])


@probe
def credentials_in_the_home(world: World) -> str:
    return read(f"{world['home']}/.aws/credentials", world["secret"])


@probe
def private_file(world: World) -> str:
    return read(world["private"], world["secret"])


@probe
def readable_file(world: World) -> str:
    return read(world["readable"], "the box's")


@probe
def writable_file(world: World) -> str:
    return first_open([world["writable"]], os.O_WRONLY)


@probe
def new_files(world: World) -> str:
    """Where programs, settings and whatever starts by itself lie."""
    directories = ["/", "/etc", "/etc/cron.d", "/usr/bin", "/usr/local/bin", "/var/lib", "/root", "/home", "/opt"]
    for directory in [world["open_directory"], *directories]:
        path = Path(directory, "left-by-a-probe")
        try:
            path.write_text("x")
        except OSError:
            continue
        path.unlink()
        return directory
    return ""


@probe
def programs_of_the_box(_: World) -> str:
    return first_open(["/bin/sh", "/usr/bin/env", "/etc/passwd", "/etc/ld.so.cache"], os.O_WRONLY)


@probe
def second_name_in_the_workspace(world: World) -> str:
    """What the runner takes back afterwards would include it."""
    os.link(world["writable"], "second-name")
    Path("second-name").unlink()
    return world["writable"]


@probe
def move_out_of_the_workspace(world: World) -> str:
    Path("moved").write_text("x")
    target = Path(world["open_directory"], "moved")
    Path("moved").rename(target)
    target.unlink()
    return str(target)


@probe
def overwrite_what_runs_it(_: World) -> str:
    """CVE-2019-5736: the program outside that started the job is what ``exe`` leads to."""
    for pid in ("self", "1", str(os.getppid())):
        try:
            handle = os.open(f"/proc/{pid}/exe", os.O_PATH)
            os.close(os.open(f"/proc/self/fd/{handle}", os.O_WRONLY))
        except OSError as error:
            # That it runs just now is no protection: an attacker waits for its end.
            if error.errno != errno.ETXTBSY:
                continue
        return f"/proc/{pid}/exe"
    return ""


@probe
def open_descriptors(world: World) -> str:
    """Left open by whoever started it; with a directory among them every file is near."""
    return " ".join(name for name in world["descriptors"].split() if int(name) not in GONE_BEFORE)


@probe
def directory_from_outside(_: World) -> str:
    """CVE-2024-21626: a working directory, or a descriptor of one, that lies outside of the job's root."""
    root = Path("/").stat()
    for name in ("cwd", *(f"fd/{number}" for number in range(3, 32))):
        try:
            found = Path(f"/proc/self/{name}/../../../../../../../../../..").stat()
        except OSError:
            continue
        if not os.path.samestat(root, found):
            return name
    return ""


def found(program: str) -> str:
    """Return the path here of a program of the box or, in a container, of the same one of its image."""
    return program if Path(program).exists() else f"/usr/bin/{Path(program).name}"


def says(program: str, script: str) -> str:
    asked = subprocess.run([program, "-I", "-c", script], capture_output=True, text=True, timeout=5, check=False)
    return asked.stdout.strip()


@probe
def links_left_behind(world: World) -> str:
    """Whoever looks at them afterwards, as root, is to follow none; what became of it is seen from outside."""
    for name in ("private", "writable", "open_directory"):
        Path(name).symlink_to(world[name])
    Path("above").symlink_to(Path(world["private"]).parent)
    return ""


@probe
def set_uid_program(world: World) -> str:
    effective = says(found(world["set_uid"]), "import os; print(os.geteuid())")
    return "root" if effective == "0" and os.geteuid() != 0 else ""


@probe
def file_capabilities(world: World) -> str:
    status = says(found(world["capable"]), "print(open('/proc/self/status').read())")
    (effective,) = (line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return f"capabilities {effective}" if int(effective, 16) else ""
