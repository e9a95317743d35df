"""
What a job with a network may reach: packet filter rules for one bridge, as ``iptables-restore`` reads them. Pure.

Rules look at addresses as packets carry them, so no spelling, name or redirect goes around them. They stand twice: in
``raw``, before anything rewrites an address, and in ``filter``, where it is known what a rewritten one came to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

import msgspec

METADATA = (
    "169.254.0.0/16",  # link-local: AWS, Azure, Google, OpenStack, Oracle, DigitalOcean, ECS and EKS, Scaleway …
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure's other one
    "192.0.0.0/24",  # 192.0.0.192: Oracle's older one
)
"""Where clouds tell a machine its secrets. Those in IPv6 need no list: a job has none."""
NOWHERE = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")
"""This host, loopback, multicast and broadcast: nothing outside of the box."""
OURS = re.compile(r"rn[0-9a-f]{10}(-in)?")
"""The names of bridges and of their chains."""
DNS_PORT = 53


class Jump(msgspec.Struct, frozen=True):
    """A rule of a chain that is not ours, which sends a bridge's packets into one that is."""

    table: str
    chain: str
    match: str
    target: str

    @property
    def rule(self) -> str:
        """The rule as ``iptables -S`` prints it, after the chain's name."""
        return f"{self.match} -j {self.target}"


class Bridge(msgspec.Struct, frozen=True):
    """
    A network's bridge: its name on the box, its IPv4 subnet, and name servers that its jobs may ask.

    These may stand at a denied address, as Google's does, or be the box itself; only their port 53 is opened.
    """

    name: str
    subnet: str
    name_servers: tuple[str, ...] = ()


def chains(bridge: Bridge) -> dict[str, dict[str, list[str]]]:
    """Return the rules of our own chains, by table and chain."""
    name, questions = bridge.name, list(_questions(bridge.name_servers))
    denied = [f"-d {network} -j DROP" for network in (*METADATA, *NOWHERE)]
    return {
        "raw": {
            name: [
                f"! -s {bridge.subnet} -j DROP",
                f"-d {bridge.subnet} -j DROP",
                *(f"{question} -j RETURN" for question in questions),
                *denied,
                "-m addrtype --dst-type LOCAL -j DROP",
            ]
        },
        "filter": {
            name: [
                f"-o {name} -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP",
                *(f"-i {name} {question} -j RETURN" for question in questions),
                *(f"-i {name} {rule}" for rule in denied),
            ],
            f"{name}-in": [*(f"{question} -j RETURN" for question in questions), "-j DROP"],
        },
    }


def jumps(bridge: str, forward: str) -> tuple[Jump, ...]:
    """Return what leads into our chains; ``forward`` is DOCKER-USER, which the engine keeps first, or FORWARD."""
    return (
        Jump("raw", "PREROUTING", f"-i {bridge}", bridge),
        Jump("filter", "INPUT", f"-i {bridge}", f"{bridge}-in"),
        Jump("filter", forward, f"-i {bridge}", bridge),
        Jump("filter", forward, f"-o {bridge}", bridge),
    )


def chains_ipv6(bridge: str) -> dict[str, dict[str, list[str]]]:
    """Return the rules for IPv6, which is off for jobs and whose packets go nowhere all the same."""
    return {"raw": {bridge: ["-j DROP"]}}


def jumps_ipv6(bridge: str) -> tuple[Jump, ...]:
    """Return what leads there."""
    return (Jump("raw", "PREROUTING", f"-i {bridge}", bridge),)


def restoring(
    ours: dict[str, dict[str, list[str]]], wanted: Iterable[Jump], present: dict[tuple[str, str], list[str]]
) -> str:
    """
    Write what ``iptables-restore --noflush`` puts in place at once, table by table: our chains anew, jumps at the head.

    ``present`` has the rules that stand in each (table, chain) that jumps are in, as ``iptables -S`` prints them.
    """
    lines: list[str] = []
    for table, by_chain in ours.items():
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in by_chain)]
        lines += [f"-A {chain} {rule}" for chain, rules in by_chain.items() for rule in rules]
        for jump in wanted:
            if jump.table == table:
                lines += _placing(jump, present[table, jump.chain])
        lines.append("COMMIT")
    return "\n".join([*lines, ""])


def removing(ours: dict[str, dict[str, list[str]]], present: dict[tuple[str, str], list[str]]) -> str:
    """Write what takes our chains and all that leads into them away; ``present`` as above."""
    lines: list[str] = []
    for table, by_chain in ours.items():
        lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in by_chain)]
        for (of_table, chain), rules in present.items():
            if of_table == table:
                lines += [f"-D {chain} {rule}" for rule in rules if rule.rpartition(" -j ")[2] in by_chain]
        lines += [*(f"-X {chain}" for chain in by_chain), "COMMIT"]
    return "\n".join([*lines, ""])


def _placing(jump: Jump, present: list[str]) -> Iterator[str]:
    """Move a jump to the head, unless nothing stands before it but others of ours."""
    if jump.rule in present:
        before = present[: present.index(jump.rule)]
        if all(OURS.fullmatch(rule.rpartition(" -j ")[2]) for rule in before):
            return
    yield from (f"-D {jump.chain} {rule}" for rule in present if rule == jump.rule)
    yield f"-I {jump.chain} 1 {jump.rule}"


def _questions(name_servers: Iterable[str]) -> Iterator[str]:
    for server in name_servers:
        for protocol in ("udp", "tcp"):
            yield f"-d {server}/32 -p {protocol} -m {protocol} --dport {DNS_PORT}"


def name_servers_in(resolv_conf: str) -> tuple[str, ...]:
    """Return the name servers of a ``resolv.conf`` that jobs ask through their network: IPv4, not on loopback."""
    words = [line.split() for line in resolv_conf.splitlines()]
    named = [line[1] for line in words if line[:1] == ["nameserver"] and len(line) > 1]
    return tuple(dict.fromkeys(server for server in named if _is_asked(server)))


def _is_asked(server: str) -> bool:
    try:
        return not ipaddress.IPv4Address(server).is_loopback
    except ValueError:
        return False
