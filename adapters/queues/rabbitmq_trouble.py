"""What goes wrong with a RabbitMQ broker, in the words of the tree of errors. No secret is in what it says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq import exceptions as amqp

from adapters.unreached import unreached
from runner.errors import ConfigurationError, Refused, RunnerError, Unavailable


class QueueMissing(Unavailable):
    """There is no such queue."""


class NotAllowed(ConfigurationError):
    """The user may not do this."""


@contextmanager
def explained(doing: str, where: str) -> Iterator[None]:
    """
    Turn the client library's errors into ours.

    Raises:
        ConfigurationError: wrong password, no such virtual host, no right to it.
        Unavailable: the broker is away, does not answer in time, or has no such queue.
    """
    try:
        yield
    except RunnerError:
        raise
    except TimeoutError as error:
        raise Unavailable(
            f"{doing} {where}: no answer in time; the broker hangs, or is short of memory or disk and takes nothing"
        ) from error
    except (amqp.AMQPError, OSError, RuntimeError) as error:
        raise _translated(error, f"{doing} {where}") from error
    except asyncio.CancelledError as error:
        if _is_ours():
            raise
        raise Unavailable(f"{doing} {where}: the connection was closed meanwhile") from error


def _is_ours() -> bool:
    """Tell a cancellation of the caller from one that the client library passes on as it closes."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _translated(error: Exception, doing: str) -> RunnerError:
    text = f"{doing}: {_said(error)}"
    match error:
        case amqp.ProbableAuthenticationError() | amqp.AuthenticationError():
            return ConfigurationError(f"{doing}: the broker refuses this user name and password: correct them")
        case amqp.ConnectionNotAllowed():
            return ConfigurationError(f"{text}: name another virtual host, or give the user a right to it")
        case amqp.ChannelAccessRefused():
            return NotAllowed(f"{text}: give the user the permission to {_permission(doing, text)}")
        case amqp.ChannelNotFoundEntity():
            return QueueMissing(text)
        case amqp.ChannelLockedResource():
            return ConfigurationError(f"{text}: the queue is one program's own; name another")
        case amqp.ChannelPreconditionFailed():
            return Refused(text)
        case _:
            return _of_connection(error, doing)


def _permission(doing: str, said: str) -> str:
    """Name the one of RabbitMQ's three that is missing; the broker does not."""
    if doing.startswith("make "):
        return "configure it"
    return "write to it" if "access to exchange" in said else "read it"


def _of_connection(error: Exception, doing: str) -> RunnerError:
    """Look for what lies below: the library wraps what the system said."""
    if words := unreached(error):
        return Unavailable(f"{doing}: {words}: see whether the broker runs and can be reached, and by which port")
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        fix = "name the authority that signed the broker's certificate as ca_file"
        return ConfigurationError(f"{doing}: {_said(error)}: {fix}")
    return Unavailable(f"{doing}: {_said(error)}: see whether the broker runs and can be reached")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
