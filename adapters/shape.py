"""
Explains why a decoded document does not fit a struct: which key, what is wrong, what to write.

msgspec does the decoding; this module is asked only what to tell the person who wrote the document. Every sentence
stands on one line, whatever the document holds.
"""

from __future__ import annotations

import difflib
import functools
import json
import sys
from collections.abc import Iterator
from typing import Any, TypeGuard

import msgspec
from msgspec import inspect

from runner.units import decode_hook

_SHOWN_CHARACTERS = 60
_A_NUMBER = "a number such as 1 or 0.25"
_NAMED = {"null": "null (leave the key out)", "true": "true", "false": "false"}


def misfit(document: object, kind: type, *, show_values: bool = True) -> str:
    """
    Return the first thing that does not fit, in the order of the struct's fields, or the empty text.

    With ``show_values`` off the sentence holds names of keys only: for files that carry secrets.
    """
    return next(_Fitting(show_values).check(document, _described(kind), ""), "")


def nearest(word: str, known: tuple[str, ...]) -> str:
    """Return ``; did you mean X?`` for the likeliest of the known words, or the empty text."""
    close = difflib.get_close_matches(word[:_SHOWN_CHARACTERS], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def quoted(text: str) -> str:
    """Show a text on one line, between quotes, cut to a length that a terminal shows."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return json.dumps(cut, ensure_ascii=not cut.isprintable())


@functools.cache
def _described(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


class _Fitting:
    """One pass over a document."""

    def __init__(self, show_values: bool) -> None:  # noqa: FBT001 - private
        self._show_values = show_values

    def check(self, value: object, kind: inspect.Type, where: str) -> Iterator[str]:  # noqa: C901 - one case a type
        match kind:
            case inspect.StructType():
                yield from self._struct(value, kind, where)
            case inspect.UnionType():
                yield from self._union(value, kind, where)
            case inspect.VarTupleType():
                yield from self._list(value, kind, where)
            case inspect.DictType():
                yield from self._table(value, kind, where)
            case inspect.LiteralType():
                yield from self._choice(value, kind, where)
            case inspect.CustomType():
                yield from self._unit(value, kind, where)
            case inspect.StrType() if not isinstance(value, str):
                yield self._must(where, "text", value)
            case inspect.BoolType() if not isinstance(value, bool):
                yield self._must(where, "true or false", value)
            case inspect.IntType() if not (_is_number(value) and isinstance(value, int)):
                yield self._must(where, "a whole number", value)
            case inspect.FloatType() if not (_is_number(value) and _is_finite(value)):
                yield self._must(where, _A_NUMBER, value)
            case _:
                return

    def _must(self, where: str, what: str, value: object) -> str:
        return f"{where or 'the document'} must be {what}, not {self._told(value)}"

    def _told(self, value: object) -> str:
        match value:
            case str():
                return f"text {quoted(value)}" if self._show_values else "text"
            case dict():
                return "a table"
            case list():
                return "a list"
            case None | bool():
                return _NAMED[json.dumps(value)]
            case int() | float():
                return _number(value) if self._show_values else "a number"
            case _:
                return f"a {type(value).__name__}"

    def _struct(self, value: object, kind: inspect.StructType, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield self._must(where, "a table of keys", value)
            return
        names = tuple(field.encode_name for field in kind.fields)
        for key in value:
            if key not in names:
                yield f"{_at(where, key)}: no such key{_meant(key, names, kind)}"
        for field in kind.fields:
            if field.encode_name in value:
                yield from self.check(value[field.encode_name], field.type, _at(where, field.encode_name))
            elif field.required:
                yield f"{_at(where, field.encode_name)} is missing"

    def _union(self, value: object, kind: inspect.UnionType, where: str) -> Iterator[str]:
        if value is None and any(isinstance(member, inspect.NoneType) for member in kind.types):
            return
        yield from self.check(value, next(m for m in kind.types if not isinstance(m, inspect.NoneType)), where)

    def _list(self, value: object, kind: inspect.VarTupleType, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield self._must(where, f"a list of {_plural(kind.item_type)}", value)
            return
        for index, item in enumerate(value):
            yield from self.check(item, kind.item_type, f"{where}[{index}]")

    def _table(self, value: object, kind: inspect.DictType, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield self._must(where, "a table of keys", value)
            return
        for key, item in value.items():
            yield from self.check(item, kind.value_type, _at(where, key))

    def _choice(self, value: object, kind: inspect.LiteralType, where: str) -> Iterator[str]:
        if value not in kind.values or not isinstance(value, str):
            words = [quoted(str(word)) for word in kind.values]
            what = f"{', '.join(words[:-1])} or {words[-1]}"
            hidden = isinstance(value, str) and not self._show_values
            yield f"{where} must be {what}" if hidden else self._must(where, what, value)

    def _unit(self, value: object, kind: inspect.CustomType, where: str) -> Iterator[str]:
        try:
            decode_hook(kind.cls, value)
        except OverflowError:
            yield f"{where} is too large"
        except ValueError:
            yield f"{where}: {self._unit_problem(value, kind.cls)}"

    def _unit_problem(self, value: object, kind: type) -> str:
        """Let the unit's own parser speak, of a value short enough to show."""
        shown = value if _is_short(value) else "…"
        try:
            decode_hook(kind, shown)
        except ValueError as error:
            told = self._told(shown).removeprefix("text ") if self._show_values else "the value"
            return str(error).replace(repr(shown), told)
        return "is too long"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    """Compare, since asking ``math.isfinite`` of a huge integer raises."""
    return -sys.float_info.max <= value <= sys.float_info.max


def _is_short(value: object) -> bool:
    """Tell whether a plain value fits the line; Python itself refuses to write out a huge integer."""
    match value:
        case str():
            return len(value) <= _SHOWN_CHARACTERS
        case int():
            return value.bit_length() <= 2 * _SHOWN_CHARACTERS
        case _:
            return isinstance(value, float)


def _number(value: float) -> str:
    return str(value) if _is_short(value) else "a number with too many digits"


def _at(where: str, key: str) -> str:
    shown = key if key.isidentifier() and len(key) <= _SHOWN_CHARACTERS else quoted(key)
    return f"{where}.{shown}" if where else shown


def _plural(kind: inspect.Type) -> str:
    match kind:
        case inspect.StrType():
            return 'texts, as in ["a", "b"]'
        case inspect.StructType():
            return "tables"
        case _:
            return "lists"


def _meant(key: str, names: tuple[str, ...], kind: inspect.StructType) -> str:
    for field in kind.fields:
        if key in _inner_names(field.type):
            return f" here; did you mean {field.encode_name}.{key}?"
    return nearest(key, names) or f"; known are {', '.join(names)}"


def _inner_names(kind: inspect.Type) -> tuple[str, ...]:
    match kind:
        case inspect.StructType():
            return tuple(field.encode_name for field in kind.fields)
        case _:
            return ()


def convert(document: object, kind: type[msgspec.Struct]) -> Any:
    """
    Decode a document that has no misfit.

    Raises:
        ValueError: it has one after all, in msgspec's words.
        OverflowError: a number in it is beyond what its field can hold.
    """
    try:
        return msgspec.convert(document, type=kind, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).splitlines()[0]) from None
