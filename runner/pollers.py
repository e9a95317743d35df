"""
The pollers that run: one per queue behind each credential file, made, changed and ended as sources asks.

They outlive a crash of sources, and so does what they read with: the services behind files are opened and closed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from actors.poller import Poller
from runner.backend import Backend, closed
from runner.credential import Credential
from runner.messages import CredentialChanged, StopFetching
from runner.ports import Broker
from runner.ring import EDGE, Ring
from runner.source import StandingPoller

END_S = 5.0


class QueuePollers:
    """How pollers come and go (the ``Pollers`` of sources)."""

    def __init__(self, ring: Ring) -> None:
        """Begin without any."""
        self._ring = ring
        # By the poller's name: what it reads with now, so that a restarted one has the newest rights.
        self._standing: dict[str, StandingPoller] = {}
        # Those that fetch no more, and whether what runs of them is cancelled.
        self._finishing: dict[str, bool] = {}
        # Whose end was begun: sources may crash over it, and must go on with it then.
        self._ending: set[str] = set()
        # By the poller's name, over all its restarts.
        self._backends: dict[str, Backend] = {}
        # All that are open, also those that no poller reads yet.
        self._brokers: list[Broker] = []

    def open(self, credential: Credential) -> Broker:
        """Open the service of a credential file; it is closed once no file names it and no poller reads it."""
        broker = self._ring.world.open_broker(credential)
        self._brokers.append(broker)
        return broker

    async def close_unnamed(self, named: Collection[Broker]) -> None:
        """Close the services that are neither among these nor read by a poller."""
        wanted = [*named, *(poller.broker for poller in self._standing.values())]
        for broker in tuple(self._brokers):
            if broker not in wanted:
                self._brokers.remove(broker)
                await closed(broker.close, "a service that no credential file names any more", self._ring.caller)

    def standing(self) -> tuple[StandingPoller, ...]:
        """Return those that were started and not ended."""
        return tuple(self._standing.values())

    def ending(self) -> tuple[StandingPoller, ...]:
        """Return those whose end was begun and not completed."""
        return tuple(self._standing[name] for name in self._ending)

    def start(self, poller: StandingPoller) -> None:
        """Start the poller of one queue, in the edge group: its failures are its own."""
        name = _name(poller.source, poller.queue)
        self._standing[name] = poller
        self._backends[name] = Backend(self._ring.world)
        self._ring.address(name)
        self._ring.add(name, lambda: self._new(name), group="edge", restart=EDGE)

    def _new(self, name: str) -> Poller:
        ring, standing = self._ring, self._standing[name]
        if name in self._finishing:
            ring.address(name).urgent(StopFetching(cancel=self._finishing[name]))
        return Poller(
            ring.config,
            ring.world,
            ring.faults,
            standing=standing,
            backend=self._backends[name],
            directory=ring.directory,
            allowance=ring.allowance,
            quiet=ring.quiet,
            stages=ring.stages,
            sources=ring.address("sources"),
        )

    def change(self, poller: StandingPoller) -> None:
        """Let a poller go on with other rights, also where it was finishing."""
        name = _name(poller.source, poller.queue)
        if name not in self._standing:
            return  # it ended just now; a source that names its queue starts it again
        self._standing[name] = poller
        self._finishing.pop(name, None)
        self._ring.address(name).urgent(CredentialChanged(poller.file))

    async def move(self, broker: Broker, credential: Credential) -> None:
        """
        Let a service and the result backends of its pollers go on with other secrets.

        Raises:
            RunnerError: they are refused, or it could not be tried.
        """
        await broker.change(credential)
        for name, poller in tuple(self._standing.items()):
            if poller.broker is broker and name in self._backends:
                await self._backends[name].change(credential, self._ring.caller)

    def finish(self, source: str, queue: str, *, cancel: bool = False) -> None:
        """Let a poller fetch no more; it says when its last claim is settled. ``cancel`` ends what runs of it."""
        name = _name(source, queue)
        if name in self._standing:
            self._finishing[name] = cancel
            self._ring.address(name).urgent(StopFetching(cancel=cancel))

    async def end(self, source: str, queue: str) -> None:
        """Stop one gracefully, close its result backend after the last user, and forget it."""
        name = _name(source, queue)
        self._ending.add(name)
        await self._ring.remove(name, grace_s=END_S)
        if name in self._backends:
            await self._backends[name].unused()
            await self._backends.pop(name).close(self._ring.caller)
        self._standing.pop(name, None)
        self._finishing.pop(name, None)
        self._ending.discard(name)

    async def close(self) -> None:
        """Close all that pollers read and stored with, after the last actor that used it."""
        async with asyncio.TaskGroup() as group:
            for name in tuple(self._backends):
                group.create_task(self._backends.pop(name).close(self._ring.caller))
            for broker in self._brokers:
                group.create_task(closed(broker.close, "a service", self._ring.caller))
        self._brokers.clear()


def _name(source: str, queue: str) -> str:
    """Return a name that no other source and queue have; a queue may be called anything."""
    return f"poller {source.replace('%', '%25').replace(' ', '%20')} {queue}"
