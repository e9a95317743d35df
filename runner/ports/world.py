"""Everything outside, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from runner.credential import Credential, Rights
from runner.ports.box import Box, Credentials, Journal, Spool
from runner.ports.containers import Containers, GpuProbe
from runner.ports.dialects import Dialect
from runner.ports.images import ImageRecords, Images
from runner.ports.queues import Broker
from runner.ports.results import Results, Sink
from runner.ports.stores import Blobs, Store, Workspaces


async def all_is_well() -> str:
    """Be a box where nothing forbids it."""
    return ""


async def as_it_is(text: str) -> str:
    """Know no secrets."""
    return text


@dataclass(frozen=True)
class World:
    """
    Everything outside, handed to ``build``. Tests give fakes.

    ``containers`` is by runtime, ``dialects`` by name. The openers look up secrets themselves; each raises
    ``ConfigurationError`` for what is not served yet.
    """

    box: Box
    now: Callable[[], float]
    """Wall time in epoch seconds; it may be set at any moment, in either direction."""
    up_s: Callable[[], float]
    """Seconds since the machine booted, its sleep included; never set, and one clock for all lives of the runner."""
    random: Callable[[], float]
    keep_off: Callable[[tuple[int, ...]], None]
    """Keep the runner itself off these cores from now on; of none, or of all that it may use, it keeps off nowhere."""
    journal: Journal
    credentials: Credentials
    spool: Spool
    workspaces: Workspaces
    blobs: Blobs
    probe: GpuProbe
    containers: Mapping[str, Containers]
    images: Images | None
    image_records: ImageRecords
    dialects: Mapping[str, Dialect]
    open_broker: Callable[[Credential], Broker]
    open_store: Callable[[str, Rights], Store]
    open_results: Callable[[Credential, str], Results | None]
    """Credential and queue name."""
    open_sinks: Callable[[Credential, str, Results | None], Mapping[str, Sink]]
    """
    Credential, queue name, its result backend; by name, which is the same in every life of the runner and shows no
    secret. Called once for what was opened, since a sink remembers what it has sent there.
    """
    why_no_gpus: Callable[[], Awaitable[str]] = all_is_well
    """Say why no container may have a GPU now, "" where they may; asked again and again, and never raises."""
    redact: Callable[[str], Awaitable[str]] = as_it_is
    """Put stars over the box's secrets in a text of the runner's own, which an error may have brought there."""
