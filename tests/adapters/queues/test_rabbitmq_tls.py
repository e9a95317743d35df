"""TLS: a broker proves who it is by an authority that the credential file names."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.queues.rabbitmq import RabbitBroker
from runner.credential import Credential
from runner.errors import ConfigurationError
from runner.secret import Secret
from tests.conformance.queue_harness import BOX, START_AT, fetched
from tests.conformance.rabbit_harness import RabbitHost, rabbit_host

pytestmark = pytest.mark.broker


def certificate(directory: Path) -> ssl.SSLContext:
    """Write a certificate for the loopback address; return what a server shows it with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a broker")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (directory / "ca.pem").write_bytes(made.public_bytes(pem))
    (directory / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "ca.pem", directory / "key.pem")
    return context


@asynccontextmanager
async def behind_tls(host: RabbitHost, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve the broker by TLS on another port."""
    served = set[asyncio.Task[None]]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", host.port)
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        served.add(task)
        task.add_done_callback(served.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        if served:
            await asyncio.wait(served, timeout=5)


@pytest.mark.parametrize("trusted", [True, False])
def test_a_broker_is_trusted_by_the_authority_that_is_named(tmp_path: Path, *, trusted: bool) -> None:
    async def main() -> None:
        host = rabbit_host()
        async with behind_tls(host, certificate(tmp_path)) as port:
            url = host.url(port).replace("amqp://", "amqps://")
            secrets = {"username": Secret(host.username), "password": Secret(host.password)}
            options = {"ca_file": str(tmp_path / "ca.pem")} if trusted else {}
            broker = RabbitBroker(
                Credential("rabbitmq", url, secrets=secrets, options=options), box_id=BOX, now=lambda: START_AT
            )
            if trusted:
                queue = await broker.open("train")
                await queue.put(b"x" * 300_000, job_id="a")
                assert 300_000 == len((await fetched(queue)).body)
                await queue.close()
            else:
                with pytest.raises(ConfigurationError, match="ca_file"):
                    await broker.open("train")
            await broker.close()

    asyncio.run(main())


def test_a_missing_authority_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        options = {"ca_file": str(tmp_path / "nothing.pem")}
        broker = RabbitBroker(
            Credential("rabbitmq", "amqps://127.0.0.1:9/", options=options), box_id=BOX, now=lambda: START_AT
        )
        with pytest.raises(ConfigurationError, match=r"nothing\.pem"):
            await broker.open("train")
        await broker.close()

    asyncio.run(main())
