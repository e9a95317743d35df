"""What a job may ask for: what the box or its queue names, and the sentence where it is more."""

from __future__ import annotations

import msgspec
import pytest

from runner.config import Config
from runner.credential import Rights
from runner.job import Build, Job
from runner.policy import OWN_QUEUE, problem_with, widened

SOURCE = "lab.toml"
ASKED: dict[str, dict[str, object]] = {
    "network": {"network": "internet"},
    "capabilities": {"capabilities": ("CAP_PERFMON",)},
    "mounts": {"mounts": ("/data",)},
    "secrets": {"secrets": ("HF_TOKEN",)},
}


def problem(rights: Rights, asked: dict[str, object] | None = None, runtime: str = "container") -> str:
    job = msgspec.convert({"image": "lab/torch:2", **(asked or {})}, Job)
    return problem_with(job, rights, runtime=runtime, source=SOURCE)


def allowing(rule: str) -> Rights:
    return msgspec.convert(ASKED[rule] | ({"network": ("internet",)} if rule == "network" else {}), Rights)


def test_a_job_that_asks_for_nothing_is_allowed_everywhere() -> None:
    assert problem(Rights()) == problem(Rights(), runtime="process") == ""


@pytest.mark.parametrize("rule", ASKED)
def test_what_no_policy_names_is_refused_with_the_rule_and_the_line_to_write(rule: str) -> None:
    told = problem(Rights(), ASKED[rule])
    assert told.startswith(f"{rule}: ")
    assert f'write {rule} = ["' in told
    assert SOURCE in told


@pytest.mark.parametrize("rule", ASKED)
def test_what_a_queue_names_is_allowed_and_nothing_else(rule: str) -> None:
    assert problem(allowing(rule), ASKED[rule]) == ""
    for other in ASKED.keys() - {rule}:
        assert problem(allowing(rule), ASKED[other])


@pytest.mark.parametrize("rule", ["network", "capabilities", "mounts"])
def test_what_a_box_names_is_allowed_to_all_of_its_queues(rule: str) -> None:
    config = Config(network=("internet",), capabilities=("CAP_PERFMON",), mounts=("/data",))
    assert problem(widened(Rights(), config), ASKED[rule]) == ""


@pytest.mark.parametrize("rule", ["network", "capabilities", "mounts"])
def test_processes_get_none_of_it_whatever_is_allowed(rule: str) -> None:
    assert problem(allowing(rule), ASKED[rule], "process").startswith(f"{rule}: only containers get any")


def test_a_directory_below_one_that_is_named_is_another_one() -> None:
    assert problem(Rights(mounts=("/data",)), {"mounts": ("/data/private",)})


@pytest.mark.parametrize(
    ("image", "allowed"), [("lab/torch:2", True), ("lab/other:1", True), ("evil/lab/torch:2", False), ("lab", False)]
)
def test_images_are_those_of_the_list(image: str, *, allowed: bool) -> None:
    told = problem(Rights(images=("lab/*", "127.0.0.1:5000/*")), {"image": image})
    assert (told == "") is allowed
    assert allowed or image in told


def test_a_queue_says_what_its_box_leaves_open_and_wins_over_it() -> None:
    config = Config(seccomp="/box.json", oci_runtime="runsc")
    assert widened(Rights(), config).seccomp == "/box.json"
    assert widened(Rights(seccomp="/queue.json"), config).seccomp == "/queue.json"
    assert widened(Rights(), config).oci_runtime == "runsc"


@pytest.mark.parametrize(
    ("push", "allowed"), [("127.0.0.1:5000/lab/mine:1", True), ("127.0.0.1:5000/other", False), ("", True)]
)
def test_what_was_built_goes_only_where_the_queue_may_push(push: str, *, allowed: bool) -> None:
    job = Job(build=Build(push=push))
    for rights, expected in ((Rights(push=("127.0.0.1:5000/lab/",)), allowed), (Rights(), not push)):
        told = problem_with(job, rights, runtime="container", source=SOURCE)
        assert (told == "") is expected


@pytest.mark.parametrize(
    ("beginning", "name", "allowed"),
    [
        ("registry.example", "registry.example/lab/mine", True),
        ("registry.example", "registry.example.elsewhere.test/mine", False),
        ("registry.example", "registry.example:5000/mine", False),
        ("registry.example/lab", "registry.example/lab:1", True),
        ("registry.example/lab", "registry.example/lab@sha256:0", True),
        ("registry.example/lab", "registry.example/lab/mine", True),
        ("registry.example/lab", "registry.example/laboratory", False),
    ],
)
def test_a_beginning_is_one_of_whole_parts(beginning: str, name: str, *, allowed: bool) -> None:
    told = problem_with(Job(build=Build(push=name)), Rights(push=(beginning,)), runtime="container", source=SOURCE)
    assert (told == "") is allowed


@pytest.mark.parametrize(
    ("rule", "name", "right"), [("capabilities", "PERFMON", "CAP_"), ("mounts", "data", '"/data"')]
)
def test_what_no_file_may_say_is_not_advised(rule: str, name: str, right: str) -> None:
    told = problem(Rights(), {rule: (name,)})
    assert f"{rule}: {name} is not allowed" in told
    assert right in told
    assert f'["{name}"]' not in told


@pytest.mark.parametrize("rule", ASKED)
def test_the_boxs_own_queue_has_no_file_to_write_into(rule: str) -> None:
    job = msgspec.convert({"image": "lab/torch:2", **ASKED[rule]}, Job)
    told = problem_with(job, Rights(), runtime="container", source=OWN_QUEUE)
    assert OWN_QUEUE not in told
    assert ("credential file says secrets" if rule == "secrets" else "into runner.toml") in told
