"""The packet filter's rules as text: what is denied, what is opened for names, and where jumps are put."""

from __future__ import annotations

import ipaddress

import pytest

from adapters.containers.egress import (
    METADATA,
    NOWHERE,
    Bridge,
    chains,
    jumps,
    name_servers_in,
    removing,
    restoring,
)

NAME = "rn0123456789"
BRIDGE = Bridge(NAME, "172.30.0.0/16", ("169.254.169.254",))
JUMPS = jumps(NAME, "DOCKER-USER")
EMPTY: dict[tuple[str, str], list[str]] = {(jump.table, jump.chain): [] for jump in JUMPS}


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.42.42", "169.254.0.23", "100.100.100.200",
     "192.0.0.192", "168.63.129.16", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"],
)  # fmt: skip
def test_no_address_where_a_cloud_tells_secrets_is_let_through(address: str) -> None:
    assert any(ipaddress.ip_address(address) in ipaddress.ip_network(net) for net in (*METADATA, *NOWHERE))
    for rules in (chains(BRIDGE)["raw"][NAME], chains(BRIDGE)["filter"][NAME]):
        assert {f"-d {net} -j DROP" for net in (*METADATA, *NOWHERE)} <= {
            rule.removeprefix(f"-i {NAME} ") for rule in rules
        }


def test_a_name_server_at_a_denied_address_answers_names_alone() -> None:
    """As in Google's cloud, where it is the metadata service too."""
    rules = chains(BRIDGE)["raw"][NAME]
    opened = [rule for rule in rules if rule.endswith("-j RETURN")]
    assert [f"-d 169.254.169.254/32 -p {it} -m {it} --dport 53 -j RETURN" for it in ("udp", "tcp")] == opened
    assert rules.index(opened[-1]) < rules.index("-d 169.254.0.0/16 -j DROP")


def test_jumps_are_put_at_the_head_once() -> None:
    head = [line for line in restoring(chains(BRIDGE), JUMPS, EMPTY).splitlines() if line.startswith("-I ")]
    assert [
        f"-I PREROUTING 1 -i {NAME} -j {NAME}",
        f"-I INPUT 1 -i {NAME} -j {NAME}-in",
        f"-I DOCKER-USER 1 -i {NAME} -j {NAME}",
        f"-I DOCKER-USER 1 -o {NAME} -j {NAME}",
    ] == head


def test_jumps_that_stand_behind_others_of_ours_stay() -> None:
    ours = {(jump.table, jump.chain): ["-i rnaaaaaaaaaa -j rnaaaaaaaaaa-in"] for jump in JUMPS}
    for jump in JUMPS:
        ours[jump.table, jump.chain].append(jump.rule)
    text = restoring(chains(BRIDGE), JUMPS, ours)
    assert not [line for line in text.splitlines() if line.startswith(("-I ", "-D "))]


def test_jumps_behind_somebody_elses_rule_are_moved() -> None:
    behind = {(jump.table, jump.chain): ["-j ACCEPT", jump.rule] for jump in JUMPS[:2]}
    lines = restoring(chains(BRIDGE), JUMPS[:2], behind).splitlines()
    at = lines.index(f"-D INPUT -i {NAME} -j {NAME}-in")
    assert f"-I INPUT 1 -i {NAME} -j {NAME}-in" == lines[at + 1]


def test_what_is_removed_is_all_of_ours_and_nothing_else() -> None:
    present = {(jump.table, jump.chain): ["-j ACCEPT", "-i rnaaaaaaaaaa -j rnaaaaaaaaaa"] for jump in JUMPS}
    for jump in JUMPS:
        present[jump.table, jump.chain].append(jump.rule)
    lines = removing(chains(BRIDGE), present).splitlines()
    assert [f"-D {jump.chain} {jump.rule}" for jump in JUMPS] == [line for line in lines if line.startswith("-D")]
    assert [f"-X {NAME}", f"-X {NAME}", f"-X {NAME}-in"] == [line for line in lines if line.startswith("-X")]


def test_name_servers_are_those_that_a_job_asks_through_its_network() -> None:
    """The engine itself asks those on loopback."""
    lines = ("# old", "nameserver 127.0.0.53", "nameserver 10.0.0.2", "nameserver fd00::1", "search x", "nameserver")
    text = "\n".join((*lines, "nameserver 10.0.0.2"))
    assert ("10.0.0.2",) == name_servers_in(text)
