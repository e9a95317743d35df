"""
The connection to SQS: one client for all queues of a credential, replaced whole when its secrets change.

Nothing is retried here, and every call ends: by the service's answer, by the SDK's limits, at last by our own.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from contextlib import AsyncExitStack
from typing import Any

from adapters.queues.sqs_errors import NoKeys, in_words
from runner.credential import Credential
from runner.errors import ConfigurationError, RunnerError

LONG_POLL_S = 20
"""The longest that the service waits for a message."""
CALL_S = 15.0
_CONNECT_S = 5.0
_KEYS_S = 5.0
_ONCE = {"total_max_attempts": 1, "mode": "standard"}
_LATE_S = 10.0
_CONNECTIONS = 4096


class _Client:
    """One client and how many calls use it; closed by the last of them once it is replaced."""

    def __init__(self, sdk: Any, stack: AsyncExitStack) -> None:
        self.sdk, self._stack = sdk, stack
        self.calls, self.retired = 0, False

    async def retire(self) -> None:
        self.retired = True
        await self.close_unused()

    async def close_unused(self) -> None:
        if self.retired and self.calls == 0:
            await self._stack.aclose()


class SqsService:
    """
    SQS as one credential reaches it. Opened by the first call.

    Raises:
        ConfigurationError: its ``ca_file`` is not there.
    """

    def __init__(self, credential: Credential, region: str) -> None:
        self._credential, self._region = credential, region
        self.where = f"sqs://{region}/"
        ca_file = credential.options.get("ca_file", "")
        if ca_file and not os.path.isfile(ca_file):
            raise ConfigurationError(f"{self.where}: ca_file {ca_file}: no such file")
        self._opening = asyncio.Lock()
        self._client: _Client | None = None
        self._closed = False

    async def call(self, action: str, what: str, *, limit_s: float = CALL_S, **parameters: Any) -> dict[str, Any]:
        """
        Call one action, named as the SDK names it; ``what`` says on which queue.

        Raises:
            RunnerError: see ``sqs_errors``; nothing else but a cancellation comes out of it.
        """
        client = await self._opened(action, what)
        client.calls += 1
        try:
            async with asyncio.timeout(limit_s):
                answer: dict[str, Any] = await getattr(client.sdk, action)(**parameters)
                return answer
        except RunnerError:
            raise
        except Exception as error:
            told = self._in_words(action, what, error)
            if isinstance(told, NoKeys) and "access_key" not in self._credential.secrets:
                self._forget(client)
            raise told from error
        finally:
            client.calls -= 1
            await client.close_unused()

    async def receive(self, what: str, url: str, *, wait_s: int, most: int, hidden_s: int) -> list[dict[str, Any]]:
        """Receive messages with all that stands beside them, hidden from others for so many seconds."""
        answer = await self.call(
            "receive_message",
            what,
            limit_s=wait_s + _LATE_S,
            QueueUrl=url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=hidden_s,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        return list(answer.get("Messages") or ())

    async def change(self, credential: Credential) -> None:
        """Go on with other secrets; a call that is under way ends with the old ones."""
        async with self._opening:
            self._credential = credential
            old, self._client = self._client, None
        if old is not None:
            await old.retire()

    async def close(self) -> None:
        """Let go of the connections, once the calls under way have ended."""
        self._closed = True
        await self.change(self._credential)

    async def _opened(self, action: str, what: str) -> _Client:
        async with self._opening:
            if self._closed:
                raise ConfigurationError(f"use {what} at {self.where}: the connection is closed already")
            if self._client is None:
                try:
                    async with asyncio.timeout(CALL_S):
                        self._client = await self._open()
                except Exception as error:
                    raise self._in_words(action, what, error) from error
            return self._client

    def _in_words(self, action: str, what: str, error: Exception) -> RunnerError:
        return in_words(action, what, self.where, error, self._credential)

    def _forget(self, client: _Client) -> None:
        """
        Let the next call look for keys anew: a client keeps those that it found once.

        Not for those of the file, which stay the same: a client takes 75 ms to make, and renewals wait meanwhile.
        """
        client.retired = True
        if self._client is client:
            self._client = None

    async def _open(self) -> _Client:
        # It takes a third of a second, in which claims of other queues are to be renewed.
        await asyncio.to_thread(importlib.import_module, "aiobotocore.session")
        from aiobotocore.config import AioConfig
        from aiobotocore.session import AioSession

        options, secrets = self._credential.options, self._credential.secrets
        session = AioSession(profile=options.get("profile") or None)
        # Of the clients that the SDK makes for itself, to ask for keys: they end before a call does that waits for one.
        session.set_default_client_config(AioConfig(connect_timeout=_KEYS_S, read_timeout=_KEYS_S, retries=_ONCE))
        keys = {
            name: secrets[key].reveal()
            for name, key in (
                ("aws_access_key_id", "access_key"),
                ("aws_secret_access_key", "secret_key"),
                ("aws_session_token", "session_token"),
            )
            if key in secrets and secrets[key].reveal()
        }
        config = AioConfig(
            connect_timeout=_CONNECT_S,
            read_timeout=LONG_POLL_S + _LATE_S,
            max_pool_connections=_CONNECTIONS,
            retries=_ONCE,
        )
        stack = AsyncExitStack()
        opening = session.create_client(
            "sqs",
            region_name=self._region or None,
            endpoint_url=options.get("endpoint") or None,
            verify=options.get("ca_file") or None,
            config=config,
            **keys,
        )
        return _Client(await stack.enter_async_context(opening), stack)
