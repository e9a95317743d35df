"""The pollers that run: one per queue behind each credential file, made, changed and ended as sources asks."""

from __future__ import annotations

import msgspec

from actors.poller import Poller
from runner.credential import Credential, CredentialFile
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
        self._finishing: set[str] = set()
        self._brokers: list[Broker] = []

    def standing(self) -> tuple[StandingPoller, ...]:
        """Return those that were started and not ended."""
        return tuple(self._standing.values())

    def start(self, poller: StandingPoller) -> None:
        """Start the poller of one queue, in the edge group: its failures are its own."""
        name = _name(poller.file.file, poller.queue)
        self._standing[name] = poller
        if poller.broker not in self._brokers:
            self._brokers.append(poller.broker)
        self._ring.address(name)
        self._ring.add(name, lambda: self._new(name), group="edge", restart=EDGE)

    def _new(self, name: str) -> Poller:
        ring, standing = self._ring, self._standing[name]
        if name in self._finishing:
            ring.address(name).urgent(StopFetching())
        inventory, _, _, outputs = ring.stages
        return Poller(
            ring.config,
            ring.world,
            ring.faults,
            standing=standing,
            directory=ring.directory,
            inventory=inventory,
            outputs=outputs,
            stages=ring.stages,
            sources=ring.address("sources"),
        )

    def change(self, file: CredentialFile, credential: Credential, queue: str) -> None:
        """Let a poller go on with other rights, also where it was finishing."""
        name = _name(file.file, queue)
        self._standing[name] = msgspec.structs.replace(self._standing[name], file=file, credential=credential)
        self._finishing.discard(name)
        self._ring.address(name).urgent(CredentialChanged(file))

    def finish(self, source: str, queue: str) -> None:
        """Let a poller fetch no more; it says when its last claim is settled."""
        self._finishing.add(_name(source, queue))
        self._ring.address(_name(source, queue)).urgent(StopFetching())

    async def end(self, source: str, queue: str) -> None:
        """Stop one gracefully and forget it."""
        name = _name(source, queue)
        await self._ring.remove(name, grace_s=END_S)
        self._standing.pop(name, None)
        self._finishing.discard(name)

    async def close(self) -> None:
        """Close the services behind all pollers, after the last one."""
        for broker in self._brokers:
            await broker.close()


def _name(source: str, queue: str) -> str:
    return f"poller {source} {queue}"
