"""
The networks of one box on its engine: a bridge for each name that a policy names, made on demand, always filtered.

A job that asks for a network gets it filtered or does not start. A network goes with its last job; those that an
earlier life left are taken away when the first one is asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging

import msgspec

from adapters.containers import packet_filter
from adapters.containers.docker_engine import Engine, EngineRefusal, decoded, in_thread
from adapters.containers.docker_state import LABEL_BOX, LABEL_NETWORK
from runner.errors import Unavailable

logger = logging.getLogger(__name__)
ALONE = "none"
LOOK_EVERY_S = 4.0
_BRIDGE_OPTION = "com.docker.network.bridge.name"


class _Subnet(msgspec.Struct, frozen=True):
    subnet: str = msgspec.field(name="Subnet", default="")


class _Addresses(msgspec.Struct, frozen=True):
    config: list[_Subnet] | None = msgspec.field(name="Config", default=None)


class _Network(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="Id")
    name: str = msgspec.field(name="Name")
    driver: str = msgspec.field(name="Driver", default="")
    ipv6: bool = msgspec.field(name="EnableIPv6", default=False)
    addresses: _Addresses = msgspec.field(name="IPAM", default=_Addresses())
    options: dict[str, str] | None = msgspec.field(name="Options", default=None)
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)

    @property
    def bridge(self) -> str:
        return (self.options or {}).get(_BRIDGE_OPTION, "")

    @property
    def subnet(self) -> str:
        return next((one.subnet for one in self.addresses.config or ()), "")


class Networks:
    """The networks that carry one box's id; any number of calls at once."""

    def __init__(self, engine: Engine, box: str) -> None:
        self._engine = engine
        self._box = box
        # One at a time: rules are read, then written.
        self._making = asyncio.Lock()
        # When the rules of each network were looked at while its jobs ran, by the loop's clock.
        self._looked_at: dict[str, float] = {}
        # The network of each job or build that asked for one, from before its start until it is gone.
        self._users: dict[object, str] = {}
        # Whether what an earlier life left was looked through.
        self._is_tidy = False

    def name_of(self, network: str) -> str:
        """Return what the engine calls a network."""
        return ALONE if network == ALONE else f"runner-{self._box[:8]}-{network}"

    async def prepare(self, network: str, user: object) -> None:
        """
        See to it, right before a job starts, that its network is there and filtered, until its ``user`` lets it go.

        Raises:
            RuntimeMissing: it cannot be filtered; the text says why.
            Unavailable: the engine did not make it, or it cannot be filtered now.
        """
        if network == ALONE:
            return
        self._users[user] = network
        await self._filtered(network)

    async def _filtered(self, network: str) -> None:
        async with self._making:
            found = await self._look(network) or await self._make(network)
            if (
                found.labels is None
                or found.labels.get(LABEL_BOX) != self._box
                or found.bridge != self._bridge(network)
            ):
                raise Unavailable(f"a network {found.name} of another owner is in the way; remove or rename it")
            try:
                await in_thread(packet_filter.enforce, found.bridge, found.subnet)
            except Unavailable as error:
                raise type(error)(f"network {network}: no job gets it unfiltered, and {error}") from error
            if not self._is_tidy:
                await self._tidy(found.id)
                self._is_tidy = True

    async def let_go(self, user: object, network: str) -> None:
        """Take a network away, with its rules, where this was the last user; an earlier life may have begun it."""
        network = self._users.pop(user, network)
        if network == ALONE:
            return
        try:
            async with self._making:
                found = await self._look(network)
                if found is not None and network not in self._users.values() and await self._is_removed(found):
                    await in_thread(packet_filter.forget, found.bridge)
        except Unavailable as error:
            facts = {"action": "filter", "network": network, "reason": str(error)}
            logger.warning("a network is left over; the next life removes it", extra=facts)

    async def hold(self, network: str) -> None:
        """Set the rules again while jobs run, where something flushed them; asked often, it looks every few seconds."""
        now = asyncio.get_running_loop().time()
        if network == ALONE or now < self._looked_at.get(network, -LOOK_EVERY_S) + LOOK_EVERY_S:
            return
        self._looked_at[network] = now
        try:
            if not await in_thread(packet_filter.stands, self._bridge(network)):
                logger.warning("the rules of a network were flushed", extra={"action": "filter", "network": network})
                await self._filtered(network)
        except Unavailable as error:
            logger.error(
                "a network is not filtered", extra={"action": "filter", "network": network, "reason": str(error)}
            )

    async def _look(self, network: str) -> _Network | None:
        name = self.name_of(network)
        try:
            async with (
                self._engine.call(f"describe network {name}") as docker,
                self._engine.send(docker, "GET", f"networks/{name}") as answer,
            ):
                return decoded(await answer.json(content_type=None), _Network, self._engine.url)
        except EngineRefusal as refusal:
            refusal.unless_absent()
            return None

    async def _make(self, network: str) -> _Network:
        name = self.name_of(network)
        body = {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "EnableIPv6": False,
            "Labels": {LABEL_BOX: self._box, LABEL_NETWORK: network},
            "Options": {
                _BRIDGE_OPTION: self._bridge(network),
                "com.docker.network.bridge.enable_icc": "false",
            },
        }
        async with self._engine.call(f"make network {name}") as docker:
            await docker.networks.create(body)
        made = await self._look(network)
        if made is None:
            raise Unavailable(f"network {name} was removed by somebody else as it was made")
        return made

    def _bridge(self, network: str) -> str:
        return f"rn{hashlib.sha256(f'{self._box}/{network}'.encode()).hexdigest()[:10]}"

    async def _tidy(self, wanted: str) -> None:
        """Remove networks of this box that no container uses."""
        filters = json.dumps({"label": [f"{LABEL_BOX}={self._box}"]})
        async with (
            self._engine.call("list this box's networks") as docker,
            self._engine.send(docker, "GET", "networks", filters=filters) as answer,
        ):
            ours = decoded(await answer.json(content_type=None), list[_Network], self._engine.url)
        for network in ours:
            if network.id != wanted and await self._is_removed(network):
                await in_thread(packet_filter.forget, network.bridge)

    async def _is_removed(self, network: _Network) -> bool:
        """Try to remove a network; the engine refuses while a container is on it."""
        try:
            async with (
                self._engine.call(f"remove network {network.name}") as docker,
                self._engine.send(docker, "DELETE", f"networks/{network.id}"),
            ):
                return True
        except EngineRefusal:
            return False
