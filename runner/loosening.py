"""How that is written which a policy names beyond the sealed default: one rule for files, keys and jobs. Pure."""

from __future__ import annotations

import re

_CAPABILITY = re.compile(r"CAP_[A-Z][A-Z_]*")
_NETWORK = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
"""A network's name stands in that of its bridge."""
_ENGINES_OWN = frozenset({"host", "bridge", "default"})
"""What an engine's users mean by these is never given."""
_FORMS = {
    "network": "network must be 1 to 20 small letters, digits or dashes, and not host, bridge or default, "
    'as in network = ["internet"]',
    "build_network": "build_network must be 1 to 20 small letters, digits or dashes, and not host, bridge or default, "
    'as in build_network = "internet"',
    "capabilities": 'capabilities must be written as in capabilities = ["CAP_PERFMON"]',
    "mounts": 'mounts must be absolute and without .., as in mounts = ["/data"]',
    "seccomp": 'seccomp must be absolute and without .., as in seccomp = "/etc/runner/perf.json"',
}
LOOSENINGS = tuple(_FORMS)


def misworded(key: str, *names: str) -> str:
    """Say how what this key names is to be written; "" where each name is."""
    return "" if all(_is_form_of(key, name) for name in names) else _FORMS[key]


def is_path(text: str) -> bool:
    """Tell an absolute path that climbs nowhere."""
    return text.startswith("/") and ".." not in text.split("/") and "\0" not in text


def _is_form_of(key: str, name: str) -> bool:
    match key:
        case "network" | "build_network":
            return _NETWORK.fullmatch(name) is not None and name not in _ENGINES_OWN
        case "capabilities":
            return _CAPABILITY.fullmatch(name) is not None
        case "mounts":
            return is_path(name) and name != "/"
        case _:
            return not name or is_path(name)
