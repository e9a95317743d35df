"""The queues of a virtual host, as the broker's management API lists them. AMQP itself cannot list any."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from adapters.queues.rabbitmq_address import Address
from adapters.queues.rabbitmq_names import is_own
from adapters.unreached import unreached
from runner.errors import ConfigurationError, Unavailable

LIST_S = 15.0
PAGE = 500


class _Row(msgspec.Struct, frozen=True):
    name: str
    type: str = "classic"
    exclusive: bool = False


class _Page(msgspec.Struct, frozen=True):
    items: list[_Row]
    page_count: int = 1


async def listed_queues(address: Address) -> tuple[str, ...]:
    """
    List the queues that can hold jobs, sorted: not ours beside them, not answers, streams and one program's own.

    Raises:
        ConfigurationError: the API is closed to this user, or it is not there.
        Unavailable: it did not answer in time.
    """
    token = base64.b64encode(f"{address.username}:{address.password.reveal()}".encode()).decode()
    timeout = aiohttp.ClientTimeout(total=LIST_S)
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Basic {token}"}, timeout=timeout) as session:
            rows = [row async for page in _pages(session, address) for row in page.items]
    except TimeoutError as error:
        raise Unavailable(f"list queues by {address.management}: no answer in {LIST_S:.0f} s") from error
    except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
        raise _closed(address, unreached(error) or str(error) or type(error).__name__) from error
    return tuple(sorted(row.name for row in rows if _holds_jobs(row)))


async def _pages(session: aiohttp.ClientSession, address: Address) -> AsyncIterator[_Page]:
    tls = await asyncio.to_thread(address.tls)
    number, count = 1, 1
    while number <= count:
        query = f"page={number}&page_size={PAGE}&columns=name,type,exclusive&disable_stats=true"
        url = f"{address.management}/api/queues/{quote(address.vhost, safe='')}?{query}"
        async with session.get(URL(url, encoded=True), ssl=tls or True) as response:
            if response.status != HTTPStatus.OK:
                raise _closed(address, f"it answers {response.status}")
            page = msgspec.json.decode(await response.read(), type=_Page)
        yield page
        number, count = number + 1, page.page_count


def _holds_jobs(row: _Row) -> bool:
    return (
        row.type != "stream"
        and not row.exclusive
        and not is_own(row.name)
        and not row.name.endswith("_response")
        and not row.name.startswith("amq.")
    )


def _closed(address: Address, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"list queues by {address.management}: {why}. Name the queue in the URL, {address}?queue=NAME, or the "
        'management API in a credential file, `management = "http://host:15672"`, and give the user the tag '
        "`management`"
    )
