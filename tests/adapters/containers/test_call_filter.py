"""The filter of system calls: its numbers are the kernel's own, and it lets through what jobs live by."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from adapters.containers.call_filter import DENIED, filter_program

HEADERS = (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h"))
FILTERED = """
import errno, multiprocessing, os, socket, sys, threading
from adapters.containers.call_filter import filter_program
from adapters.containers.syscalls import filter_calls, unshare
filter_calls(filter_program())
thread = threading.Thread(target=print, args=["thread"]); thread.start(); thread.join()
print(os.waitstatus_to_exitcode(os.system("echo child")), flush=True)
socket.socket().close()
try: unshare(0x10000000)
except OSError as error: print(errno.errorcode[error.errno])
"""
FINDING = "from adapters.containers.confinement import find_confinement; find_confinement('/nowhere', None)"


@pytest.mark.parametrize("column", [0, 1])
def test_its_numbers_are_those_of_the_kernels_headers(column: int) -> None:
    if not HEADERS[column].exists():
        pytest.skip("no headers of the kernel are installed")
    theirs = dict(re.findall(r"__NR_(\w+)\s+(\d+)$", HEADERS[column].read_text(), re.MULTILINE))
    assert {name: int(theirs[name]) for name in DENIED} == {name: numbers[column] for name, numbers in DENIED.items()}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_there_is_one_for_each_machine_whose_numbers_are_known(machine: str) -> None:
    """The kernel takes whole instructions, 4,096 at most; elsewhere receipts say that there is none."""
    program = filter_program(machine)
    assert (len(program) % 8, 0 < len(program) // 8 <= 4096) == (0, machine != "riscv64")


@pytest.mark.integration
def test_programs_go_on_as_before_and_are_refused_what_is_denied() -> None:
    done = subprocess.run([sys.executable, "-c", FILTERED], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout.split()) == (0, ["thread", "child", "0", "EPERM"]), done.stderr


@pytest.mark.integration
def test_finding_out_what_a_box_can_do_leaves_nothing_behind() -> None:
    """Each start of a runner does it."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [sys.executable, "-c", FINDING],
            check=True,
            timeout=20,
            env={"TMPDIR": directory, "PATH": "/usr/bin:/bin", "PYTHONPATH": "."},
        )
        assert list(Path(directory).iterdir()) == []
