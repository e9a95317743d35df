"""
Writes the reference files from the structs and the parser: ``runner.toml``, ``REFERENCE.md``, ``examples/schema``.

Tests compare them with what would be written now; ``python -m runner.cli.reference`` in the checkout writes them again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from adapters.credential_keys import FILES, LATER_KEYS, QUEUES, keys_of
from adapters.sinks.urls import OPTIONS
from runner.cli import credential_fields, sink_fields
from runner.cli.commands import COMMANDS
from runner.cli.job_fields import ABOUT
from runner.cli.parser import Parser, new_parser
from runner.cli.schema import DOCUMENTS, schema_text
from runner.cli.settings import about, kind_of, metavar, written
from runner.config import BARE_NAMES, FIELDS
from runner.job import ENDINGS, Input, Job, Output, Resources
from runner.units import Duration, Size
from runner.unserved import not_served

TOML_HEAD = """\
# Every key of the configuration with its default. Each is an option of `runner run` too (--max-jobs for max_jobs) and
# a variable (RUNNER_MAX_JOBS). Option, variable, file, default: the first that is set wins; `runner config explain`
# says which.
# DURATION: "90s", "30m", "1h30m", "7d", or a number of seconds. SIZE: "512MiB", "4GiB", or a number of bytes.
"""
PAGE_HEAD = """\
# Reference

Written by `python -m runner.cli.reference` from the program itself; a test compares it with what the program does.
Durations are written as `"90s"`, `"30m"`, `"1h30m"`, `"7d"` or a number of seconds, sizes as `"512MiB"`, `"4GiB"` or a
number of bytes. The documents of `--json` are described in `examples/schema`.
"""
STATUSES = (
    (0, "done; of `run`: drained or left"),
    (1, "it could not be done, for the reason that was said"),
    (64, "the command line or the job file cannot be used as it stands"),
    (69, "a needed service is unavailable, or no runner is running"),
    (70, "a fault of the program; `--debug` shows the details"),
    (78, "configuration: a bad value, or a state directory that is locked, foreign or read-only"),
    (130, "interrupted; `submit --follow` let go of a job that goes on"),
)
COMMON = {"--help", "--state-dir", "--debug"}
CONFIGURED = {*FIELDS, "config"}
UNITS = {"DURATION", "SIZE", "N", "DIR", "NAME,…"}


def runner_toml() -> str:
    """Return the reference configuration."""
    return TOML_HEAD + "".join(f"\n# {_comment(name)}\n{name} = {_toml(FIELDS[name].default)}\n" for name in FIELDS)


def _comment(name: str) -> str:
    unit = "true|false" if kind_of(name) is bool else metavar(name)
    return about(name) + (f" [{unit}]" if unit in UNITS or "|" in unit else "")


def _toml(value: object) -> str:
    match value:
        case Size() | Duration():
            return json.dumps(written(value)) if value else "0"
        case bool() | int() | float():
            return written(value)
        case tuple():
            return json.dumps(value)
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def reference_page() -> str:
    """Return the reference of commands, configuration, jobs and ends."""
    sections = (_commands(), _configuration(), _credential(), _sinks(), _job(), _ends(), _statuses())
    return PAGE_HEAD + "".join(f"\n{line}" if line.startswith("#") else line for part in sections for line in part)


def _commands() -> Iterator[str]:
    yield "## Commands\n\n"
    yield "Every command takes `--state-dir DIR` (`RUNNER_STATE_DIR`), `--debug` and `--help`.\n"
    for name, parser in _parsers():
        yield f"### runner {name}\n\n{COMMANDS[name].about[0].upper()}{COMMANDS[name].about[1:]}.\n"
        configured = any(action.dest == "config" for action in _actions(parser))
        if configured:
            yield "\nTakes every key of the configuration below as an option, and `--config FILE`.\n"
        if rows := [_option(action) for action in _actions(parser) if not (configured and action.dest in CONFIGURED)]:
            yield _table(("option", "what it does"), rows)


def _parsers() -> Iterator[tuple[str, Parser]]:
    parser = new_parser(COMMANDS)
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 - no public way
    yield from ((name, subparsers.choices[name]) for name in COMMANDS if name in subparsers.choices)


def _actions(parser: Parser) -> Iterator[argparse.Action]:
    actions = parser._actions  # noqa: SLF001 - argparse has no public way to list them
    return (action for action in actions if not COMMON & set(action.option_strings))


def _option(action: argparse.Action) -> tuple[str, str]:
    name = ", ".join(action.option_strings or [str(action.metavar or action.dest)])
    value = f" {action.metavar}" if action.option_strings and action.nargs != 0 else ""
    choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
    return f"`{name}{value}`", (action.help or "") + choices


def _configuration() -> Iterator[str]:
    yield "## Configuration\n\n"
    yield "A key of `runner.toml` is an option of `run` is a variable. The first that is set wins: "
    yield "option,\n`RUNNER_X`, "
    yield f"bare `X` (only {', '.join(f'`{name.upper()}`' for name in FIELDS if name in BARE_NAMES)}), file, default.\n"
    rows = [
        (f"`{name}`", f"`--{name.replace('_', '-')}`", f"`{_toml(field.default)}`", _comment(name))
        for name, field in FIELDS.items()
    ]
    yield _table(("key", "option", "default", "what it is"), rows)


def _credential() -> Iterator[str]:
    yield "## Credential file\n\n"
    later = ", ".join(f"`{name}`" for name in LATER_KEYS)
    yield "TOML, one file a service or a queue of it, in `certs_dir` or in a directory there. "
    yield f"Not served yet, and the file is refused by name: {later}.\n"
    yield "Besides: a `redis://`, `amqp://` or `sqs://` URL alone, and AWS `credentials` with their `config`.\n"
    fields = {field.name: field for struct in FILES.values() for field in keys_of(struct)}
    rows = [(f"`{name}`", *_of_kinds(name), credential_fields.ABOUT[name]) for name in fields]
    yield _table(("key", "kind", "default", "what it says"), rows)


def _of_kinds(key: str) -> tuple[str, str]:
    """Say which kinds have a key, and its default, where they differ each."""
    has = {kind: field for kind, struct in FILES.items() for field in keys_of(struct) if field.name == key}
    many = {len(FILES): "all", len(QUEUES): "all queues"}
    kinds = many.get(len(has)) or ", ".join(f"`{kind}`" for kind in has)
    told = {kind: _default(field) for kind, field in has.items()}
    usual = next(iter(told.values()))
    others = [f"{kind} {default or 'optional'}" for kind, default in told.items() if default != usual]
    return kinds, "; ".join([usual, *others])


def _sinks() -> Iterator[str]:
    yield "## Sinks\n\n"
    yield "URLs in `sinks`, of a credential file for its queues or of the configuration for all; a password only in "
    yield "the former.\nThe result backend of a queue always gets its logs.\n"
    rows = [(*sink_fields.FORMS[kind], ", ".join(f"`{name}`" for name in OPTIONS[kind])) for kind in OPTIONS]
    yield _table(("URL", "what arrives", "behind the `?`"), rows)
    yield _table(
        ("behind the `?`", "what it says"), [(f"`{name}`", about) for name, about in sink_fields.OPTIONS.items()]
    )


def _job() -> Iterator[str]:
    yield "## Job\n\n"
    later = ", ".join(f"`{name}`" for name in not_served(EVERYTHING))
    yield f"TOML or JSON, one to one. Not served yet, and rejected by name: {later}.\n"
    for heading, kind in (("", Job), ("resources", Resources), ("inputs", Input), ("outputs", Output)):
        if heading:
            yield f"### {heading}\n"
        rows = []
        for field in msgspec.structs.fields(kind):
            name = f"{heading}.{field.name}" if heading else field.name
            rows.append((f"`{field.name}`", _default(field), ABOUT[name]))
        yield _table(("field", "default", "what it says"), rows)


EVERYTHING = msgspec.convert(
    {
        "build": {}, "venv": {}, "exclusive": "box", "network": "lan",
        "capabilities": ["x"], "mounts": ["x"], "requires": {"x": "y"}, "secrets": ["x"], "continue_from": "x",
    },
    Job,
)  # fmt: skip
EVERYTHING = msgspec.structs.replace(
    EVERYTHING,
    resources=Resources(gpus=0.5, gpu_memory=Size(1), gpu_model="x", nodes=2),
    outputs=(Output("x", every=Duration(1), resume=True),),
)
"""A job that sets every field that some version does not serve."""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "must be set"
    plain = isinstance(field.default, (Duration, Size, bool, int, float, str)) and field.default != ""
    return f"`{_toml(field.default)}`" if plain else ""


def _ends() -> Iterator[str]:
    yield "## How a job ends\n"
    rows = []
    for reason, ending in ENDINGS.items():
        status = "its own" if ending.follow_exit is None else str(ending.follow_exit)
        verdict = "none" if ending.verdict is None else ending.verdict.value
        rows.append((f"`{reason.value}`", ending.whose.value, verdict, status if ending.verdict else "it goes on"))
    yield _table(("end reason", "whose", "verdict", "`--follow` exits"), rows)


def _statuses() -> Iterator[str]:
    yield "## Exit statuses\n"
    yield _table(("status", "meaning"), [(str(status), meaning) for status, meaning in STATUSES])


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def files() -> dict[str, str]:
    """Return every generated file's path in the checkout, and its text."""
    schemas = {f"examples/schema/{name}.json": schema_text(name) for name in DOCUMENTS}
    return {"runner.toml": runner_toml(), "REFERENCE.md": reference_page(), **schemas}


if __name__ == "__main__":
    for path, text in files().items():
        Path(path).write_text(text, "utf-8")
