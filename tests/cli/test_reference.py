"""What is generated stands in the checkout as it would be generated now."""

import re
from pathlib import Path

import msgspec
import pytest

from adapters.credential_keys import FILES
from runner.cli import credential_fields
from runner.cli.commands import COMMANDS
from runner.cli.job_fields import ABOUT
from runner.cli.reference import files
from runner.config import FIELDS, Config, load_file, resolve
from runner.job import Input, Job, Output, Resources
from runner.units import decode_hook
from tests.cli.typed import typed

HERE = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted(files()))
def test_generated_files_are_up_to_date(path: str) -> None:
    """Write them again with ``python -m runner.cli.reference``."""
    assert files()[path] == (HERE / path).read_text("utf-8")


def test_the_reference_configuration_is_the_default() -> None:
    """Whoever starts from runner.toml changes nothing by it."""
    file, name = load_file(HERE / "runner.toml")
    assert list(file) == list(FIELDS)
    assert resolve({}, {}, file, name)[0] == Config()


def test_every_key_is_an_option_of_run() -> None:
    """A key of the file is an option; nothing else is configured there."""
    options = set(re.findall(r"^  --(?:no-)?([a-z-]+)", typed("run", "--help").out, re.MULTILINE))
    assert {name.replace("_", "-") for name in FIELDS} | {"debug", "config"} == options


@pytest.mark.parametrize("document", ["job", "receipt", "config"])
def test_schema_prints_the_file(document: str) -> None:
    """The command gives what the checkout has."""
    assert (HERE / "examples" / "schema" / f"{document}.json").read_text() == typed("schema", document).out


def test_the_schema_names_every_field_and_refuses_others() -> None:
    """An editor that knows the schema marks a misspelt field."""
    schema = msgspec.json.decode(typed("schema", "job").out)
    job = schema["$defs"]["Job"]
    assert set(Job.__struct_fields__) == set(job["properties"])
    assert job["additionalProperties"] is False
    assert job["properties"]["stop_grace"]["default"] == 10


def test_defaults_of_the_schema_are_those_of_the_struct() -> None:
    """A default in the schema is what the runner takes."""
    properties = msgspec.json.decode(typed("schema", "config").out)["$defs"]["Config"]["properties"]
    described = {name: it["default"] for name, it in properties.items()}
    assert Config() == msgspec.convert(described, Config, dec_hook=decode_hook)


def test_the_reference_tells_every_field_and_command() -> None:
    """What can be written can be looked up."""
    kinds = {"": Job, "resources.": Resources, "inputs.": Input, "outputs.": Output}
    assert {f"{prefix}{name}" for prefix, kind in kinds.items() for name in kind.__struct_fields__} == set(ABOUT)
    assert {key for kind in FILES.values() for key in kind.__struct_fields__} == set(credential_fields.ABOUT)
    page = files()["REFERENCE.md"]
    assert set(COMMANDS) == set(re.findall(r"^### runner (\S+)$", page, re.MULTILINE))


def test_the_reference_lists_the_options_that_help_lists() -> None:
    """Two accounts of one thing that cannot drift apart."""
    for name in COMMANDS:
        page = files()["REFERENCE.md"].partition(f"### runner {name}\n")[2].partition("\n##")[0]
        helped = set(re.findall(r"^  (?:-\w(?: \S+)?, )?(--[a-z-]+)", typed(name, "--help").out, re.MULTILINE))
        told = set(re.findall(r"--[a-z-]+", " ".join(re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE))))
        configured = {f"--{key.replace('_', '-')}" for key in FIELDS} if "Takes every key" in page else set()
        assert helped - {"--help", "--state-dir", "--debug", "--config"} - configured == told - {"--config"}, name
