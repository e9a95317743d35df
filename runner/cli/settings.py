"""The configuration as options of a command: made from the struct, so that no key can lack its option."""

from __future__ import annotations

import argparse
import os
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from runner.cli import paths
from runner.config import FIELDS, Config, Origin, load_file, resolve
from runner.errors import ConfigurationError
from runner.units import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.cli.parser import Parser

SIZE_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
DURATION_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def add_settings(parser: Parser) -> None:
    """Add one option for each key of the configuration, and ``--config``."""
    parser.add_argument("--config", metavar="FILE", help="a runner.toml (RUNNER_CONFIG)")
    group = parser.add_argument_group(
        "configuration", "each is a key of runner.toml and a variable too: --max-jobs is max_jobs and RUNNER_MAX_JOBS"
    )
    for name in FIELDS:
        if name != "state_dir":
            _add_setting(group, name)


def add_some_settings(parser: Parser, names: Sequence[str]) -> None:
    """Add the options of those keys alone, and ``--config``."""
    parser.add_argument("--config", metavar="FILE", help="a runner.toml (RUNNER_CONFIG)")
    for name in names:
        _add_setting(parser, name)


def _add_setting(group: argparse._ArgumentGroup | Parser, name: str) -> None:
    flag, about = "--" + name.replace("_", "-"), help_text(name).replace("%", "%%")
    if kind_of(name) is bool:
        group.add_argument(
            flag, dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=about
        )
        return
    group.add_argument(
        flag, dest=name, metavar=metavar(name), type=_checked(name), default=argparse.SUPPRESS, help=about
    )


def _checked(name: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            resolve({name: text}, {}, {}, "")
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error).split(f": {name}: ", 1)[-1]) from error
        return text

    return check


def kind_of(name: str) -> object:
    """Return the type of a key without what is said about it."""
    kind = FIELDS[name].type
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def about(name: str) -> str:
    """Return what the struct says about a key."""
    return next(str(meta.description) for meta in FIELDS[name].type.__metadata__ if isinstance(meta, msgspec.Meta))


def help_text(name: str) -> str:
    """Return a key's line of help: what it is, and its default."""
    default = written(FIELDS[name].default)
    return f"{about(name)} (default {default})" if default not in {"", "false"} else about(name)


def metavar(name: str) -> str:
    """Return the word that stands for a key's value in help."""
    kind = kind_of(name)
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, (Size, Duration)):
        return kind.__name__.upper()
    if name.endswith("_dir"):
        return "DIR"
    if kind == tuple[str, ...]:
        return "NAME,…"
    return "N" if kind is int else "TEXT"


def written(value: object) -> str:
    """Write a value of the configuration as people do, exactly."""
    match value:
        case bool():
            return str(value).lower()
        case Size():
            return _in_units(int(value), SIZE_UNITS)
        case Duration():
            return _in_units(int(value), DURATION_UNITS) if value.is_integer() else f"{float(value):g}s"
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _in_units(number: int, units: tuple[tuple[str, int], ...]) -> str:
    return next((f"{number // size}{unit}" for unit, size in units if number and number % size == 0), str(number))


def load(args: argparse.Namespace) -> tuple[Config, tuple[Origin, ...]]:
    """
    Return the configuration of this process and the origin of each value; the state directory is filled in.

    Raises:
        ConfigurationError: a key or value that cannot be used, with its place.
    """
    options = {name: getattr(args, name) for name in FIELDS if getattr(args, name, None) is not None}
    named = getattr(args, "config", None) or os.environ.get("RUNNER_CONFIG")
    file, file_name = load_file(Path(named) if named else None)
    config, origins = resolve(options, os.environ, file, file_name)
    state = Path(config.state_dir).absolute() if config.state_dir else paths.state_dir(args)
    return msgspec.structs.replace(config, state_dir=str(state)), origins
