"""
What somebody else did to a container that ended: stopped it, paused it, or took the whole engine down under it.

The engine remembers its last few hundred events until it ends itself, which is how a restart is told: of a container
that began before, the new one has no beginning.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence

import msgspec

from adapters.containers.docker_engine import Engine, EngineRefusal
from adapters.containers.docker_state import Inspected
from runner.errors import Unavailable
from runner.ports import Exit

SIGNALS_FROM = 128
_SIGNALS = {str(int(number)): int(number) for number in signal.valid_signals()}
_FIRST_AND_LAST = ("start", "die")
_SLACK_S = 2.0


class _Actor(msgspec.Struct, frozen=True):
    attributes: dict[str, str] = msgspec.field(name="Attributes", default_factory=dict)


class Event(msgspec.Struct, frozen=True):
    """One event of a container, such as ``start``, ``kill``, ``pause``, ``die``."""

    action: str = msgspec.field(name="Action", default="")
    actor: _Actor = msgspec.field(name="Actor", default=_Actor())

    @property
    def signal(self) -> int:
        """The signal of a ``kill``, 0 for anything else; labels of an image stand among the attributes of any event."""
        number = self.actor.attributes.get("signal", "") if self.action == "kill" else ""
        return _SIGNALS.get(number, 0)


class Absence:
    """When the engine could not be reached last, as those who wait for containers saw it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # Epoch seconds of the last answer; from when to when there was none; whether there is none now.
        self._heard_at = now()
        self._window: tuple[float, float] | None = None
        self._is_on = False

    def noticed(self) -> None:
        """Note that it did not answer."""
        self._is_on = True

    def heard(self) -> None:
        """Note that it answered."""
        if self._is_on:
            self._window, self._is_on = (self._heard_at, self._now()), False
        self._heard_at = self._now()

    def covers(self, at: float) -> bool:
        """Tell whether something happened while it was away, or as it came or went."""
        return self._window is not None and self._window[0] - _SLACK_S <= at <= self._window[1] + _SLACK_S


async def what_others_did(
    engine: Engine, found: Inspected, ended: Exit, *, now: float, stopped_by_us: bool, was_away: bool
) -> Exit:
    """Add to how a container ended what others had to do with it up to ``now``, as far as the engine knows."""
    try:
        events = await _events(engine, found.id, now)
        restarted = was_away and not any(event.action in _FIRST_AND_LAST for event in events)
        kept = restarted and await _keeps_containers(engine)
    except (EngineRefusal, Unavailable):
        return ended  # how it ended stands, and must not wait for this
    killed = _TAKEN_DOWN if restarted and not kept else ended_by(events, ended.code or 0)
    return msgspec.structs.replace(
        ended,
        by_others="" if stopped_by_us else killed,
        held_up=_PAUSED if _was_paused(events) else "",
        log_gap=_UNREAD if kept else "",
    )


_TAKEN_DOWN = (
    "the Docker engine was stopped or restarted and took the container down; "
    'with "live-restore": true in its daemon.json jobs outlive that'
)
_UNREAD = "what the job printed last while the Docker engine was away is missing: it reads nothing after the end"
_PAUSED = "somebody else had paused its container (`docker pause`)"


def ended_by(events: Sequence[Event], code: int) -> str:
    """Say who ended it: a signal through the engine, and the end that belongs to it."""
    fatal = [event.signal for event in events if event.signal and _fits(event.signal, code)]
    if not fatal:
        return ""
    name = _signal_name(fatal[0])
    by = "by `docker stop`, `docker kill` or `docker rm -f`, or by ending the Docker engine"
    return f"somebody else ended its container with {name}, {by}"


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _fits(number: int, code: int) -> bool:
    return number in (signal.SIGTERM, signal.SIGKILL) or code == SIGNALS_FROM + number


def _was_paused(events: Sequence[Event]) -> bool:
    """Tell whether it was paused when it was told to end: the engine resumes it for that."""
    paused = False
    for event in events:
        match event.action:
            case "pause":
                paused = True
            case "unpause":
                paused = False
            case "kill" if paused:
                return True
            case _:
                pass
    return paused


async def _events(engine: Engine, container_id: str, until: float) -> tuple[Event, ...]:
    filters = json.dumps({"container": [container_id], "type": ["container"]})
    query: dict[str, str | int] = {"since": 1, "until": f"{until:.6f}", "filters": filters}
    async with (
        engine.call(f"tell what happened to container {container_id}") as docker,
        engine.send(docker, "GET", "events", **query) as answer,
    ):
        lines = (await answer.read()).splitlines()
    try:
        return tuple(msgspec.json.decode(line, type=Event) for line in lines)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"Docker at {engine.url} tells events that are none: {error}") from error


async def _keeps_containers(engine: Engine) -> bool:
    async with engine.call("describe itself") as docker:
        described = await docker.system.info()
    return bool(described.get("LiveRestoreEnabled"))
