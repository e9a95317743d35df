"""
What tokens of well-known services look like, as patterns of RE2: of a whole one, and of one that has only begun.

A shape says in few bytes that something is a token; from there on it goes on for as long as its characters do. Whatever
matches a whole shape still does so when it is cut off later, so where a stream is cut makes no difference. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Part = str | tuple[str, int]
"""Literal text, or a class of characters with how many there are at least."""

_ALNUM, _WORD = "[A-Za-z0-9]", "[A-Za-z0-9_-]"
_LOGIN = r"""[^\s/"'<>]"""
_ESCAPE = r"\\[bfnrt]|%[0-9A-Fa-f]{2}"
"""After one a word begins, though it ends in a letter or a digit."""
SHOWN_BYTES = 2
"""Of a shape that counts anywhere, so many may have gone on before it is known to have begun."""
URL, KEY = b"://", b"-----BEGIN "
"""How the two shapes begin of which only a part is secret."""


@dataclass(frozen=True)
class Shape:
    """
    One kind of token.

    Attributes:
        parts: what there must be.
        more: pattern of one step of what may follow; each beginning of such a sequence is one, too.
        step: pattern of what may be half a step.
        anywhere: whether it counts also in the middle of a word.
    """

    parts: tuple[Part, ...]
    more: str = ""
    step: str = ""
    anywhere: bool = False

    def whole(self) -> str:
        """Match all of one."""
        return "".join(_full(part) for part in self.parts) + (f"(?:{self.more})*" if self.more else "")

    def begun(self) -> str:
        """
        Match what may be the beginning of one, or one that may go on, at the end of the text.

        It does not count how much of it there is, since that is slow to match. Of a shape that counts anywhere the
        first bytes are not secret and often end a line that is not finished, so those alone begin none yet.
        """
        pattern = f"(?:{self.more})*{self.step}" if self.more else ""
        for part in reversed(self.parts[1:]):
            pattern = _half(part, pattern)
        head = str(self.parts[0])
        if self.anywhere:
            return f"{re.escape(head[: SHOWN_BYTES + 1])}(?:{_half(head[SHOWN_BYTES + 1 :], pattern)})?"
        return f"(?:\\b|{_ESCAPE})(?:{_half(head, pattern)})"


def _full(part: Part) -> str:
    return re.escape(part) if isinstance(part, str) else f"{part[0]}{{{part[1]},}}"


def _half(part: Part, then: str) -> str:
    """Match a beginning of this part, or all of it and what comes then."""
    if not isinstance(part, str):
        return f"{part[0]}*(?:{then})?"
    pattern = f"(?:{then})"
    for character in reversed(part):
        pattern = f"{re.escape(character)}(?:{pattern})?"
    return pattern


def _token(head: str, characters: str, least: int, more: str = "") -> Shape:
    return Shape((head, (characters, least)), more)


_PLAIN_HEADS = ("ghp_", "gho_", "ghs_", "ghu_", "ghr_", "npm_")
_OPENAI = ("sk-proj-", "sk-svcacct-", "sk-admin-", "sk-or-v1-", "sk-ant-")
_STRIPE = ("sk_live_", "rk_live_", "sk_test_", "rk_test_")
_SLACK = tuple(f"xox{kind}-" for kind in "abeoprs")

SHAPES: tuple[Shape, ...] = (
    *(_token(head, _ALNUM, 36) for head in _PLAIN_HEADS),
    _token("github_pat_", "[A-Za-z0-9_]", 22),
    _token("glpat-", _WORD, 20, "[A-Za-z0-9_.-]"),
    *(_token(head, "[A-Z0-9]", 16) for head in ("AKIA", "ASIA")),
    *(_token(head, "[A-Za-z0-9-]", 10) for head in _SLACK),
    _token("hf_", _ALNUM, 30),
    *(_token(head, _WORD, 20) for head in _OPENAI),
    _token("sk-", _ALNUM, 32),
    _token("AIza", _WORD, 35),
    _token("pypi-AgEI", _WORD, 40),
    *(_token(head, _ALNUM, 16) for head in _STRIPE),
    Shape(("eyJ", (_WORD, 8), ".eyJ", (_WORD, 8)), "[A-Za-z0-9_.-]"),
    Shape((URL.decode(), (r"""[^\s/:@"'<>]""", 0), ":", (_LOGIN, 1), "@"), anywhere=True),
    Shape(
        (KEY.decode(), ("[A-Z0-9 ]", 0), "PRIVATE KEY", ("[A-Z ]", 0), "-----"),
        r"[A-Za-z0-9+/=\r\n\\,:]|\n[ \t]+|: |-[A-Za-z0-9]",
        "-?",
        anywhere=True,
    ),
)
WHOLE = "|".join(shape.whole() for shape in SHAPES).encode()
BEGUN = f"(?:{'|'.join(shape.begun() for shape in SHAPES)})\\z".encode()

BEFORE_BYTES = 3
"""So many before a token tell whether it stands alone."""
_EDGE = re.compile(rf"(?:^|[^A-Za-z0-9_.-]|{_ESCAPE})\Z".encode(), re.DOTALL)
_WORD_RUN = re.compile(rb"[A-Za-z0-9_.-]*")


def counts(data: bytes, begin: int) -> bool:
    """Tell whether what matched a shape is one: most kinds are so only where no word goes on."""
    is_anywhere = data.startswith((URL, KEY), begin)
    return is_anywhere or _EDGE.search(data[max(0, begin - BEFORE_BYTES) : begin]) is not None


def next_after(data: bytes, begin: int) -> int:
    """Return the first place behind a shape's beginning where another one may begin: not within the same word."""
    if data.startswith((URL, KEY), begin):
        return begin + 1
    end = _WORD_RUN.match(data, begin).end()  # type: ignore[union-attr] # it matches anything
    key = data.find(KEY, begin, end + len(KEY))
    return end if key < 0 else key


def secret_part(token: bytes) -> tuple[int, int]:
    """Return where the secret in what matched a shape begins and ends: not at a URL's user or a key's first line."""
    if token.startswith(URL):
        return token.index(b":", len(URL)) + 1, len(token) - 1
    if token.startswith(KEY):
        return token.index(b"-----", len(KEY)) + 5, len(token)
    return 0, len(token)
