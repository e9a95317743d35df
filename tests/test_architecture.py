"""What ARCHITECTURE.md says is so: its tables of actors and messages agree with the program."""

from __future__ import annotations

import importlib
import re
from typing import get_args

import msgspec
import pytest

from runner import messages
from tests.markdown import ROOT, Page

ARCHITECTURE = Page("ARCHITECTURE.md")
ACTORS = ("sources", "poller", "inventory", "cache", "executor", "outputs", "logs")


def test_the_table_of_messages_names_each_of_them_once() -> None:
    """The table is the index of runner/messages."""
    defined = [name for name, kind in vars(messages).items() if is_message(kind)]
    assert sorted(defined) == sorted(row[0].strip("`") for row in ARCHITECTURE.table("message"))


def is_message(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__.startswith(messages.__name__)


@pytest.mark.parametrize("row", ARCHITECTURE.table("message"), ids=lambda row: row[0].strip("`"))
def test_a_message_goes_where_the_table_says(row: list[str]) -> None:
    """Its receivers are the actors whose union it stands in; its lane is the one that its docstring draws."""
    kind = getattr(messages, row[0].strip("`"))
    _, lane, receivers = re.split(r" ([→⇢]) ", row[1])
    assert {actor for actor in ACTORS if kind in handled_by(actor)} == set(receivers.split(", "))
    assert re.findall("[→⇢]", kind.__doc__)[0] == lane


def handled_by(actor: str) -> tuple[object, ...]:
    return get_args(getattr(importlib.import_module(f"actors.{actor}"), f"{actor.capitalize()}Message"))


def test_the_table_of_actors_is_whole() -> None:
    rooms = list((ROOT / "actors").glob("[!_]*"))
    assert {row[0] for row in ARCHITECTURE.table("actor")} == {f"`actors/{path.name}`" for path in rooms}
    assert {path.stem for path in rooms} == set(ACTORS)
