"""The keys of credential files, one struct a kind. What stands in every kind stands in one place."""

from __future__ import annotations

from typing import Literal

import msgspec

from runner.credential import QueueRights
from runner.units import Duration

LATER_KEYS = ("stores", "allow_endpoints")
"""Rights that nothing grants yet. A file that names one is refused: who wrote it counts on it."""


class QueueFile(QueueRights, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every kind of queue may say."""

    lease: Duration = Duration(60)
    timeout: Duration | None = None
    match: str = ""
    mismatch: str = ""


class FolderFile(QueueFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Queues in a directory."""

    kind: Literal["folder"]
    url: str


class LoginFile(QueueFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A service that is reached by a URL, as a user."""

    url: str
    username: str = ""
    password: str = ""
    ca_file: str = ""


class RedisFile(LoginFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Streams in Redis."""

    kind: Literal["redis"]


class RabbitFile(LoginFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Queues of RabbitMQ; a claim there outlasts a longer outage, since nothing else holds it."""

    kind: Literal["rabbitmq"]
    lease: Duration = Duration(600)
    management: str = ""
    queue_type: Literal["quorum", "classic"] | None = None


class SqsFile(QueueFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Queues of SQS; without keys, those of the default chain."""

    kind: Literal["sqs"]
    url: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    profile: str = ""
    endpoint: str = ""
    ca_file: str = ""


class SecretFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Secrets that jobs may be given: a directory with one file per name."""

    kind: Literal["secret"]
    directory: str


class RegistryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A login at a registry of images, or at a part of it."""

    kind: Literal["registry"]
    host: str
    username: str = ""
    password: str = ""
    token: str = ""


AnyQueueFile = FolderFile | RedisFile | RabbitFile | SqsFile
AnyFile = AnyQueueFile | RegistryFile | SecretFile
QUEUES: dict[str, type[AnyQueueFile]] = {
    "folder": FolderFile,
    "redis": RedisFile,
    "rabbitmq": RabbitFile,
    "sqs": SqsFile,
}
"""By kind, those with queues behind them."""
FILES: dict[str, type[AnyFile]] = {**QUEUES, "registry": RegistryFile, "secret": SecretFile}
"""By kind."""


def keys_of(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the keys of a kind in the order in which people write them: what a service is, then what its jobs may."""
    rights = set(QueueRights.__struct_fields__)
    first = ("kind", "url")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    own = [name for name in fields if name not in rights and name not in first]
    return tuple(
        fields[name] for name in (*(it for it in first if it in fields), *own, *(it for it in fields if it in rights))
    )
