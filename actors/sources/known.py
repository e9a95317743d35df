"""The sources in use, by name: what each credential file says now, and what earlier contents leave to be finished."""

from __future__ import annotations

from collections.abc import Iterator

from runner.source import Source, StandingPoller


class KnownSources:
    """Opens and starts nothing."""

    def __init__(self) -> None:
        """Begin without any."""
        self._sources: dict[str, Source] = {}

    def __iter__(self) -> Iterator[Source]:
        """Go through those that stand now, whatever comes and goes meanwhile."""
        return iter(tuple(self._sources.values()))

    def find(self, name: str) -> Source | None:
        """Return a source by its own name."""
        return self._sources.get(name)

    def serving(self, file: str) -> Source | None:
        """Return the source of what a file says now, None where there is none."""
        return next((it for it in self if it.file.file == file and not it.replaced), None)

    def in_use(self, name: str, content: str) -> Source | None:
        """Return the source that a task has worked for, None where it says something else meanwhile."""
        source = self.find(name)
        return source if source is not None and not source.finishing and source.file.content == content else None

    def new_name(self, file: str) -> str:
        """Return a name for a new source: the file's own, unless something else has that still."""
        names = (file, *(f"{file} ({number})" for number in range(2, len(self._sources) + 2)))
        return next(name for name in names if name not in self._sources)

    def add(self, source: Source) -> Source:
        """Add a source, and return it."""
        self._sources[source.name] = source
        return source

    def forget(self, source: Source) -> None:
        """Forget a source with its last poller."""
        del self._sources[source.name]

    def take_over(self, poller: StandingPoller) -> None:
        """Know again whose poller outlived its sources; it is told anew whatever its file says, or that it is gone."""
        source = self.find(poller.source)
        if source is None:
            if (earlier := self.serving(poller.file.file)) is not None:
                earlier.replaced = True
            source = self.add(Source.found_again(poller))
        source.add(poller.queue)
