"""``runner schema``: JSON Schema made from the structs that decode the documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.cli.parser import add_command

if TYPE_CHECKING:
    import argparse

    import msgspec

    from runner.cli.parser import Subparsers

DOCUMENTS = ("job", "receipt", "config")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def add_parser(subparsers: Subparsers) -> None:
    """Add ``schema``."""
    parser = add_command(subparsers, "schema", print_schema)
    parser.add_argument("document", choices=DOCUMENTS, help="which one")


def print_schema(args: argparse.Namespace) -> int:
    """Print one schema, indented."""
    print(schema_text(args.document), end="")
    return 0


def schema_text(document: str) -> str:
    """Return the schema of a document as it stands in ``examples/schema``."""
    import msgspec

    from runner.config import Config
    from runner.job import Job
    from runner.receipt import Receipt
    from runner.units import schema_hook

    kinds: dict[str, type[msgspec.Struct]] = {"job": Job, "receipt": Receipt, "config": Config}
    schema = {"$schema": DIALECT, **msgspec.json.schema(_plain(kinds[document]), schema_hook=schema_hook)}
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _plain(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the same struct with plain numbers as defaults: msgspec describes no custom type as a default."""
    import msgspec

    fields = [
        (it.name, it.type) if it.required else (it.name, it.type, _default(it)) for it in msgspec.structs.fields(kind)
    ]
    forbid = kind.__struct_config__.forbid_unknown_fields
    return msgspec.defstruct(kind.__name__, fields, namespace={"__doc__": kind.__doc__}, forbid_unknown_fields=forbid)


def _default(field: msgspec.structs.FieldInfo) -> object:
    import msgspec

    from runner.units import Duration, Size, encode_hook

    if field.default is msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return encode_hook(field.default) if isinstance(field.default, (Size, Duration)) else field.default
