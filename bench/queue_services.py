"""The services to measure on: what the environment names, else private ones of our own, as far as they are here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from tests.services.instances import started
from tests.services.service import ServiceError
from tests.services.table import SERVICES

VARIABLES = {
    "redis": ("redis", "RUNNER_TEST_REDIS"),
    "rabbitmq": ("rabbitmq", "RUNNER_TEST_RABBITMQ"),
    "sqs": ("localstack", "RUNNER_TEST_SQS"),
}
KINDS = ("folder", *VARIABLES)


def open_services(kinds: Sequence[str], stack: ExitStack) -> tuple[dict[str, str], dict[str, str]]:
    """Return the URLs of the services by kind, and of those that cannot be had the reason."""
    urls, absent = dict[str, str](), dict[str, str]()
    for kind in kinds:
        try:
            urls[kind] = _url(kind, stack)
        except ServiceError as error:
            absent[kind] = str(error)
    return urls, absent


def _url(kind: str, stack: ExitStack) -> str:
    if kind == "folder":
        return ""
    name, variable = VARIABLES[kind]
    return os.environ.get(variable) or stack.enter_context(started(SERVICES[name]))[variable]
