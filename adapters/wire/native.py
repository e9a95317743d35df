"""
The native dialect: one job in TOML or JSON, one to one with ``runner.job.Job``.

What does not fit is told in one sentence and the id returned all the same, so that its sender can find it.
"""

from __future__ import annotations

import re
from typing import Literal, cast

import msgspec

from adapters.shape import convert, misfit
from adapters.wire.checks import problem_with
from adapters.wire.document import Unreadable, read
from adapters.wire.toml_text import write_toml
from runner.job import Job
from runner.log_json import log_json
from runner.ports import Decoded, LogLine
from runner.receipt import Event
from runner.units import encode_hook

_SHOWABLE_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,512}")
"""An id that breaks the rules is still shown, and hashed where it would be a name; an unprintable one is left out."""


class NativeDialect:
    """Decodes native jobs; encodes events and log records as JSON, each in one line."""

    def decode(self, body: bytes) -> Decoded:
        return decode(body)

    def encode(self, told: Event | LogLine) -> bytes:
        return log_json(told)


def decode(body: bytes) -> Decoded:
    """Read a message; never raises, whatever the bytes."""
    try:
        document = read(body)
    except Unreadable as error:
        return Decoded(Job(id=_shown_id(error.id)), str(error))
    return _fitted(document)


def _fitted(document: object) -> Decoded:
    try:
        job = cast("Job", convert(document, Job))
    except (ValueError, OverflowError) as error:
        job_id = document.get("id") if isinstance(document, dict) else None
        return Decoded(Job(id=_shown_id(job_id)), misfit(document, Job) or str(error))
    problem = problem_with(job)
    return Decoded(Job(id=_shown_id(job.id)) if problem else job, problem)


def _shown_id(found: object) -> str:
    return found if isinstance(found, str) and _SHOWABLE_ID.fullmatch(found) else ""


def encode_job(job: Job, form: Literal["json", "toml"]) -> bytes:
    """Write a job as a message, fields at their defaults left out; :class:`NativeDialect` reads back the same job."""
    document = without_defaults(job)
    return write_toml(document).encode() if form == "toml" else msgspec.json.encode(document)


def without_defaults(struct: msgspec.Struct) -> dict[str, object]:
    """Return a struct as plain values: only what differs from its default, whole numbers without a point."""
    fields = msgspec.structs.fields(struct)
    set_here = {field.encode_name: (getattr(struct, field.name), field) for field in fields}
    return {name: _plain(value) for name, (value, field) in set_here.items() if value != _default(field)}


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def _plain(value: object) -> object:
    match value:
        case msgspec.Struct():
            return without_defaults(value)
        case tuple():
            return [_plain(item) for item in value]
        case float():
            return int(value) if value.is_integer() else float(value)
        case _:
            return msgspec.to_builtins(value, enc_hook=encode_hook)
