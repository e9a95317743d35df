"""Variables that change how code is loaded or which GPUs are seen do not get through, from a job or from an image."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.environment import passed_on, taken_from, taken_from_image, told

TAKEN = [
    "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_ANYTHING", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "CUDA_MPS_PIPE_DIRECTORY", "CUDA_VISIBLE_DEVICES", "PYTHONSTARTUP", "BASH_ENV", "ENV", "BASH_FUNC_ls%%",
    "GCONV_PATH", "GLIBC_TUNABLES", "NLSPATH", "LOCPATH", "RUNNER_JOB_ID", "RUNNER_SECRETS_DIR", "TINI_SUBREAPER",
    "GODEBUG",
]  # fmt: skip
KEPT = [
    "PATH",
    "HOME",
    "TMPDIR",
    "PYTHONPATH",
    "EPOCHS",
    "LDFLAGS",
    "CUDA_HOME",
    "CUDA_DEVICE_ORDER",
    "ENVIRONMENT",
    "ld_x",
]
HONEST = "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"


@pytest.mark.parametrize("name", TAKEN)
def test_a_job_cannot_set_it(name: str) -> None:
    env = {name: "value", "EPOCHS": "3"}
    assert (passed_on(env), taken_from(env)) == ({"EPOCHS": "3"}, (name,))


@pytest.mark.parametrize("name", KEPT)
def test_a_job_may_set_it(name: str) -> None:
    assert (passed_on({name: "value"}), taken_from({name: "value"})) == ({name: "value"}, ())


def test_an_image_loses_the_same_but_for_what_cuda_images_need() -> None:
    image = [f"{name}=/proc/self/cwd/x" for name in (*TAKEN, *KEPT)]
    assert taken_from_image(image) == tuple(sorted(TAKEN))
    assert taken_from_image([f"LD_LIBRARY_PATH={HONEST}", "NVIDIA_REQUIRE_CUDA=cuda>=12.4", "PATH=:/bin"]) == ()
    assert taken_from_image(["BASH_ENV=/etc/bash.bashrc", "ENV=/etc/shinit_v2"]) == ()


@pytest.mark.parametrize(
    "entry",
    [
        "", ".", "lib", "../lib", "/usr/../proc/self/cwd", "/usr/./lib", "//proc/self/cwd", "/proc/self/cwd", "/proc",
        "/dev/shm", "/sys/fs", "/tmp/lib", "/run/user/1000", "/var/tmp", "/home/u", "/work/lib", "$ORIGIN/lib",
        "/usr/$LIB", "/usr/lib;/proc/self/cwd", "/usr/lib;", "/usr/lib\n", "~/lib",
    ],
)  # fmt: skip
def test_a_search_path_of_an_image_goes_with_its_worst_entry(entry: str) -> None:
    """An empty or relative one means the directory in which a hook runs, which is the image's."""
    for value in (entry, f"{HONEST}:{entry}", f"{entry}:{HONEST}"):
        assert taken_from_image([f"LD_LIBRARY_PATH={value}"]) == ("LD_LIBRARY_PATH",)


@given(st.lists(st.text(alphabet="/.ab:;$proctmp", max_size=12), max_size=4).map(":".join))
def test_what_stays_of_a_search_path_is_absolute_and_plain(value: str) -> None:
    if taken_from_image([f"LD_LIBRARY_PATH={value}"]) == ():
        for entry in value.split(":"):
            assert entry.startswith("/")
            assert not {".", ".."} & set(entry.split("/"))
            assert not entry.startswith(("/proc/", "/tmp/", "//"))


def test_what_was_taken_is_told_by_name_and_never_at_length() -> None:
    line = told(tuple(f"LD_{number}" for number in range(12)))
    assert "LD_0, LD_1" in line
    assert line.endswith(" and 2 more")
