"""Where a RabbitMQ broker is and who asks: read from a credential. No I/O but reading the CA file."""

from __future__ import annotations

import ssl
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec
from yarl import URL

from runner.credential import Credential
from runner.errors import ConfigurationError
from runner.secret import Secret

PORTS = {"amqp": 5672, "amqps": 5671}
MANAGEMENT = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
HEARTBEAT_S = 5
"""The broker takes back what a box holds that stands still after two to three of these."""
TYPES = ("quorum", "classic")


class Address(msgspec.Struct, frozen=True):
    """
    One virtual host of a broker. ``queue`` is "" where the URL names none; ``told_management`` says that the address of
    its HTTP API was not guessed.
    """

    scheme: str
    host: str
    port: int
    vhost: str
    queue: str
    username: str
    password: Secret
    management: str
    told_management: bool
    queue_type: str
    ca_file: str

    def __str__(self) -> str:
        """Return it as people write it, without a secret."""
        return f"{self.scheme}://{self.host}:{self.port}/{quote(self.vhost, safe='') if self.vhost != '/' else ''}"

    def url(self, name: str) -> URL:
        """Return what the client library connects by; holds the password."""
        query = {"heartbeat": str(HEARTBEAT_S), "name": name}
        user, password = self.username, self.password.reveal()
        return URL.build(
            scheme=self.scheme, user=user, password=password, host=self.host, port=self.port, path="/", query=query
        )

    def tls(self) -> ssl.SSLContext | None:
        """Return how the broker proves who it is; None where nothing is encrypted. Blocks."""
        if self.scheme == "amqp" and not self.management.startswith("https:"):
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"{self}: ca_file {self.ca_file} cannot be used: {error}") from error


def read_address(credential: Credential) -> Address:
    """
    Read a credential of kind ``rabbitmq``.

    Raises:
        ConfigurationError: the URL or an option is none.
    """
    parts = urlsplit(credential.url)
    options, secrets = credential.options, credential.secrets
    queue_type = options.get("queue_type") or TYPES[0]
    if parts.scheme not in PORTS or not parts.hostname:
        raise ConfigurationError(f"{credential.url}: write amqp://host:5672/vhost?queue=name")
    if queue_type not in TYPES:
        raise ConfigurationError(f'{credential.url}: queue_type = {queue_type!r}: write "quorum" or "classic"')
    scheme, port = MANAGEMENT[parts.scheme]
    return Address(
        scheme=parts.scheme,
        host=parts.hostname,
        port=parts.port or PORTS[parts.scheme],
        vhost=unquote(parts.path[1:]) or "/",
        queue=parse_qs(parts.query).get("queue", [""])[0],
        username=secrets["username"].reveal() if "username" in secrets else "guest",
        password=secrets.get("password", Secret("guest")),
        management=(options.get("management") or f"{scheme}://{parts.hostname}:{port}").rstrip("/"),
        told_management="management" in options,
        queue_type=queue_type,
        ca_file=options.get("ca_file", ""),
    )
