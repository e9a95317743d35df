r"""
Bytes of a job on their way to a terminal: what would do harm there is made visible, like ``\x1b]``.

Text, tabs, ends of lines, carriage returns (progress bars) and colours (``ESC[…m``) pass. What moves the cursor,
clears, sets titles, asks the terminal for an answer, or rings does not, in 7 or 8 bits.
"""

from __future__ import annotations

import re

COLOUR_MAX_BYTES = 64
_COLOUR = rb"\x1b\[[0-9;:]{0,60}m"
_CHARACTERS = (
    rb"\xc2[\xa0-\xbf]",  # those below are control characters, too
    rb"[\xc3-\xdf][\x80-\xbf]",
    rb"\xe0[\xa0-\xbf][\x80-\xbf]",
    rb"[\xe1-\xec\xee\xef][\x80-\xbf]{2}",
    rb"\xed[\x80-\x9f][\x80-\xbf]",
    rb"\xf0[\x90-\xbf][\x80-\xbf]{2}",
    rb"[\xf1-\xf3][\x80-\xbf]{3}",
    rb"\xf4[\x80-\x8f][\x80-\xbf]{2}",
)
_PLAIN = rb"[\t\n\r\x20-\x7e]"
_HARM = re.compile(rb"((?:%s++|%s|%s)++)|(\xc2[\x80-\x9f]|.)" % (_PLAIN, _COLOUR, b"|".join(_CHARACTERS)), re.DOTALL)
_BEGUN = re.compile(
    rb"(?:\x1b(?:\[[0-9;:]{0,60})?|[\xc2-\xdf]|\xe0[\xa0-\xbf]?|[\xe1-\xec\xee\xef][\x80-\xbf]?|\xed[\x80-\x9f]?"
    rb"|\xf0(?:[\x90-\xbf][\x80-\xbf]?)?|[\xf1-\xf3][\x80-\xbf]{0,2}|\xf4(?:[\x80-\x8f][\x80-\xbf]?)?)\Z"
)
_HARMLESS = bytes([0x09, 0x0A, 0x0D, *range(0x20, 0x7F)])


class Harmless:
    """One stream's way to a terminal. What has only begun is held until it is whole: at most 64 bytes."""

    def __init__(self) -> None:
        """Begin with nothing held."""
        self._held = b""
        # Whether a colour was let through, which may hide what others write behind it.
        self.coloured = False

    def passed(self, data: bytes) -> bytes:
        """Return what may be written now of all that came until now."""
        data = self._held + data
        begun = _BEGUN.search(data, max(0, len(data) - COLOUR_MAX_BYTES))
        self._held = begun[0] if begun else b""
        return self._shown(data[: len(data) - len(self._held)])

    def rest(self) -> bytes:
        """Return what was held at the end, visible, and an end to colours."""
        held, self._held = self._held, b""
        coloured, self.coloured = self.coloured, False
        return self._shown(held) + (b"\x1b[0m" if coloured else b"")

    def _shown(self, data: bytes) -> bytes:
        if not data.translate(None, _HARMLESS):
            return data
        return _HARM.sub(self._one, data)

    def _one(self, found: re.Match[bytes]) -> bytes:
        if (whole := found[1]) is not None:
            self.coloured = self.coloured or b"\x1b" in whole
            return whole
        return b"\\x%02x" % found[2][-1]
