"""A value that must not be printed by accident."""

from __future__ import annotations

from typing import final


@final
class Secret:
    """
    Text that appears only through :meth:`reveal`; ``str``, ``repr`` and JSON give ``***``.

    Two secrets are equal when their texts are; the hash is of the text.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self._text = text

    def reveal(self) -> str:
        """Return the text; call it only where it leaves for the service that needs it."""
        return self._text

    def __str__(self) -> str:
        """Return the mask."""
        return "***"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        """Return the mask, formatted."""
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        """Compare the texts."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        """Hash the text."""
        return hash(self._text)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        """Refuse to be serialised: a copy on disk would hold the text."""
        raise TypeError("a Secret cannot be serialised")
