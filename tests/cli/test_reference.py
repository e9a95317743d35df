"""What is generated stands in the checkout as it would be generated now."""

import re
from pathlib import Path

import msgspec
import pytest

from runner.cli.reference import files
from runner.config import FIELDS, Config, load_file, resolve
from runner.job import Job
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
