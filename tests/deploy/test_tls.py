"""Certificates from a real authority (Pebble, on a machine of its own): issued, served, renewed, watched, healed."""

from __future__ import annotations

import json
import shlex
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from deploy.box import Box
from deploy.deployed import DOMAIN, VARIABLES
from deploy.lab import Lab
from deploy.outside import client, on_the_wire, secured
from deploy.playbook import Ansible, Play
from deploy.watching import change, wait_until_done
from msgspec import Struct

CHECK = "trading-check.service"
TRUSTED = "/etc/ssl/house.pem"  # the authority's root, which only the watcher is told to trust
NGINX = "/etc/nginx/nginx.conf"
# As long as the authority's own certificate lasts; the machine trusts it as it would a house's own authority.
FRONT = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=authority"
    " -addext subjectAltName=IP:{address} -keyout /etc/pebble/key.pem -out /etc/pebble/cert.pem"
)
RESOLVER = (
    "pebble-challtestsrv -defaultIPv6 '' -dns01 127.0.0.1:8053 -http01 '' -https01 '' -tlsalpn01 '' -doh ''"
    " -management :8055"
)
NINETY_DAYS = 90 * 24 * 3600
ORDERS = 3  # Pebble takes an earlier proof for one order in a hundred, also where it is told never to


class Authority(Struct, frozen=True):
    """A certificate authority with the DNS that it asks."""

    box: Box
    front: str

    @property
    def directory(self) -> str:
        return f"https://{self.box.address}:14000/dir"

    @property
    def root(self) -> str:
        """Return the certificate at the end of every chain that it signs, in PEM."""
        return self.box.run(f"curl -s --cacert /etc/pebble/cert.pem https://{self.box.address}:15000/roots/0")

    def finds(self, address: str) -> None:
        """Have its DNS lead every name to an address."""
        httpx.post(f"http://{self.box.address}:8055/set-default-ipv4", json={"ip": address}).raise_for_status()


@pytest.fixture(scope="module")
def authority(lab: Lab) -> Iterator[Authority]:
    box = lab.up("authority")
    box.run("apt-get update && apt-get install -y --no-install-recommends pebble curl openssl", seconds=300)
    box.run(f"mkdir -p /etc/pebble && {FRONT.format(address=box.address)} && chmod 644 /etc/pebble/key.pem")
    settings = {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/etc/pebble/cert.pem",
        "privateKey": "/etc/pebble/key.pem",
        "httpPort": 80,
        "tlsPort": 443,
        "certificateValidityPeriod": NINETY_DAYS,
    }
    box.put("/etc/pebble/pebble.json", json.dumps({"pebble": settings}))
    box.run(f"systemd-run --quiet --unit=resolver {RESOLVER}")
    # Without pauses, with a proof for each certificate instead of remembering the last one, and without refusing one
    # request in twenty to see whether a client asks again: certbot does so once, and two in a row are one in 400.
    box.run(
        "systemd-run --quiet --unit=pebble --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_AUTHZREUSE=0"
        " --setenv=PEBBLE_WFE_NONCEREJECT=0"
        " pebble -config /etc/pebble/pebble.json -dnsserver 127.0.0.1:8053"
    )
    box.wait_for(f"curl -s --cacert /etc/pebble/cert.pem https://{box.address}:14000/dir")
    yield Authority(box, box.get("/etc/pebble/cert.pem"))
    lab.remove(box)


class Appliance(Struct, frozen=True):
    """A deployed machine that the authority can see, and who deploys to it."""

    box: Box
    controller: Ansible

    def verdict(self) -> dict[str, Any]:
        return dict(json.loads(self.box.get("/var/lib/trading-tls/verdict.json")))

    def serial(self) -> str:
        return on_the_wire(self.box).serial

    def deploys(self, *options: str) -> Play:
        return self.controller.run("deploy.yml", *options)

    def renews(self, clock: str = "") -> str:
        """Have the unit of Debian's certbot do what its timer has it do, at another time; return its result."""
        self.box.shift_clock("certbot.service", clock)
        self.box.ssh("systemctl start certbot.service", seconds=120)
        self.box.shift_clock("certbot.service", "")
        return self.box.show("certbot.service", "Result")["Result"]

    def trial(self) -> tuple[str, str]:
        """Have the weekly report made as its timer does; return what it says of the trial of a renewal."""
        self.box.run("systemctl start trading-weekly", seconds=300)
        report = json.loads(self.box.run("tradectl report weekly --json"))
        section = next(one for one in report["sections"] if one["title"] == "Certificate")
        line = next(one for one in section["lines"] if one["name"] == "trial")
        return line["status"], line["text"].partition(":")[0]

    def watcher_says(self, clock: str = "") -> str:
        """Return what the watcher's unit writes to the journal about the certificate, at another time."""
        self.box.shift_clock(CHECK, clock)
        wait_until_done(self.box, CHECK)  # one that the timer began before would be taken for ours
        self.box.run(f"systemctl reset-failed {CHECK}; systemctl start {CHECK}")  # it ends what is started too often
        self.box.shift_clock(CHECK, "")
        run = self.box.show(CHECK, "InvocationID")["InvocationID"]
        said = self.box.run(f"journalctl --sync; journalctl --output=cat _SYSTEMD_INVOCATION_ID={run}")
        return next(line for line in said.splitlines() if "certificate " in line)


def appliance(lab: Lab, layer: Path, authority: Authority, name: str) -> Appliance:
    """Boot a deployed machine that has a certificate of its own making, and tell its controller of the authority."""
    box = lab.up(name, layer)
    box.put("/usr/local/share/ca-certificates/authority.crt", authority.front)
    box.run("update-ca-certificates")
    box.put(TRUSTED, authority.root)
    change(box, CHECK, Service=[f"Environment=OPS_TLS_AUTHORITY={TRUSTED}"])  # some deploy the proxy alone
    # Debian's timer draws its delay anew at each reload of systemd, and would at times run it between two of our steps.
    change(box, "certbot.timer", Timer=["RandomizedDelaySec=0"])
    authority.finds(box.address)
    asked = {"trading_acme_email": "ops@example.test", "trading_acme_directory_url": authority.directory}
    return Appliance(box, Ansible(lab.claim.state / f"controller-{name}", box, variables=VARIABLES | asked))


@pytest.fixture(scope="module")
def issued(lab: Lab, deployed_layer: Path, authority: Authority) -> Iterator[Appliance]:
    """A machine with a certificate of the authority."""
    found = appliance(lab, deployed_layer, authority, "issued")
    assert on_the_wire(found.box).self_signed
    found.deploys().must()
    yield found
    lab.remove(found.box)


@pytest.fixture
def early(lab: Lab, deployed_layer: Path, authority: Authority, issued: Appliance) -> Iterator[Appliance]:
    """A machine with a certificate of its own making, whose network does not lead to the authority yet."""
    found = appliance(lab, deployed_layer, authority, "early")
    found.box.run(f"ip route add unreachable {authority.box.address}")
    yield found
    authority.finds(issued.box.address)
    lab.remove(found.box)


# -- issued -------------------------------------------------------------------------------------------------------


def test_a_deploy_gets_a_certificate_that_others_trust_and_a_second_one_changes_nothing(
    issued: Appliance, authority: Authority
) -> None:
    with client(issued.box, "read", authorities=authority.root) as caller:
        assert caller.get("/api/v1/trading/status").status_code == 200
    wire = on_the_wire(issued.box)
    assert timedelta(days=89) < wire.closes - datetime.now(UTC) < timedelta(days=91)
    verdict = issued.verdict()
    assert (verdict["ok"], verdict["serial"].upper()) == (True, wire.serial)
    assert issued.watcher_says().startswith("OK")

    again = issued.deploys().must()
    assert again.changed == 0, again.output
    assert issued.serial() == wire.serial


def test_key_and_account_are_for_root_alone(issued: Appliance) -> None:
    for path in ("/etc/trading/tls/privkey.pem", "/etc/letsencrypt/live/trading/privkey.pem"):
        assert issued.box.run(f"stat -Lc '%U %a' {path}") == "root 600\n"
    assert issued.box.run("stat -c %a /etc/letsencrypt/accounts") == "700\n"


def test_an_authority_that_cannot_be_reached_leaves_the_machine_as_it_was_and_is_asked_again_by_the_timer(
    early: Appliance, authority: Authority
) -> None:
    before = on_the_wire(early.box)
    play = early.deploys("--tags=proxy").must()

    said = " ".join(play.output.split())
    warning = f"WARNING: no certificate for {DOMAIN} yet, the one from before is served: certbot certonly failed:"
    for words in (warning, "Deploy again once this is mended; certbot.timer tries twice a day"):
        assert words in said
    assert (before.self_signed, early.serial()) == (True, before.serial)
    assert not early.verdict()["ok"]
    said = early.watcher_says()
    assert said.startswith("CRITICAL")
    assert "no certificate for" in said

    early.box.run(f"ip route del unreachable {authority.box.address}")
    assert early.renews() == "success"
    assert not on_the_wire(early.box).self_signed
    assert early.watcher_says().startswith("OK")


# -- renewed ------------------------------------------------------------------------------------------------------


def test_a_certificate_is_renewed_in_its_last_third_and_not_before(issued: Appliance, authority: Authority) -> None:
    first, worker = issued.serial(), issued.box.run("pgrep -xo nginx")
    assert issued.renews() == "success"
    assert issued.serial() == first

    assert issued.renews("+65d") == "success"
    second = on_the_wire(issued.box)
    assert second.serial != first
    assert (issued.verdict()["ok"], issued.verdict()["serial"].upper()) == (True, second.serial)
    assert issued.box.run("pgrep -xo nginx") == worker, "nginx is reloaded, not restarted"
    with client(issued.box, authorities=authority.root) as caller:
        assert caller.get("/health").status_code == 401
    assert issued.deploys("--tags=proxy").must().changed == 0


def test_a_renewal_that_nginx_cannot_take_over_is_told_and_healed_by_the_next_deploy(issued: Appliance) -> None:
    before = issued.serial()
    issued.box.run(f"sed -i 's/server_tokens off/server_tokenz off/' {NGINX}")
    assert issued.renews("+65d") == "success", "certbot hides what its hook says"

    verdict = issued.verdict()
    assert not verdict["ok"]
    assert "server_tokenz" in verdict["what"]
    assert issued.serial() == before
    said = issued.watcher_says()
    assert said.startswith("CRITICAL")
    assert "was not put in place" in said
    assert f"but {before} is served; nginx was not reloaded" in said

    healed = issued.deploys("--tags=proxy").must()
    assert healed.changed > 0
    assert issued.verdict()["ok"]
    assert issued.serial() != before
    assert issued.serial() == issued.verdict()["serial"].upper()
    assert issued.watcher_says().startswith("OK")


def test_a_renewal_that_the_authority_refuses_fails_loudly_and_changes_nothing(
    issued: Appliance, authority: Authority
) -> None:
    authority.finds("127.0.0.9")
    for _ in range(ORDERS):
        before, result = issued.serial(), issued.renews("+65d")
        if result != "success":
            break
    authority.finds(issued.box.address)

    assert result == "exit-code"
    assert issued.serial() == before
    issued.box.wait_for("journalctl --unit=trading-alert@certbot.service.service | grep certbot.service")
    issued.box.run("systemctl reset-failed")


def test_the_weekly_report_tells_whether_a_renewal_would_succeed(issued: Appliance, authority: Authority) -> None:
    before = issued.serial()
    assert issued.trial() == ("OK", "a renewal would succeed")
    authority.finds("127.0.0.9")
    told = next((found for found in (issued.trial() for _ in range(ORDERS)) if found[0] != "OK"), None)
    authority.finds(issued.box.address)
    assert told == ("CRITICAL", "it failed")
    assert issued.serial() == before
    issued.box.wait_for("journalctl --unit=trading-alert@certbot-trial.service.service | grep certbot-trial.service")
    assert issued.trial()[0] == "OK"


# -- watched ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "status", "words"),
    [
        ("+70d", "WARN", "the certificate ends in"),
        ("+85d", "CRITICAL", "critical below"),
        ("+95d", "CRITICAL", "ended"),
    ],
)
def test_the_watcher_tells_early_that_a_certificate_runs_out(
    issued: Appliance, clock: str, status: str, words: str
) -> None:
    said = issued.watcher_says(clock)

    assert said.startswith(status)
    assert words in said


def test_a_certificate_on_the_disk_that_is_not_served_is_critical(issued: Appliance) -> None:
    served = issued.serial()
    kept = shlex.quote(issued.box.run("readlink /etc/trading/tls/current").strip())
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=other"
    issued.box.run(
        f"cd /etc/trading/tls && mkdir other && {make} -keyout other/privkey.pem -out other/fullchain.pem"
        " && ln -sfn other current"
    )
    said = issued.watcher_says()
    issued.box.run(f"cd /etc/trading/tls && ln -sfn {kept} current && rm -r other")

    assert said.startswith("CRITICAL")
    assert f"but {served} is served" in said


def test_a_certificate_that_nobody_trusts_is_critical_and_says_why(issued: Appliance) -> None:
    issued.box.run(f"mv {TRUSTED} {TRUSTED}.away; cp /usr/local/share/ca-certificates/authority.crt {TRUSTED}")
    said = issued.watcher_says()
    issued.box.run(f"mv {TRUSTED}.away {TRUSTED}")

    assert said.startswith("CRITICAL")
    assert f"nobody from outside trusts the certificate as {DOMAIN}: unable to get" in said
    assert issued.watcher_says().startswith("OK")


# -- on the wire --------------------------------------------------------------------------------------------------


def agreed(box: Box, version: ssl.TLSVersion) -> str | None:
    """Return the version of TLS that the machine agrees to when only this one is offered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is not ourselves who refuses
    context.minimum_version = context.maximum_version = version
    with secured(box, context) as line:
        return line.version()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused_by_the_machine_and_newer_ones_are_spoken(issued: Appliance) -> None:
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        agreed(issued.box, ssl.TLSVersion.TLSv1_1)
    assert agreed(issued.box, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert agreed(issued.box, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def test_http_2_is_negotiated_and_http_1_still_spoken(issued: Appliance, authority: Authority) -> None:
    root = authority.root
    with client(issued.box, authorities=root) as new, client(issued.box, authorities=root, http2=False) as old:
        assert (new.get("/health").http_version, old.get("/health").http_version) == ("HTTP/2", "HTTP/1.1")


def test_a_client_that_expects_another_name_does_not_trust_the_machine(issued: Appliance, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.root)
    with pytest.raises(ssl.SSLCertVerificationError):
        secured(issued.box, context, "elsewhere.example.test")
