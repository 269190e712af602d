"""Whom nginx counts as one caller: an IPv4 address, or the /64 of an IPv6 one, however it is written."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = (ROOT / "ansible/roles/proxy/templates/nginx.conf.j2").read_text()
# Those of the map $who, in order, as Python writes a named group.
RULES = [
    re.compile(rule.replace("(?<", "(?P<")) for rule in re.findall(r'"~(\^\(\?<network>[^"]+)" \$network;', TEMPLATE)
]
GROUP = st.one_of(st.just(0), st.just(0), st.integers(0, 0xFFFF))


def caller(address: str) -> str:
    """Return what nginx counts an address by."""
    found = next((match for rule in RULES if (match := rule.match(address))), None)
    return found["network"] if found else address


def written(groups: tuple[int, ...]) -> str:
    return str(IPv6Address(sum(group << 16 * (7 - place) for place, group in enumerate(groups))))


def test_both_limits_count_by_it() -> None:
    assert len(RULES) == 2
    assert TEMPLATE.count("_zone $who ") == 2
    assert "_zone $binary_remote_addr" not in TEMPLATE


@pytest.mark.parametrize("address", ["192.0.2.7", "127.0.0.1"])
def test_an_ipv4_address_is_a_caller(address: str) -> None:
    assert caller(address) == address


def test_addresses_of_one_network_are_one_caller_and_those_of_another_are_not() -> None:
    assert caller("2001:db8:1:2::5") == caller("2001:db8:1:2:a:b:c:d") == "2001:db8:1:2:"
    assert caller("2001:db8:1:3::5") != caller("2001:db8:1:2::5")
    assert caller("2001:db8::5:6:7:8") == "2001:db8::"


HALF = st.tuples(GROUP, GROUP, GROUP, GROUP)


@given(network=HALF, hosts=st.lists(HALF, max_size=40))
def test_a_network_is_at_most_three_callers_whatever_its_hosts_choose(
    network: tuple[int, ...], hosts: list[tuple[int, ...]]
) -> None:
    assert len({caller(written(network + host)) for host in hosts}) <= 3
