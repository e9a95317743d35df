"""
What somebody else did to a container that ended: stopped it, paused it, or took the whole engine down under it.

The engine remembers its last 256 events until it ends itself, which is how a restart is told: of a container that began
before, the new one has no beginning, though it has forgotten nothing yet. What it finds running as it starts it ends,
unless it keeps containers, and remembers that it did. By whose doing anything ended before that, nobody knows: a code
that jobs have of their own is taken for theirs; one that an engine's end leaves, or any that a container had while the
engine was seen to be away, for the box's fault, which costs no attempt, though a job may have ended so by itself.
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
_SLACK_S = 2.0
_FEW_EVENTS = 200
"""With no more than these the engine has forgotten none."""
_OF_ITS_END = (0, SIGNALS_FROM + signal.SIGTERM, SIGNALS_FROM + signal.SIGKILL)
_OF_NO_END = 255
"""What an engine says as it starts of a container that is gone, and whose end nobody saw."""


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
        events = await _events_of(engine, found.id, now)
        replaced = await _is_another(engine, events, now, was_away=was_away)
        kept = replaced and await _keeps_containers(engine)
    except (EngineRefusal, Unavailable):
        return ended  # how it ended stands, and must not wait for this
    blame = of_restart(events, ended, kept=kept, was_away=was_away) if replaced else ""
    return msgspec.structs.replace(
        ended,
        by_others="" if stopped_by_us else blame or ended_by(events, ended.code or 0),
        held_up=_PAUSED if _was_paused(events) else "",
        log_gap="" if not kept else _UNFINISHED if _has(events, "die") else _UNREAD,
    )


_TAKEN_DOWN = (
    "the Docker engine was stopped or restarted and took the container down; "
    'with "live-restore": true in its daemon.json jobs outlive that'
)
_UNSEEN = "the Docker engine was away as the container ended, and does not know how"
_UNREAD = "what the job printed while the Docker engine was away may be missing: it reads nothing after the end"
_UNFINISHED = (
    "the Docker engine was restarted while the job ran: "
    "the beginning of a line that was not finished then may be missing"
)
_PAUSED = "somebody else had paused its container (`docker pause`)"


def of_restart(events: Sequence[Event], ended: Exit, *, kept: bool, was_away: bool) -> str:
    """Say what the engine's restart had to do with the end of a container that began before it."""
    code = ended.code or 0
    if _has(events, "die"):
        return _TAKEN_DOWN if ended_by(events, code) and not kept else ""
    if ended.oom and code == SIGNALS_FROM + signal.SIGKILL:
        return ""
    if code == _OF_NO_END:
        return _UNSEEN
    return _TAKEN_DOWN if not kept and (was_away or code in _OF_ITS_END) else ""


async def was_replaced(engine: Engine, container_id: str, now: float) -> bool:
    """
    Tell whether this is surely another engine than the one that started a container.

    Raises:
        Unavailable: it does not say.
    """
    return await _is_another(engine, await _events_of(engine, container_id, now), now, was_away=False)


async def _is_another(engine: Engine, events: Sequence[Event], now: float, *, was_away: bool) -> bool:
    """Tell it by the events of the container."""
    if _has(events, "start"):
        return False
    return len(await _events(engine, now)) < _FEW_EVENTS or (was_away and not _has(events, "die"))


def _has(events: Sequence[Event], action: str) -> bool:
    return any(event.action == action for event in events)


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


async def _events_of(engine: Engine, container_id: str, until: float) -> tuple[Event, ...]:
    return await _events(engine, until, container=[container_id], type=["container"])


async def _events(engine: Engine, until: float, **filters: list[str]) -> tuple[Event, ...]:
    query: dict[str, str | int] = {"since": 1, "until": f"{until:.6f}", "filters": json.dumps(filters)}
    async with (
        engine.call("tell what happened") as docker,
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
