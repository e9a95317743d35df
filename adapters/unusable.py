"""Why a credential file cannot be used."""

from __future__ import annotations


class Unusable(ValueError):
    """The file cannot be used; the text says why and what to write, and holds no value of it."""
