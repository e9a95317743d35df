"""What the fan-out knows of one job while it is fed: its reports, and which of its sinks are fed or have it all."""

from __future__ import annotations

import asyncio

from actors.logs.feed import Feed
from runner.messages import Reported


class Pump:
    """Begins with nothing to tell. Owned by the actor; feeds read ``reports`` and wait for ``ending``."""

    def __init__(self) -> None:
        """Begin."""
        # How its attempts ended, oldest first: each feed tells them in turn.
        self.reports: list[Reported] = []
        # Set with the first report, for whoever lets lines come together before its feeds begin.
        self.ending = asyncio.Event()
        # By sink: those that run, and how many reports those before them told.
        self.feeds: dict[str, Feed] = {}
        self.told: dict[str, int] = {}
        # The sinks of its queue, None until they are known; those that have the end; those that refused what they got.
        self.sinks: frozenset[str] | None = None
        self.done: set[str] = set()
        self.broken: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Whether the last attempt ended."""
        return bool(self.reports) and self.reports[-1].last

    @property
    def is_told(self) -> bool:
        """Whether every sink has the end."""
        return self.is_over and self.sinks is not None and self.sinks <= self.done

    @property
    def wants_feeds(self) -> bool:
        """Whether a sink that could take something is not fed."""
        return self.sinks is None or bool(self.sinks - self.broken - self.feeds.keys())

    def report(self, reported: Reported) -> None:
        """Take in how an attempt ended; saying it again changes nothing."""
        if reported not in self.reports:
            self.reports.append(reported)
        self.ending.set()
        for feed in self.feeds.values():
            feed.ending.set()

    def ended(self, name: str) -> Feed:
        """Take in that a feed ended, and return it."""
        feed = self.feeds.pop(name)
        self.told[name] = feed.told
        if feed.done:
            self.done.add(name)
        return feed

    def wake(self) -> None:
        """Let every feed look for more."""
        for feed in self.feeds.values():
            feed.grew.set()
