"""What the engine's events say of who ended a container, where what stands in them is a job's own choice."""

from __future__ import annotations

import msgspec
import pytest

from adapters.containers.docker_others import Event, ended_by


def event(action: str, number: str) -> Event:
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
