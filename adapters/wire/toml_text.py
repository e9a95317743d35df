"""Writes plain values as TOML, in the order given: keys first, then tables, then lists of tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def write_toml(document: Mapping[str, object]) -> str:
    """
    Return the text of a document of texts, numbers, booleans, lists and tables.

    Raises:
        TypeError: it holds something else.
    """
    return "\n".join(_table(document, ())) + "\n"


def _table(table: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    later: list[tuple[str, object]] = []
    for key, value in table.items():
        if isinstance(value, Mapping) or _is_list_of_tables(value):
            later.append((key, value))
        else:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in later:
        yield from _inner(value, (*path, key))


def _inner(value: object, path: tuple[str, ...]) -> Iterator[str]:
    name = ".".join(_key(part) for part in path)
    match value:
        case Mapping():
            yield f"\n[{name}]"
            yield from _table(value, path)
        case list():
            for item in value:
                yield f"\n[[{name}]]"
                yield from _table(item, path)
        case _:
            raise TypeError(value)


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: object) -> str:
    match value:
        case str():
            return _text(value)
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            raise TypeError(type(value))


def _text(text: str) -> str:
    """A TOML basic string is a JSON string, but that DEL must be escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
