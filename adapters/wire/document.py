"""
Reads the bytes of a message as JSON or TOML, and says where they break.

Time and memory stay in proportion to the bytes: a message is read on the loop that keeps every lease alive. What would
make a parser slow or deep is refused first.
"""

from __future__ import annotations

import json
import re
import tomllib

from runner.job import MESSAGE_MAX_BYTES

_DOTS_MAX = 16
"""Parts of one dotted TOML key; the standard parser's work grows with their square."""
_STRING_OR_COMMENT = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+",
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(r"[=\[\]{},\n]")
_TRAILING_COMMA = re.compile(r"\s*+(,)\s*+[\]}]")
_JSON_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\]:,]', re.DOTALL)
_TOML_ID = re.compile(r"""^[ \t]*id[ \t]*=[ \t]*("(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')""", re.MULTILINE)
_TOML_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
_TOML_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


class Unreadable(ValueError):
    """The bytes are no document; ``id`` is the job's id where it could be read all the same."""

    def __init__(self, problem: str, job_id: str = "") -> None:
        super().__init__(problem)
        self.id = job_id


def read(body: bytes) -> object:
    """
    Return what JSON or TOML bytes say.

    Raises:
        Unreadable: they are too long, not UTF-8, empty, cut off or malformed; one sentence with line and column.
    """
    if len(body) > MESSAGE_MAX_BYTES:
        text = body[:MESSAGE_MAX_BYTES].decode("utf-8", "replace")
        raise Unreadable("the message is over 1 MiB: put large content into a store and name its URL", find_id(text))
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8: byte 0x{body[error.start]:02x} at offset {error.start}; write the job as UTF-8 text"
        raise Unreadable(problem, find_id(body.decode("utf-8", "replace"))) from None
    if not text.strip():
        raise Unreadable('the message is empty: write a job as TOML or JSON, at least command = ["…"]')
    return _read_json(text) if _looks_like_json(text) else _read_toml(text)


def find_id(text: str) -> str:
    """Return the value of the key ``id`` at the top of a document that may be broken behind it."""
    return _find_json_id(text) if _looks_like_json(text) else _find_toml_id(text)


def _looks_like_json(text: str) -> bool:
    """Tell the likelier one: TOML never begins with a brace, and a table's header holds no quoted text or nesting."""
    begin = text.lstrip("\ufeff \t\r\n")[:2].replace(" ", "")
    return begin.startswith(("{", '"', '["', "[{")) or begin == "["


def _read_json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise Unreadable(_json_problem(text, error), find_id(text)) from None
    except RecursionError:
        raise Unreadable("nested too deeply for a job", find_id(text)) from None
    except ValueError as error:
        raise Unreadable(str(error) if "digits" not in str(error) else _TOO_MANY_DIGITS, find_id(text)) from None


_TOO_MANY_DIGITS = "a number in the message has thousands of digits"


def _json_problem(text: str, error: json.JSONDecodeError) -> str:
    comma = _TRAILING_COMMA.match(text, len(text[: error.pos].rstrip(", \t\r\n")))
    if comma:
        line, column = text.count("\n", 0, comma.start(1)) + 1, comma.start(1) - text.rfind("\n", 0, comma.start(1))
        return f"malformed JSON at line {line}, column {column}: nothing stands behind this comma, so take it out"
    place = f"line {error.lineno}, column {error.colno}"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"truncated: the JSON begins and does not end; it breaks off after {place}; send the whole message"
    return f"malformed JSON at {place}: {error.msg[:1].lower()}{error.msg[1:]}"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"malformed JSON: {name} is no number that JSON knows")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # adds as it looks
        raise ValueError(f"the key {json.dumps(twice[:60])} stands twice in one JSON object: keep one")
    return document


def _read_toml(text: str) -> object:
    if max(piece.count(".") for piece in _BETWEEN_KEYS.split(_STRING_OR_COMMENT.sub("", text))) > _DOTS_MAX:
        raise Unreadable(f"a TOML key has more than {_DOTS_MAX} dotted parts", find_id(text))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(_toml_problem(text, str(error)), find_id(text)) from None
    except RecursionError:
        raise Unreadable("nested too deeply for a job", find_id(text)) from None
    except ValueError:
        raise Unreadable(_TOO_MANY_DIGITS, find_id(text)) from None


def _toml_problem(text: str, told: str) -> str:
    place = _TOML_PLACE.search(told)
    reason = _TOML_PLACE.sub("", told).replace("\n", " ")
    first_line = text.lstrip().partition("\n")[0]
    if "=" not in text and not first_line.startswith("["):
        return f"neither JSON nor TOML: line 1 begins {json.dumps(first_line[:30])}; write a job as TOML or JSON"
    reason = reason[:1].lower() + reason[1:200]
    last_line = text.count("\n") + 1
    if reason.startswith("cannot"):
        line = place[1] if place and place[1] else last_line
        return f"malformed TOML in line {line}: {reason}; is a key or table there twice?"
    if place is None or place[1] is None:
        return f"truncated: the TOML ends in the middle of line {last_line} ({reason}); send the whole message"
    return f"malformed TOML at line {place[1]}, column {place[2]}: {reason}"


def _find_json_id(text: str) -> str:
    """Follow braces and strings to the key at depth one; stop at the first id."""
    depth, previous, before = 0, "", ""
    for piece in _JSON_PIECE.finditer(text):
        found = piece[0]
        if depth == 1 and previous == ":" and before == '"id"' and found[0] == '"':
            return _unquoted(found)
        depth += (found in "{[") - (found in "}]")
        before, previous = previous, found
    return ""


def _find_toml_id(text: str) -> str:
    table = _TOML_TABLE.search(text)
    found = _TOML_ID.search(text[: table.start()] if table else text)
    return _unquoted(found[1]) if found else ""


def _unquoted(found: str) -> str:
    if found[0] == "'":
        return found[1:-1]
    try:
        value = json.loads(found)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""
