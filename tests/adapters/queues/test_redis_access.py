"""Who may use a queue in Redis: users with the rights that the documentation names, passwords that change, TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import adapters.queues.redis
from adapters.results.redis import RedisResults
from runner.credential import Credential
from runner.errors import ConfigurationError, Unavailable
from runner.job import Note, Verdict
from runner.ports import LogLine, Position
from runner.receipt import BoxBeat, Event, JobRow, Receipt
from runner.secret import Secret
from tests.adapters.queues.redis_queues import (
    acknowledge,
    credential,
    database,
    fetched,
    redis_broker,
    redis_queue,
    server,
    until_blocked,
)
from tests.conformance.redis_harness import redis_url
from tests.conformance.results_harness import AT, KEY
from tests.services.ports import free_port

pytestmark = pytest.mark.broker

SECRET, NEW_SECRET = "first-secret", "second-secret"


@pytest.fixture(name="url")
def _url() -> str:
    return redis_url()


@pytest.fixture(name="port")
def _port(url: str) -> int:
    """Return a port for a server of the test's own, where Redis is there at all."""
    return free_port()


def documented_rights() -> list[str]:
    """Read the rights that the module's documentation tells a person to give, but for the password."""
    found = re.search(r"ACL SETUSER box on >PASSWORD (.*?)\n\Z", adapters.queues.redis.__doc__ or "", re.DOTALL)
    assert found
    return found[1].split()


def test_the_example_names_the_same_rights() -> None:
    """What people copy is what is tried here."""
    example = (Path(__file__).parents[3] / "examples" / "credentials" / "redis.toml").read_text()
    told = example.partition("ACL SETUSER worker on >change-me ")[2].partition("\n\n")[0].split()
    assert documented_rights() == [word for word in told if word != "#"]


def test_the_results_of_a_queue_need_no_other_rights(port: int, tmp_path: Path) -> None:
    """They stand beside the queue, and are reached with the same login."""

    async def main() -> None:
        with server(tmp_path, port):
            async with database(f"redis://127.0.0.1:{port}/0") as redis:
                await redis.execute_command("ACL", "SETUSER", "box", "on", f">{SECRET}", *documented_rights())
            secrets = {"username": Secret("box"), "password": Secret(SECRET)}
            results = RedisResults(f"redis://127.0.0.1:{port}/0", "train", box_id="box-1", secrets=secrets)
            try:
                await use(results, tmp_path / "file")
            finally:
                await results.close()

    asyncio.run(main())


async def use(results: RedisResults, file: Path) -> None:
    """Do all that a box and its clients do with a result backend."""
    file.write_bytes(b"42\n")
    await results.get_upload(await results.put_upload(str(file)), str(file))
    row = JobRow(KEY, queue="train")
    await results.append(KEY, KEY, [Event(KEY, KEY, AT, "waiting", row=row)], [LogLine(1, 1, 1, "stdout", b"x")])
    assert 1 == len(await results.list(ended=True))
    await results.request_stop(KEY)
    await results.beat(BoxBeat("box-1", AT))
    assert (1, 1) == (len(await results.stops()), len(await results.beats()))
    await results.get_log(await results.put_log(KEY, 1, str(file)), str(file))
    await results.put_receipt(Receipt(KEY, state="ended", end_reason="succeeded", key=KEY, ended_at=AT))
    await results.clear_stop(KEY)
    assert await results.get(KEY) is not None
    assert [told async for told in results.tail(KEY, Position(), follow=False)]
    await results.prune(AT * 2)


def at(port: int, password: str = SECRET, *, queue: str = "train", user: str = "box") -> Credential:
    url = f"redis://127.0.0.1:{port}/0" + (f"?queue={queue}" if queue else "")
    return credential(url, secrets={"username": user, "password": password})


def test_the_documented_rights_are_enough_for_everything(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        url = f"redis://127.0.0.1:{port}/0"
        with server(tmp_path, port):
            async with database(url) as redis:
                await redis.execute_command("ACL", "SETUSER", "box", "on", f">{SECRET}", *documented_rights())
                await redis.execute_command("ACL", "SETUSER", "default", "off")
            async with redis_broker(at(port, queue="")) as broker:
                queue = await broker.open("train")
                assert ("train",) == await broker.queues()
                for verdict in Verdict:
                    await queue.put(b"x", job_id=verdict.value, user="ada", priority=2)
                for verdict in (Verdict.RETRY, Verdict.RELEASE, Verdict.REJECT, Verdict.ACK):
                    delivery = await fetched(queue)
                    await queue.renew(delivery.token)
                    await queue.settle(delivery.token, verdict, after_s=30, note=Note(), reason="why")
                await queue.put(b"x", job_id="a")
                assert 1 == len(await queue.withdraw("a"))
                assert 3 == len(await queue.peek(10) or ())
                (row,) = await queue.dead()
                assert await queue.retry_dead(row.submission)
                delivery = await fetched(queue)
                await queue.settle(delivery.token, Verdict.REJECT, after_s=0, note=Note(), reason="why")
                assert 1 == await queue.prune(1e11)
                assert await queue.fetch(0.05) is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("missing", "named"), [("-xclaim", "XCLAIM"), ("-zadd", "ZADD"), ("-@hash", "HSET"), ("-eval", "eval")]
)
def test_a_right_that_is_missing_is_named_before_a_message_depends_on_it(
    port: int, tmp_path: Path, missing: str, named: str
) -> None:
    async def main() -> None:
        url = f"redis://127.0.0.1:{port}/0"
        with server(tmp_path, port):
            async with database(url) as redis:
                rights = (*documented_rights(), missing)
                await redis.execute_command("ACL", "SETUSER", "box", "on", f">{SECRET}", *rights)
                async with redis_broker(at(port)) as broker:
                    with pytest.raises(ConfigurationError, match=named) as caught:
                        await broker.open("train")
                    assert SECRET not in str(caught.value)
                assert [] == [key for key in await redis.keys("*") if b"rehearsal" not in key]

    asyncio.run(main())


def test_another_queue_than_ones_own_is_refused(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        with server(tmp_path, port):
            async with database(f"redis://127.0.0.1:{port}/0") as redis:
                await redis.execute_command("ACL", "SETUSER", "box", "on", f">{SECRET}", *documented_rights())
            async with redis_broker(at(port)) as broker:
                with pytest.raises(ConfigurationError, match="what that user may do"):
                    await broker.open("eval")

    asyncio.run(main())


def test_a_user_of_one_queue_alone_needs_no_list_of_them(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        with server(tmp_path, port):
            async with database(f"redis://127.0.0.1:{port}/0") as redis:
                rights = [right for right in documented_rights() if right not in {"~runner:queues", "+scan", "+info"}]
                await redis.execute_command("ACL", "SETUSER", "box", "on", f">{SECRET}", *rights)
            async with redis_broker(at(port)) as broker:
                assert ("train",) == await broker.queues()
                queue = await broker.open("train")
                await queue.put(b"x", job_id="a")
                await acknowledge(queue, await fetched(queue))

    asyncio.run(main())


@pytest.mark.parametrize(
    "given", [{}, {"password": "wrong-secret"}, {"username": "nobody", "password": "wrong-secret"}]
)
def test_a_wrong_password_is_told_without_it(port: int, tmp_path: Path, given: dict[str, str]) -> None:
    async def main() -> None:
        with server(tmp_path, port):
            async with database(f"redis://127.0.0.1:{port}/0") as redis:
                await redis.config_set("requirepass", SECRET)
            async with redis_broker(credential(f"redis://127.0.0.1:{port}/0", secrets=given)) as broker:
                for call in (broker.queues, lambda: broker.open("train")):
                    with pytest.raises(ConfigurationError, match="check username and password") as caught:
                        await call()
                    assert "wrong-secret" not in str(caught.value)

    asyncio.run(main())


def test_a_changed_password_is_used_by_new_connections_and_nothing_held_is_lost(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        url = f"redis://127.0.0.1:{port}/0"
        with server(tmp_path, port):
            async with database(url) as redis:
                await redis.execute_command("ACL", "SETUSER", "box", "on", f">{SECRET}", *documented_rights())
                async with redis_broker(at(port)) as broker:
                    queue = await broker.open("train")
                    await queue.put(b"held", job_id="a")
                    held = await fetched(queue)
                    waiting = asyncio.create_task(queue.fetch(20))
                    await until_blocked(redis)
                    await redis.execute_command("ACL", "SETUSER", "box", "resetpass", f">{NEW_SECRET}")
                    await broker.change(at(port, NEW_SECRET))
                    await queue.renew(held.token)
                    await queue.put(b"next", job_id="b")
                    delivery = await waiting
                    assert delivery is not None
                    assert b"next" == delivery.body
                    await redis.execute_command("CLIENT", "KILL", "USER", "box")
                    await acknowledge(queue, delivery)
                    await acknowledge(queue, held)
                    assert await queue.fetch(0.05) is None
                    assert 0 == await queue.depth()

    asyncio.run(main())


def test_a_user_who_was_deleted_is_told_until_there_is_another(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        url = f"redis://127.0.0.1:{port}/0"
        with server(tmp_path, port):
            async with database(url) as redis:
                await redis.execute_command("ACL", "SETUSER", "box", "on", f">{SECRET}", *documented_rights())
                async with redis_broker(at(port)) as broker:
                    queue = await broker.open("train")
                    await queue.put(b"x", job_id="a")
                    held = await fetched(queue)
                    waiting = asyncio.create_task(queue.fetch(20))
                    await until_blocked(redis)
                    await redis.execute_command("ACL", "DELUSER", "box")
                    with pytest.raises((Unavailable, ConfigurationError)):
                        await waiting
                    with pytest.raises(ConfigurationError):
                        await queue.renew(held.token)
                    rights = (f">{NEW_SECRET}", *documented_rights())
                    await redis.execute_command("ACL", "SETUSER", "other", "on", *rights)
                    await broker.change(at(port, NEW_SECRET, user="other"))
                    await queue.renew(held.token)
                    await acknowledge(queue, held)

    asyncio.run(main())


# TLS


def write_certificates(directory: Path) -> None:
    """Make an authority, and a certificate for loopback that it signed."""
    now = dt.datetime.now(dt.UTC)
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])

    def begun(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(authority).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        day = dt.timedelta(days=1)
        return builder.not_valid_before(now - day).not_valid_after(now + day)

    constraints = x509.BasicConstraints(ca=True, path_length=None)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    root = begun(authority, authority_key).add_extension(constraints, critical=True)
    leaf = begun(x509.Name([]), server_key).add_extension(address, critical=True)
    plain = serialization.NoEncryption()
    encoded = server_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (directory / "key.pem").write_bytes(encoded)
    for name, builder in (("ca.pem", root), ("cert.pem", leaf)):
        signed = builder.sign(authority_key, hashes.SHA256())
        (directory / name).write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def test_tls_with_an_authority_of_ones_own(port: int, tmp_path: Path) -> None:
    async def main() -> None:
        write_certificates(tmp_path)
        files = [
            f"--tls-{kind}-file {tmp_path}/{name}.pem".split() for kind, name in (("cert", "cert"), ("key", "key"))
        ]
        tls_port = free_port()
        files.append(["--tls-ca-cert-file", f"{tmp_path}/ca.pem"])
        options = ["--tls-port", str(tls_port), "--tls-auth-clients", "no", *(word for pair in files for word in pair)]
        url = f"rediss://127.0.0.1:{tls_port}/0"
        with server(tmp_path, port, *options):
            async with redis_queue(credential(url, ca_file=f"{tmp_path}/ca.pem")) as queue:
                await queue.put(b"x", job_id="a")
                await acknowledge(queue, await fetched(queue))
            named = f"rediss://localhost:{tls_port}/0"
            for other in (credential(url), credential(named, ca_file=f"{tmp_path}/ca.pem")):
                async with redis_broker(other) as broker:
                    with pytest.raises(ConfigurationError, match=f":{tls_port}/0: .* ca_file, and the host as it is"):
                        await broker.open("train")

    asyncio.run(main())
