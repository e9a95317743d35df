"""
What surrounds SQS in a cloud, on loopback: where a box gets temporary keys, and a door that lets in only valid ones.

The interfaces are those of the real thing: instance metadata (version 2, each question with a token), STS for web
identity, and SQS itself, which is the server behind the door.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

ROLE = "box-role"
ROLE_ARN = f"arn:aws:iam::123456789012:role/{ROLE}"
SECRET = "made-up-hunter2"
METADATA = "/latest/meta-data/iam/security-credentials/"
METADATA_TOKEN = "of-one-box"
QUESTION_S = 60.0

ASSUMED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId>
<SecretAccessKey>{SecretAccessKey}</SecretAccessKey><SessionToken>{Token}</SessionToken>
<Expiration>{Expiration}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:runner</AssumedRoleId>
<Arn>arn:aws:sts::123456789012:assumed-role/box-role/runner</Arn></AssumedRoleUser>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
STS_REFUSED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"""


class Cloud(ThreadingHTTPServer):
    """
    ``life_s`` is how long keys count; ``silent`` lets every question for keys stand unanswered. ``used`` are the keys
    that were let in, ``turned_away`` counts the calls that were not.

    ``identity`` is the web identity that STS knows ("": any), ``role`` says whether this box has one.
    """

    daemon_threads = False

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.life_s, self.identity = behind, 3600.0, ""
        self.role, self.silent = True, False
        self.closed = threading.Event()
        self._ends = dict[str, float]()
        self.issued, self.asked, self.turned_away = 0, 0, 0
        self.used = set[str]()

    @property
    def url(self) -> str:
        """Where all of it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def issue(self) -> dict[str, str]:
        """Make keys beside those that there are."""
        self.issued += 1
        key = f"ASIAMADEUP{self.issued:06d}"
        ends_at = time.time() + self.life_s
        self._ends[key] = ends_at
        return {
            "AccessKeyId": key,
            "SecretAccessKey": SECRET,
            "Token": f"session-{key}",
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends_at)),
        }

    def revoke(self) -> None:
        """Let no key in until others are issued."""
        self._ends.clear()

    def knows(self, key: str) -> bool:
        """Tell whether a key counts now."""
        return time.time() < self._ends.get(key, 0.0)


class _Handler(BaseHTTPRequestHandler):
    @property
    def _cloud(self) -> Cloud:
        assert isinstance(self.server, Cloud)
        return self.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        """Say nothing."""

    def do_PUT(self) -> None:
        """Begin a session of instance metadata."""
        if self._heard() and self.path == "/latest/api/token":
            known = "x-aws-ec2-metadata-token-ttl-seconds" in self.headers and self._cloud.role
            self._answer(200 if known else 404, METADATA_TOKEN)

    def do_GET(self) -> None:
        """Answer a question of instance metadata."""
        if not self._heard():
            return
        if self.headers.get("x-aws-ec2-metadata-token") != METADATA_TOKEN:
            self._answer(401, "")
        elif self.path == METADATA:
            self._answer(200, ROLE)
        elif self.path == METADATA + ROLE:
            told = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z"}
            self._answer(200, json.dumps({**told, **self._cloud.issue()}))
        else:
            self._answer(404, "")

    def do_POST(self) -> None:
        """Answer for STS, or let a call of SQS through."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if "x-amz-target" in self.headers:
            self._let_through(body)
        elif self._heard():
            self._assume(parse_qs(body.decode()))

    def _heard(self) -> bool:
        self._cloud.asked += 1
        if self._cloud.silent:
            self._cloud.closed.wait(QUESTION_S)
        return not self._cloud.silent

    def _assume(self, said: Mapping[str, list[str]]) -> None:
        asked = (said["Action"], said["RoleArn"])
        if asked != (["AssumeRoleWithWebIdentity"], [ROLE_ARN]):
            self._answer(403, STS_REFUSED.format(code="AccessDenied", message="no such role"), "text/xml")
        elif self._cloud.identity not in {"", said["WebIdentityToken"][0]}:
            refused = STS_REFUSED.format(code="ExpiredTokenException", message="Token expired: 1 must be after 2")
            self._answer(400, refused, "text/xml")
        else:
            self._answer(200, ASSUMED.format_map(self._cloud.issue()), "text/xml")

    def _let_through(self, body: bytes) -> None:
        key = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
        token = self.headers.get("x-amz-security-token")
        if key is None or not self._cloud.knows(key[1]) or token != f"session-{key[1]}":
            self._cloud.turned_away += 1
            refused = {"__type": "com.amazonaws.sqs#ExpiredToken", "message": "The security token has expired"}
            self._answer(403, json.dumps(refused), "application/x-amz-json-1.0")
            return
        self._cloud.used.add(key[1])
        headers = {name: text for name, text in self.headers.items() if name.lower() not in {"host", "connection"}}
        request = urllib.request.Request(self._cloud.behind + self.path, body, headers)  # noqa: S310 - of this run
        try:
            with urllib.request.urlopen(request, timeout=QUESTION_S) as reply:  # noqa: S310 - the same
                self._answer(reply.status, reply.read().decode(), reply.headers["content-type"])
        except urllib.error.HTTPError as error:
            with error:
                self._answer(error.code, error.read().decode(), error.headers["content-type"])

    def _answer(self, status: int, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


@contextmanager
def cloud(behind: str) -> Iterator[Cloud]:
    """Let one stand before an SQS server."""
    server = Cloud(behind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="cloud")
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        thread.join()
        server.server_close()


def surroundings(where: str, server: Cloud, directory: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """
    Give a box keys in one place and nowhere else.

    Returns its environment, and what its credential file names as ``option=value``. Called again, it puts in others.
    """
    config, token = directory / "aws-config", directory / "identity-token"
    bare = {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": str(directory / "no-such-file"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    match where:
        case "environment":
            names = {"AccessKeyId": "ACCESS_KEY_ID", "SecretAccessKey": "SECRET_ACCESS_KEY", "Token": "SESSION_TOKEN"}
            keys = server.issue()
            return {**bare, **{f"AWS_{name}": keys[said] for said, name in names.items()}}, ()
        case "profile":
            keys = server.issue()
            lines = (
                f"aws_access_key_id = {keys['AccessKeyId']}",
                f"aws_secret_access_key = {keys['SecretAccessKey']}",
                f"aws_session_token = {keys['Token']}",
            )
            config.write_text("\n".join(("[profile lab]", *lines, "")))
            return bare, ("profile=lab",)
        case "web identity":
            token.write_text(server.identity or "of-this-box")
            identity = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": ROLE_ARN}
            return {**bare, **identity, "AWS_ENDPOINT_URL_STS": server.url}, ()
        case _:
            del bare["AWS_EC2_METADATA_DISABLED"]
            return {**bare, "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url}, ()
