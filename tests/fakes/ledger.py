"""What is opened and closed: each opening of a service, and whoever uses one that is closed already."""

from __future__ import annotations

from collections import Counter


class Ledger:
    """Openings by name: ``opened`` counts all of them, ``open`` those that nobody has closed."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        self.used_closed: list[str] = []

    def enter(self, name: str, port: object) -> Opened:
        """Count an opening, until what is returned is closed."""
        self.opened[name] += 1
        self.open[name] += 1
        return Opened(name, port, self)

    def check(self) -> None:
        """At the end of a life: all is closed, and was not used after that."""
        assert not +self.open, f"never closed: {+self.open}"
        assert not self.used_closed, f"used after it was closed: {self.used_closed}"


class Opened:
    """One opening of a port."""

    def __init__(self, name: str, port: object, ledger: Ledger) -> None:
        self._name, self._port, self._ledger = name, port, ledger
        self._closed = False

    def __getattr__(self, method: str) -> object:
        if self._closed:
            self._ledger.used_closed.append(f"{self._name}.{method}")
        return getattr(self._port, method)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._ledger.open[self._name] -= 1
        await self._port.close()  # type: ignore[attr-defined]
