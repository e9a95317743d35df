"""
The packet filter of the network namespace that the runner is in, through ``iptables`` and ``ip6tables``. Blocking.

Everything here may be done again at any time: what stands already stays, what was flushed comes back.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

from adapters.containers.egress import (
    Bridge,
    Jump,
    chains,
    chains_ipv6,
    jumps,
    jumps_ipv6,
    name_servers_in,
    removing,
    restoring,
)
from runner.errors import RuntimeMissing, Unavailable

LIMIT_S = 20.0
_WAIT = ("-w", "10")
_FIRST_OF_DOCKER = "DOCKER-USER"
# What it says where somebody else is changing rules; a moment later it may do it.
_BUSY = ("xtables lock", "temporarily unavailable", "resource busy")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
# Where it stands itself, and where systemd keeps what its own stands for.
_RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_BRIDGED = "/proc/sys/net/bridge/bridge-nf-call-iptables"
_IPV6 = "/proc/net/if_inet6"


def enforce(bridge: str, subnet: str) -> None:
    """
    See to it that what comes from a bridge reaches neither metadata, nor the box, nor another job.

    Raises:
        RuntimeMissing: it cannot be seen to, and why.
        Unavailable: not now; the machine or somebody else's change of rules was in the way.
    """
    if not _is_here(bridge):
        raise RuntimeMissing(f"its bridge {bridge} is not in the runner's network namespace: the engine is elsewhere")
    if _read(_BRIDGED).strip() != "1":
        raise RuntimeMissing(f"{_BRIDGED} is not 1, so that its jobs could reach each other: modprobe br_netfilter")
    servers = tuple(server for path in _RESOLVERS for server in name_servers_in(_read(path)))
    wanted = jumps(bridge, _forward())
    ours = chains(Bridge(bridge, subnet, tuple(dict.fromkeys(servers))))
    _run("iptables-restore", "--noflush", text=restoring(ours, wanted, _present("iptables", wanted)))
    if os.path.exists(_IPV6):
        wanted = jumps_ipv6(bridge)
        text = restoring(chains_ipv6(bridge), wanted, _present("ip6tables", wanted))
        _run("ip6tables-restore", "--noflush", text=text)


def stands(bridge: str) -> bool:
    """
    Tell whether the rules that hold by themselves still stand; a firewall that is loaded anew flushes them.

    Raises:
        Unavailable: nobody can tell.
    """
    lines = _run("iptables", "-t", "raw", "-S").splitlines()
    return f"-A PREROUTING -i {bridge} -j {bridge}" in lines and any(line.startswith(f"-A {bridge} ") for line in lines)


def forget(bridge: str) -> None:
    """
    Take the rules of a bridge away that is gone.

    Raises:
        Unavailable: they cannot be.
    """
    wanted = jumps(bridge, _forward())
    _run("iptables-restore", "--noflush", text=removing(chains(Bridge(bridge, "")), _present("iptables", wanted)))
    if os.path.exists(_IPV6):
        present = _present("ip6tables", jumps_ipv6(bridge))
        _run("ip6tables-restore", "--noflush", text=removing(chains_ipv6(bridge), present))


def _forward() -> str:
    """Name the chain that the engine looks at first; where it keeps none, all of them."""
    tables = _run("iptables", "-t", "filter", "-S")
    return _FIRST_OF_DOCKER if f"-N {_FIRST_OF_DOCKER}" in tables.splitlines() else "FORWARD"


def _present(program: str, wanted: tuple[Jump, ...]) -> dict[tuple[str, str], list[str]]:
    places = dict.fromkeys((jump.table, jump.chain) for jump in wanted)
    return {place: _rules(program, *place) for place in places}


def _rules(program: str, table: str, chain: str) -> list[str]:
    added = f"-A {chain} "
    lines = _run(program, "-t", table, "-S", chain).splitlines()
    return [line.removeprefix(added) for line in lines if line.startswith(added)]


def _is_here(bridge: str) -> bool:
    try:
        return socket.if_nametoindex(bridge) > 0
    except OSError:
        return False


def _run(program: str, *words: str, text: str | None = None) -> str:
    found = shutil.which(program) or shutil.which(program, path=_SBIN)
    if found is None:
        raise RuntimeMissing(f"no {program} on this machine: install iptables")
    try:
        ended = subprocess.run(
            [found, *_WAIT, *words], input=text, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{program} did not do it: {error}") from error
    if ended.returncode != 0:
        told = " ".join(ended.stderr.split()) or str(ended.returncode)
        is_busy = any(busy in told.lower() for busy in _BUSY)
        raise (Unavailable if is_busy else RuntimeMissing)(f"{program} refused: {told}")
    return ended.stdout


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
