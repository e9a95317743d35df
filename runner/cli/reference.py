"""
Writes the reference files from the structs: ``runner.toml`` and ``examples/schema``; tests compare them.

Run ``python -m runner.cli.reference`` in the checkout to write them again.
"""

from __future__ import annotations

import json
from pathlib import Path

from runner.cli.schema import DOCUMENTS, schema_text
from runner.cli.settings import about, kind_of, metavar, written
from runner.config import FIELDS
from runner.units import Duration, Size

HEAD = """\
# Every key of the configuration with its default. Each is an option of `runner run` too (--max-jobs for max_jobs) and
# a variable (RUNNER_MAX_JOBS). Option, variable, file, default: the first that is set wins; `runner config explain`
# says which.
# DURATION: "90s", "30m", "1h30m", "7d", or a number of seconds. SIZE: "512MiB", "4GiB", or a number of bytes.
"""
UNITS = {"DURATION", "SIZE", "N", "DIR"}


def runner_toml() -> str:
    """Return the reference configuration."""
    return HEAD + "".join(f"\n# {_comment(name)}\n{name} = {_toml(FIELDS[name].default)}\n" for name in FIELDS)


def _comment(name: str) -> str:
    unit = metavar(name)
    if kind_of(name) is bool:
        unit = "true|false"
    return about(name) + (f" [{unit}]" if unit in UNITS or "|" in unit else "")


def _toml(value: object) -> str:
    match value:
        case Size() | Duration():
            return json.dumps(written(value)) if value else "0"
        case bool() | int():
            return written(value)
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def files() -> dict[str, str]:
    """Return every generated file's path in the checkout, and its text."""
    return {"runner.toml": runner_toml(), **{f"examples/schema/{name}.json": schema_text(name) for name in DOCUMENTS}}


if __name__ == "__main__":
    for path, text in files().items():
        Path(path).write_text(text, "utf-8")
