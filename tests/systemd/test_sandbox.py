"""Every unit has the whole sandbox. What is looser is in one table here, and its reason beside the key in the unit."""

from __future__ import annotations

import re

import pytest
from support.unit_files import Unit, drop_ins, own

SERVICES = own("service")
DROP_INS = drop_ins()

BASELINE = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "PrivateIPC": "yes",
    "PrivateUsers": "yes",
    "PrivateNetwork": "yes",
    "ProtectHostname": "yes",
    "ProtectClock": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "RestrictAddressFamilies": "AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
    "UMask": "0027",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service ~@privileged @resources",
    "SystemCallErrorNumber": "EPERM",
    "LimitCORE": "0",
}
OUTSIDE = {"PrivateNetwork", "RestrictAddressFamilies"}
LOOSER = {
    "trading-alert@.service": OUTSIDE,
    "trading-api.service": set(),
    "trading-archive.service": set(),
    "trading-asked.service": OUTSIDE | {"PrivateUsers"},
    "trading-backup.service": {"CapabilityBoundingSet", "AmbientCapabilities"},
    "trading-check.service": OUTSIDE | {"ProtectHome", "PrivateUsers", "ProtectProc", "ProcSubset"},
    "trading-drill.service": set(),
    "trading-engine.service": OUTSIDE,
    "trading-evening.service": OUTSIDE,
    "trading-monthly.service": OUTSIDE,
    "trading-morning.service": OUTSIDE,
    "trading-restart.service": set(),
    "trading-verify.service": set(),
    "trading-weekly.service": OUTSIDE,
}
OF_DEBIAN = {  # what the drop-ins of Debian's units, which run as root, leave open
    "certbot.service": OUTSIDE | {"SystemCallFilter"},
    "nginx.service": {
        *OUTSIDE,
        "CapabilityBoundingSet",
        "AmbientCapabilities",
        "PrivateUsers",
        "RemoveIPC",
        "SystemCallFilter",
    },
}
TIGHTER = {"UMask": "0077"}  # of root's services, whose files are nobody else's business
ABSENT = {"PrivateNetwork": "RestrictAddressFamilies", "AmbientCapabilities": "CapabilityBoundingSet"}
ROOTS_OWN = {"PrivateUsers", "RemoveIPC"}  # a sandbox for another user, of no use to a master that stays root


def looser(unit: Unit) -> set[str]:
    """Return the keys of the baseline that a unit does not have as they are there."""
    return {
        key
        for key, value in BASELINE.items()
        if not unit.all(key) or " ".join(unit.words(key)) not in (value, TIGHTER.get(key))
    }


def test_the_table_has_every_service() -> None:
    assert sorted(LOOSER) == sorted(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_whole_sandbox_but_for_what_the_table_allows(name: str) -> None:
    assert looser(SERVICES[name]) == LOOSER[name]


@pytest.mark.parametrize("name", OF_DEBIAN)
def test_a_service_of_debian_has_the_whole_sandbox_but_for_what_the_table_allows(name: str) -> None:
    assert looser(DROP_INS[name]) == OF_DEBIAN[name]


@pytest.mark.parametrize(
    ("unit", "key"),
    [(SERVICES[name], key) for name, keys in LOOSER.items() for key in sorted(keys)]
    + [(DROP_INS[name], key) for name, keys in OF_DEBIAN.items() for key in sorted(keys - ROOTS_OWN)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_what_is_looser_says_why_beside_it(unit: Unit, key: str) -> None:
    line = unit.line(key) or unit.line(ABSENT.get(key, key))
    assert line is not None
    assert len(line.reason) > 20
    assert [
        other for other in line.between if other in BASELINE and other not in {**LOOSER, **OF_DEBIAN}[unit.name]
    ] == []


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_may_write_it_cannot_run(name: str) -> None:
    unit = SERVICES[name]
    writable = {"/dev", "/tmp", "/var/tmp", *unit.words("ReadWritePaths")}
    writable |= {f"/var/lib/{name}" for name in unit.words("StateDirectory")}
    writable |= {f"/run/{name}" for name in unit.words("RuntimeDirectory")}
    assert set(unit.words("NoExecPaths")) == writable | {"/"}
    assert unit.words("ExecPaths") == ["/usr", "/opt/trading"]


@pytest.mark.parametrize("name", [name for name in SERVICES if "PrivateNetwork" not in LOOSER[name]])
def test_a_service_without_a_network_may_speak_to_no_address(name: str) -> None:
    assert SERVICES[name].get("IPAddressDeny") == "any"


@pytest.mark.parametrize("name", [name for name in SERVICES if "PrivateNetwork" in LOOSER[name]])
def test_a_service_with_a_network_listens_to_nobody_and_cannot_ask_the_cloud_for_keys(name: str) -> None:
    unit = SERVICES[name]
    assert unit.get("SocketBindDeny") == "any"
    assert "link-local" in unit.words("IPAddressDeny")


def test_the_port_of_the_api_is_for_this_machine_alone() -> None:
    port = own("socket")["trading-api.socket"]
    assert port.all("ListenStream") == ["127.0.0.1:8000"]
    assert (port.get("IPAddressDeny"), port.get("IPAddressAllow")) == ("any", "localhost")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_runs_as_one_of_the_two_users_but_the_one_that_restarts(name: str) -> None:
    unit = SERVICES[name]
    assert unit.get("User") == unit.get("Group")
    assert unit.get("User") in (("root",) if name == "trading-restart.service" else ("trading", "trading-ops"))


def test_the_name_of_an_exception_is_never_misspelt() -> None:
    keys = {key for keys in (*LOOSER.values(), *OF_DEBIAN.values()) for key in keys}
    assert keys <= set(BASELINE)
    assert all(re.fullmatch(r"[A-Za-z]+", key) for key in BASELINE)
