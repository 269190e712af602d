"""A deployed machine, looked at from outside: by this machine, and by another one of its network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from deploy.box import SSH, Box
from deploy.deployed import VARIABLES
from deploy.lab import Lab
from deploy.shell import answer

OPEN = {22, 80, 443}
PORTS = (21, 22, 23, 25, 53, 80, 111, 123, 443, 631, 2019, 2586, 3000, 5355, 5432, 6379, 8000, 8080, 8443, 9090, 9100,
         16379, 26379, 31337)  # fmt: skip
LISTENER = 31337
SECONDS = 1.5
DOMAIN = VARIABLES["trading_domain"]


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def listening(deployed_box: Box) -> Box:
    """A machine on which a program listens to everybody, so that it is the firewall alone that closes the port."""
    program = f"/usr/bin/python3 -m http.server {LISTENER} --directory /var/empty --bind 0.0.0.0"
    deployed_box.run(f"mkdir -p /var/empty; systemd-run --unit=loud {program}")
    deployed_box.wait_for(f"curl -s http://127.0.0.1:{LISTENER}/")
    deployed_box.wait_for("curl -s http://127.0.0.1:8000/health")
    return deployed_box


@pytest.fixture(scope="module")
def neighbour(lab: Lab) -> Iterator[Box]:
    box = lab.up("neighbour")
    yield box
    lab.remove(box)


def test_this_machine_reaches_three_ports(listening: Box) -> None:
    with ThreadPoolExecutor(len(PORTS)) as pool:
        reached = dict(zip(PORTS, pool.map(partial(answers, listening.address), PORTS), strict=True))
    assert {port for port, open_ in reached.items() if open_} == OPEN


def test_a_neighbour_reaches_the_same_three_ports(listening: Box, neighbour: Box) -> None:
    tried = f"timeout 2 bash -c '</dev/tcp/{listening.address}/'$port 2>/dev/null && echo $port"
    reached = neighbour.run(f"for port in {' '.join(map(str, PORTS))}; do ({tried}) & done; wait; true")
    assert {int(port) for port in reached.split()} == OPEN


def test_a_neighbour_does_not_get_through_to_a_loopback_address(listening: Box, neighbour: Box) -> None:
    neighbour.run(f"ip route add 127.0.0.2/32 via {listening.address}; sysctl -q net.ipv4.conf.all.route_localnet=1")
    assert not neighbour.ssh("timeout 2 bash -c '</dev/tcp/127.0.0.2/8000'").ok


def test_https_answers_and_http_leads_there(listening: Box) -> None:
    to = ("--resolve", f"{DOMAIN}:443:{listening.address}", "--resolve", f"{DOMAIN}:80:{listening.address}")
    curl = ("curl", "-sk", "--noproxy", "*", *to, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}")
    code, leads = answer(*curl, f"http://{DOMAIN}/").stdout.split()
    assert (code in ("301", "308"), leads) == (True, f"https://{DOMAIN}/")
    assert answer(*curl, f"https://{DOMAIN}/account").stdout.strip() == "401"


def test_a_password_is_not_even_asked_for(listening: Box) -> None:
    options = ("-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive")
    quiet = SSH[1 : SSH.index("ControlMaster=auto") - 1]
    for user in ("root", "operator", "trading", "nobody"):
        tried = answer("ssh", *quiet, *options, f"{user}@{listening.address}", "true")
        assert not tried.ok and "Permission denied (publickey)" in tried.stderr, tried


def test_a_key_that_nobody_knows_opens_nothing(listening: Box, tmp_path: object) -> None:
    key = f"{tmp_path}/key"
    answer("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).must()
    quiet = SSH[1 : SSH.index("ControlMaster=auto") - 1]
    tried = answer("ssh", *quiet, "-o", "IdentitiesOnly=yes", "-i", key, f"root@{listening.address}", "true")
    assert not tried.ok and "Permission denied (publickey)" in tried.stderr, tried
