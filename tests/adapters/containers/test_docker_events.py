"""What the engine's events say of who ended a container, where what stands in them is a job's own choice."""

from __future__ import annotations

import msgspec
import pytest

from adapters.containers.docker_others import Event, ended_by, of_restart
from runner.ports import Exit


def event(action: str, number: str = "") -> Event:
    return msgspec.convert({"Action": action, "Actor": {"Attributes": {"signal": number}}}, Event)


@pytest.mark.parametrize("number", ["9", "15", "²", "9" * 5000])
def test_a_label_of_an_image_is_no_signal_of_somebody_else(number: str) -> None:
    """The engine puts labels among the attributes of each event: a job could be the box's fault, again and again."""
    assert "" == ended_by([event(action, number) for action in ("create", "start", "die")], 137)


@pytest.mark.parametrize("number", ["", "²", "9" * 5000, "-9", "0", "99"])
def test_what_is_no_signal_is_none(number: str) -> None:
    assert 0 == event("kill", number).signal


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert "with signal 35" in ended_by([event("kill", "35")], 128 + 35)


NOTHING: tuple[Event, ...] = ()
ENDED_BY_NEXT = (event("kill", "15"), event("die"))
TAKEN_DOWN = "the Docker engine was stopped or restarted and took the container down"
UNSEEN = "the Docker engine was away as the container ended"


@pytest.mark.parametrize(
    ("events", "code", "more", "words"),
    [
        (NOTHING, 0, "", TAKEN_DOWN),
        (NOTHING, 143, "", TAKEN_DOWN),
        (NOTHING, 137, "", TAKEN_DOWN),
        (NOTHING, 137, "oom", ""),
        (NOTHING, 137, "kept", ""),
        (NOTHING, 7, "", ""),
        (NOTHING, 7, "was_away", TAKEN_DOWN),
        (NOTHING, 7, "was_away kept", ""),
        (NOTHING, 255, "kept", UNSEEN),
        (ENDED_BY_NEXT, 7, "", TAKEN_DOWN),
        (ENDED_BY_NEXT, 7, "kept", ""),
        ((event("die"),), 143, "was_away", ""),
    ],
)
def test_what_began_under_another_engine_is_blamed_on_that_where_it_cannot_have_ended_by_itself(
    events: tuple[Event, ...], code: int, more: str, words: str
) -> None:
    """What the new engine saw end is told by its events; of the rest a job's own code is believed if it can be one."""
    ended = Exit(code, 1.0, oom="oom" in more)
    blame = of_restart(events, ended, kept="kept" in more, was_away="was_away" in more)
    assert blame.startswith(words) if words else blame == ""
