"""What every container runtime does with secrets: files in memory, for one job's user, gone with its container."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest

from adapters.containers.syscalls import is_in_memory
from runner.errors import SecretMissing
from runner.ports import ContainerSpec
from tests.conformance.container_harness import Harness
from tests.conformance.container_steps import STUBBORN, output, ran_as, until_it_says

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not is_in_memory("/dev/shm"), reason="no tmpfs for secrets here"),
]
VALUE = b"hunter2 \xff\n"
LOOK = """
import json, os
here = os.environ["RUNNER_SECRETS_DIR"]
state = os.stat(here + "/HF_TOKEN")
print(json.dumps({
    "names": sorted(os.listdir(here)), "value": open(here + "/HF_TOKEN", "rb").read().hex(),
    "mode": oct(state.st_mode & 0o7777), "mine": state.st_uid == os.getuid(),
    "env": {name: value.encode().hex() for name, value in os.environ.items()},
}))
"""


def with_secrets(harness: Harness, *command: str, in_env: bool = False, name: str = "job") -> ContainerSpec:
    spec = harness.spec(name, *command)
    return msgspec.structs.replace(spec, secrets=tuple(sorted(harness.secrets)), secrets_in_env=in_env)


def found(harness: Harness, *, in_env: bool) -> dict[str, object]:
    """Run a job that looks at its secrets."""

    async def main() -> dict[str, object]:
        async with harness.open() as containers:
            written, ended = await ran_as(containers, with_secrets(harness, "python3", "-c", LOOK, in_env=in_env))
        assert (ended.code, written["stderr"]) == (0, b"")
        seen: dict[str, object] = json.loads(written["stdout"])
        return seen

    return asyncio.run(main())


def test_a_job_finds_its_secrets_as_files_of_its_own_and_in_no_variable(harness: Harness) -> None:
    harness.secrets = {"HF_TOKEN": VALUE, "other": b"else"}
    seen = found(harness, in_env=False)
    assert (seen["names"], seen["value"]) == (["HF_TOKEN", "other"], VALUE.hex())
    assert (seen["mode"], seen["mine"]) == ("0o400", True)
    assert b"hunter2".hex() not in str(seen["env"])
    assert "HF_TOKEN" not in str(seen["env"])


def test_where_the_queue_says_so_they_are_variables_too(harness: Harness) -> None:
    """Without the line end that an editor put behind a token."""
    text = 'quo\'te "two" $HOME `ls` \\ \n second line'
    harness.secrets = {"HF_TOKEN": f"{text}\n".encode()}
    seen = found(harness, in_env=True)
    env = seen["env"]
    assert isinstance(env, dict)
    assert (seen["names"], bytes.fromhex(env["HF_TOKEN"]).decode()) == (["HF_TOKEN"], text)


@pytest.mark.parametrize("value", [b"a\0b", b"\xff"])
def test_what_no_variable_can_hold_is_refused_by_name(harness: Harness, value: bytes) -> None:
    harness.secrets = {"HF_TOKEN": value}
    refused(harness, "HF_TOKEN", in_env=True)


def refused(harness: Harness, word: str, *, in_env: bool = False) -> None:
    """Nothing is started, nothing is left, and the reason names what is missing."""

    async def main() -> None:
        async with harness.open() as containers:
            with pytest.raises(SecretMissing, match=word) as told:
                await containers.start(with_secrets(harness, "sh", "-c", "true", in_env=in_env))
            assert "hunter2" not in str(told.value)
            await containers.remove("job")
            assert await containers.list_ours() == ()

    asyncio.run(main())
    assert list(harness.in_memory.glob("*/*")) == []


def test_a_secret_that_the_box_lacks_is_named(harness: Harness) -> None:
    async def main() -> None:
        async with harness.open() as containers:
            spec = msgspec.structs.replace(harness.spec("job", "sh", "-c", "true"), secrets=("HF_TOKEN",))
            with pytest.raises(SecretMissing, match="HF_TOKEN"):
                await containers.start(spec)

    asyncio.run(main())


def test_a_box_without_a_place_in_memory_gives_none(harness: Harness) -> None:
    harness.secrets = {"HF_TOKEN": b"hunter2"}
    disk = harness.directory / "disk"
    if is_in_memory(str(harness.directory)):
        pytest.skip("the test's own directory is in memory")
    harness.places = (str(disk),)
    refused(harness, "in memory")
    assert not [path for path in disk.rglob("*") if path.is_file()]


def test_other_jobs_cannot_read_them(harness: Harness) -> None:
    """Nor list whose there are; where all jobs are the runner's user, nothing keeps them apart."""
    harness.secrets = {"HF_TOKEN": b"hunter2"}

    async def main() -> None:
        async with harness.open() as containers:
            running = await containers.start(with_secrets(harness, "sh", "-c", STUBBORN, name="job-a"))
            await until_it_says(containers, "job-a", b"ready")
            if {"user", "files"} <= set(running.isolation.missing):
                pytest.skip("jobs of this runner are not kept apart")
            places = " ".join(f"{path} {path}/*" for path in harness.in_memory.rglob("*"))
            script = f"cat {places}; ls {harness.in_memory} {places}; cat /proc/*/environ | tr '\\0' '\\n'"
            written, _ = await ran_as(containers, harness.spec("job-b", "sh", "-c", f"({script}) 2>&1; echo looked"))
            assert b"hunter2" not in written["stdout"]
            assert b"looked" in written["stdout"]

    asyncio.run(main())


def test_they_stand_on_no_disk_and_go_with_the_container_also_after_a_kill(harness: Harness) -> None:
    harness.secrets = {"HF_TOKEN": b"hunter2-of-this-test"}

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(with_secrets(harness, "sh", "-c", STUBBORN, in_env=harness.image == ""))
            await until_it_says(containers, "job", b"ready")
        on_disk = [path for path in harness.directory.rglob("*") if path.is_file() and holds(path, b"hunter2-of-this")]
        assert on_disk == []
        assert [path.name for path in harness.in_memory.rglob("HF_TOKEN")] == ["HF_TOKEN"]
        async with harness.open() as next_life:
            assert await next_life.list_ours() == ("job",)
            await next_life.remove("job")
            assert await next_life.list_ours() == ()

    asyncio.run(main())
    assert [path for path in harness.in_memory.rglob("*") if path.name in {"HF_TOKEN", "job"}] == []


def holds(path: Path, text: bytes) -> bool:
    return os.access(path, os.R_OK) and text in path.read_bytes()


def test_a_start_again_gives_the_values_of_now(harness: Harness) -> None:
    """A secret is looked up as a job starts, so the next one has the changed value."""
    harness.secrets = {"HF_TOKEN": b"old"}

    async def main() -> list[bytes]:
        said = []
        async with harness.open() as containers:
            for name, value in (("first", b"old"), ("second", b"new")):
                harness.secrets = {"HF_TOKEN": value}
                spec = with_secrets(harness, "sh", "-c", "cat $RUNNER_SECRETS_DIR/HF_TOKEN", name=name)
                written, _ = await ran_as(containers, spec)
                said.append(written["stdout"])
        return said

    assert asyncio.run(main()) == [b"old", b"new"]


def test_what_a_job_prints_of_them_is_covered_and_no_byte_moves(harness: Harness) -> None:
    """Also for the next life of the runner, which goes on where the log ends."""
    harness.secrets = {"HF_TOKEN": b"hunter2hunter3\n"}
    script = "printf 'a hunter2'; sleep 0.1; echo hunter3 b; echo hunter2hunter3 >&2"

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(with_secrets(harness, "sh", "-c", script))
            seen = await output(containers, "job")
            assert seen == {"stdout": b"a ************** b\n", "stderr": b"**************\n"}
        async with harness.open() as next_life:
            rest = await output(next_life, "job", {"stdout": 2, "stderr": 15})
            assert rest == {"stdout": b"************** b\n", "stderr": b""}

    asyncio.run(main())


SPELL = """
import base64, os, urllib.parse
value = open(os.environ["RUNNER_SECRETS_DIR"] + "/HF_TOKEN").read()
spelled = [value, urllib.parse.quote(value, safe=""), urllib.parse.quote(value, safe="").lower()]
spelled += [base64.b64encode(b"<" * shift + value.encode() + b">>").decode() for shift in range(3)]
print("".join(f"[{it}]\\n" for it in spelled) + "x" * 70000 + value)
print("ghp_" + "Ab1" * 12 + "\\nhalf of it: " + value[:5], end="")
"""


def test_other_spellings_and_tokens_are_covered_wherever_one_begins_to_read(harness: Harness) -> None:
    """Also where the secret lies across the chunks in which the output is read."""
    harness.secrets = {"HF_TOKEN": b"hunter2/hunter3+?"}

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(with_secrets(harness, "python3", "-c", SPELL))
            whole = (await output(containers, "job"))["stdout"]
            assert [line.strip(b"x") for line in whole.splitlines()] == [
                b"[*****************]",
                *[b"[***********************]"] * 2,
                b"[**********************8+Pg==]",
                b"[PG**********************Pj4=]",
                b"[PDx**********************z4+]",
                b"*" * 17,
                b"*" * 40,
                b"half of it: hunte",
            ]
            for has in (1, 9, 16400, 65536, 70200, len(whole) - 3, len(whole)):
                rest = await output(containers, "job", {"stdout": has})
                assert rest["stdout"] == whole[has:]

    asyncio.run(main())


def test_other_users_of_the_box_cannot_read_what_a_job_printed_before_it_was_covered(harness: Harness) -> None:
    """It goes with the container."""
    harness.secrets = {"HF_TOKEN": b"hunter2-of-this-test"}
    script = f"cat $RUNNER_SECRETS_DIR/HF_TOKEN; echo; {STUBBORN}"

    def raw() -> list[Path]:
        return [path for path in harness.raw_output.rglob("*") if path.is_file() and holds(path, b"hunter2-of-this")]

    async def main() -> None:
        async with harness.open() as containers:
            await containers.start(with_secrets(harness, "sh", "-c", script))
            await until_it_says(containers, "job", b"ready")
            assert [oct(path.stat().st_mode & 0o007) for path in raw()] == ["0o0"]
            await containers.remove("job")
            assert raw() == []

    asyncio.run(main())
