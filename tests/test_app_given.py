"""What jobs are given, and what they are not: variables that others obey, and secrets that the box lacks."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from runner.credential import Credential, CredentialFile
from runner.errors import RunnerError, RuntimeMissing, SecretMissing
from tests.fakes.faults import raises
from tests.fakes.files import row, say
from tests.fakes.scenes import alive, ended, newest, now, put, reason, until
from tests.fakes.world import FakeWorld, key_of
from tests.virtual_time import run_virtual

SECRETS = CredentialFile("lab.toml", "1", Credential("secret", "/etc/runner/secrets"), note="2 secrets")


def own_lines(world: FakeWorld, job_id: str) -> str:
    """Return what the runner itself wrote into a job's log."""
    return b"".join(line.data for line in world.spool.lines[key_of(world, job_id)] if line.stream == "runner").decode()


def test_what_a_job_may_not_set_is_taken_out_and_told_by_name_alone() -> None:
    async def main() -> None:
        world = FakeWorld()
        env = {"LD_PRELOAD": "/work/hunter2.so", "NVIDIA_VISIBLE_DEVICES": "all", "EPOCHS": "3"}
        async with alive(world):
            await put(world, "shared", id="job", env=env)
            await until(lambda: world.containers.containers)
            (container,) = world.containers.containers.values()
            assert container.spec.env == {"EPOCHS": "3", "RUNNER_JOB_ID": "job", "RUNNER_ATTEMPT": "1"}
            await until(lambda: ended(world, "job"))
        said = own_lines(world, "job")
        assert said.count("LD_PRELOAD, NVIDIA_VISIBLE_DEVICES") == 1
        assert "hunter2" not in said
        assert "EPOCHS" not in said

    run_virtual(main())


def test_secrets_reach_the_runtime_by_name_as_the_queues_file_says() -> None:
    async def main() -> None:
        world = FakeWorld()
        async with alive(world):
            assert world.shown[1].credential is not None
            rights = world.shown[1].credential.rights
            say(world, "new", rights=msgspec.structs.replace(rights, secrets=("HF_TOKEN",), secrets_in_env=True))
            await asyncio.sleep(6)
            await put(world, "shared", id="may", secrets=["HF_TOKEN"])
            await put(world, "shared", id="may-not", secrets=["OTHER"])
            await until(lambda: world.containers.containers)
            (container,) = world.containers.containers.values()
            assert (container.spec.secrets, container.spec.secrets_in_env) == (("HF_TOKEN",), True)
            await until(lambda: ended(world, "may", "may-not"))
        assert (reason(world, "may"), reason(world, "may-not")) == ("succeeded", "rejected")

    run_virtual(main())


@pytest.mark.parametrize(
    "lacking",
    [
        SecretMissing("this box has no secret HF_TOKEN"),
        RuntimeMissing('oci_runtime = "runsc": the engine has no runtime of that name, only runc'),
    ],
)
def test_what_the_box_lacks_ends_the_attempt_at_once_as_the_boxs_fault(lacking: RunnerError) -> None:
    """Another box may have it, so nothing is held for minutes, and none of the job's own attempts is burnt."""

    async def main() -> None:
        world = FakeWorld()
        world.troubles["containers.start"] = raises(lacking)
        async with alive(world):
            await put(world, "shared", id="job")
            began = now()
            await until(lambda: newest(world, "job"))
            assert now() - began < 10
            receipt = newest(world, "job")
            assert receipt is not None
            assert (receipt.end_reason, receipt.verdict) == ("runner_fault", "retry")
            assert receipt.message == str(lacking)
            del world.troubles["containers.start"]
            await until(lambda: ended(world, "job"))

    run_virtual(main())


def test_a_file_of_secrets_is_shown_and_opens_nothing() -> None:
    async def main() -> None:
        world = FakeWorld()
        world.shown.append(SECRETS)
        async with alive(world) as runner:
            await asyncio.sleep(6)
            told = await row(runner, "lab.toml")
            assert (told.kind, told.state, told.note, told.queues) == ("secret", "in use", "2 secrets", ())
            assert not [name for name in world.ledger.opened if "secret" in name]
            world.shown[-1] = CredentialFile("lab.toml", "2", reason="lab.toml names /x, which cannot be read")
            await asyncio.sleep(6)
            told = await row(runner, "lab.toml")
            assert (told.state, told.reason) == ("unusable", "lab.toml names /x, which cannot be read")
            world.shown[-1] = SECRETS
            await asyncio.sleep(6)
            assert (await row(runner, "lab.toml")).state == "in use"
            world.shown.pop()

    run_virtual(main())
