"""Messages that nobody should send: noise, and jobs with something wrong in them; each made from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

HARMLESS: dict[str, Any] = {
    "name": "poison",
    "user": "ada",
    "command": ["true"],
    "timeout": "20s",
    "retries": 0,
    "stop_grace": "1s",
    "env": {"EPOCHS": "3"},
    "resources": {"cpus": 0.1, "memory": "64MiB", "disk": "16MiB"},
    "inputs": [{"path": "in", "text": "x"}],
    "outputs": [],
}
ODD: tuple[Any, ...] = (
    *(None, True, -1, 10**30, 1.5e308, "", "\0", "\ud800", "x" * 5000, "../../etc/passwd", "ü", [], {}),
    *([[[[]]]], {"a": {"b": {}}}, ["", None], "1h", "-1s", "nan", "1e999"),
)


def poison(seed: int) -> bytes:
    """Return the message of a seed."""
    seeded = random.Random(seed)
    return seeded.choice(KINDS)(seeded, {"id": f"poison-{seed}", **HARMLESS})


def _noise(seeded: random.Random, _: dict[str, Any]) -> bytes:
    return seeded.randbytes(seeded.choice((0, 1, 7, 300, 20_000)))


def _cut_short(seeded: random.Random, job: dict[str, Any]) -> bytes:
    text = json.dumps(job).encode()
    return text[: seeded.randrange(len(text))]


def _flipped(seeded: random.Random, job: dict[str, Any]) -> bytes:
    text = bytearray(json.dumps(job).encode())
    for _ in range(seeded.randint(1, 5)):
        text[seeded.randrange(len(text))] = seeded.randrange(256)
    return bytes(text)


def _odd_value(seeded: random.Random, job: dict[str, Any]) -> bytes:
    job[seeded.choice(sorted(job))] = seeded.choice(ODD)
    return json.dumps(job).encode()


def _odd_value_below(seeded: random.Random, job: dict[str, Any]) -> bytes:
    part = seeded.choice(("resources", "env"))
    job[part] = {**job[part], seeded.choice(("cpus", "memory", "gpus", "EPOCHS", "nodes")): seeded.choice(ODD)}
    return json.dumps(job).encode()


def _unknown_field(seeded: random.Random, job: dict[str, Any]) -> bytes:
    job[seeded.choice(("comand", "kwargs", "", "\0", "image_", "__class__"))] = seeded.choice(ODD)
    return json.dumps(job).encode()


def _missing_field(seeded: random.Random, job: dict[str, Any]) -> bytes:
    del job[seeded.choice(("id", "command", "name"))]
    return json.dumps(job).encode()


def _deep(seeded: random.Random, _: dict[str, Any]) -> bytes:
    depth = seeded.choice((10, 1000, 100_000))
    return seeded.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth))


def _other_form(seeded: random.Random, job: dict[str, Any]) -> bytes:
    text = json.dumps(job)
    forms = (
        f"\ufeff{text}".encode(),
        text.encode("utf-16"),
        f"{text}{text}".encode(),
        b'id = "t"\ncommand = ["true"',
        b"null",
    )
    return seeded.choice(forms)


KINDS: tuple[Callable[[random.Random, dict[str, Any]], bytes], ...] = (
    *(_noise, _cut_short, _flipped, _odd_value, _odd_value_below, _unknown_field, _missing_field, _deep, _other_form),
)
