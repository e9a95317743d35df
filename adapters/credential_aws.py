"""
The AWS command line's own files: a ``credentials`` INI, and the ``config`` that stands beside it.

Told by what they say, whatever they are called. Served is the profile ``default``, or the only one. Pure; no sentence
here holds a value of a file.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Mapping

from adapters.unusable import Unusable

DEFAULT = "default"
_KEYS = re.compile(r"^[ \t]*aws_(access_key_id|secret_access_key)[ \t]*=", re.MULTILINE | re.IGNORECASE)
_SECTION = re.compile(r"(\s*([#;].*)?\n)*\s*\[(default|profile\s+[^\]\n]+|sso-session\s+[^\]\n]+)\]\s*\n")
_MEANT = {
    "aws_access_key_id": "access_key",
    "aws_secret_access_key": "secret_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
    "ca_bundle": "ca_file",
}
_LATER = ("role_arn", "source_profile", "credential_source", "credential_process", "web_identity_token_file",
          "sso_session", "sso_start_url")  # fmt: skip
"""Ways to other keys than those that stand there."""

Profiles = Mapping[str, Mapping[str, str]]


def has_keys(text: str) -> bool:
    """Tell whether a file holds AWS keys."""
    return _KEYS.search(text) is not None


def is_config(text: str) -> bool:
    """Tell whether a file is the part of AWS settings that holds no keys."""
    return not has_keys(text) and _SECTION.match(text + "\n") is not None


def read_keys(text: str, beside: Iterable[str] = ()) -> dict[str, object]:
    """
    Return what AWS files say as a document of kind ``sqs``; ``beside`` are the configs that stand in the same place.

    Raises:
        Unusable: it is malformed, says nothing that can be served, or asks for keys from elsewhere.
    """
    credentials = _profiles(text)
    name = _chosen(credentials)
    said: dict[str, str] = {}
    for profiles in (*(_profiles(config) for config in beside), credentials):
        said |= profiles.get(name, {})
    if later := [key for key in _LATER if key in said]:
        raise Unusable(f'{later[0]} is not served here: write kind = "sqs" and profile = "NAME" in a file of their own')
    document: dict[str, object] = {meaning: said[key] for key, meaning in _MEANT.items() if said.get(key)}
    if "region" not in document:
        raise Unusable("names no region: write region = eu-west-1 into it, or into the config beside it")
    return {"kind": "sqs", **document}


def _chosen(profiles: Profiles) -> str:
    """Name the profile that is meant."""
    with_keys = [name for name, said in profiles.items() if _MEANT.keys() & said.keys() and "aws_access_key_id" in said]
    if DEFAULT in with_keys or not with_keys:
        return DEFAULT
    if len(with_keys) > 1:
        raise Unusable("holds several profiles and none that is called default: give each a directory of its own")
    return with_keys[0]


def _profiles(text: str) -> Profiles:
    """Return what each profile says; a config calls them ``profile NAME``."""
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        raise Unusable(f"is no AWS file at line {error.lineno}: write [default] first") from None
    except configparser.ParsingError as error:
        raise Unusable(f"is no AWS file at line {error.errors[0][0]}: write lines like region = eu-west-1") from None
    except configparser.Error:
        raise Unusable("is no AWS file: write lines like region = eu-west-1 below [default]") from None
    return {re.sub(r"^profile\s+", "", section): dict(parser.items(section)) for section in parser.sections()}
