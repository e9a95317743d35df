"""What the runner says of itself while it serves: plain lines on a terminal, one JSON document a line elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes of every record; what else a record has are the facts of its ``extra``."""

OURS = ("runner", "actors", "adapters")
"""What libraries say below INFO holds messages whole, and the keys and tokens of services."""

LIBRARIES = ("watchfiles", "aiohttp.access", "asyncio")
"""What they say at INFO says nothing about jobs or sources."""

TWICE = ("aiormq", "aio_pika", "aiobotocore.credentials")
"""What they call an error is one of ours, too, told once and with its queue; they tell it at each attempt."""


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Send what is said from ``level`` on to stderr, in the form that suits it; of libraries never less than INFO."""
    out: TextIO = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    handler.setFormatter(PlainLines() if out.isatty() else JsonLines())
    handler.addFilter(_may_be_told)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in LIBRARIES:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for name in TWICE:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.CRITICAL)


def _may_be_told(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or record.name.partition(".")[0] in OURS


def facts(record: logging.LogRecord) -> Mapping[str, object]:
    """Return what a record says beside its text."""
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


class PlainLines(logging.Formatter):
    """``12:00:01 INFO a job ended  job_id=digits-1``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback where there is one."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        told = " ".join(f"{name}={value}" for name, value in facts(record).items() if name != "action")
        line = f"{at} {record.levelname:<7} {record.getMessage()}" + (f"  {told}" if told else "")
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


class JsonLines(logging.Formatter):
    """One document a line: ``at``, ``level``, ``message``, ``logger``, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the document; what JSON does not know is written as its text, so a ``Secret`` as its mask."""
        document: dict[str, object] = {
            "at": round(record.created, 6),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            **facts(record),
        }
        if record.exc_info is not None:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)
