"""A deployed machine, looked at from inside: what runs, who may read what, where secrets are and where they are not."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.box import Box
from deploy.deployed import VARIABLES
from deploy.lab import Lab
from deploy.playbook import Ansible, Play
from deploy.shell import Result, answer
from deploy.watching import next_runs
from msgspec import Struct

TIMERS = ("trading-check", "trading-backup", "trading-morning", "trading-evening", "trading-weekly", "trading-monthly",
          "trading-archive", "trading-verify", "trading-drill", "certbot", "apt-daily", "apt-daily-upgrade",
          "logrotate")  # fmt: skip
RUNNING = ("trading.target", "trading-engine.service", "trading-api.service", "trading-api.socket",
           "redis-server.service", "nginx.service", "ssh.service", "nftables.service", "systemd-journald.service",
           "systemd-resolved.service", "unattended-upgrades.service",
           *(f"{name}.timer" for name in TIMERS))  # fmt: skip
# Started by others, and so not enabled themselves.
NOT_ENABLED = ("systemd-journald.service",)
RIGHTS = """
/etc/trading                        755 root        root
/etc/trading/trading.env            644 root        root
/etc/trading/credentials            700 root        root
/etc/trading/credentials/*          600 root        root
/etc/trading/apprise.yml            600 root        root
/etc/trading/deployment.json        600 root        root
/etc/trading/tls                    755 root        root
/etc/trading/tls/fullchain.pem      644 root        root
/etc/trading/tls/privkey.pem        600 root        root
/etc/redis                          750 root        redis
/etc/redis/redis.conf               640 root        redis
/etc/redis/users.acl                640 root        redis
/etc/nginx/nginx.conf               644 root        root
/etc/nftables.conf                  755 root        root
/etc/sudoers.d/trading-operators    440 root        root
/etc/systemd/system/trading-*       644 root        root
/opt/trading                        755 root        root
/opt/trading/releases               755 root        root
/opt/trading/releases/*             755 root        root
/usr/local/bin/tradectl             755 root        root
/usr/local/sbin/*                   755 root        root
/var/lib/trading                    750 trading     trading
/var/lib/trading/ledger.sqlite3     640 trading     trading
/var/backups/trading                750 trading     trading
/var/lib/trading-ops                755 trading-ops trading-ops
/var/lib/trading-ops/stamps         2775 trading-ops trading-ops
/var/lib/trading-deploy             755 root        root
/var/lib/trading-tls                755 root        root
/var/lib/redis                      750 redis       redis
/home/operator                      750 operator    trading-operators
/home/operator/.ssh                 700 operator    trading-operators
/home/operator/.ssh/authorized_keys 600 operator    trading-operators
"""
SSHD = {
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "permitemptypasswords": "no",
    "authenticationmethods": "publickey",
    "permitrootlogin": "without-password",
    "x11forwarding": "no",
    "allowagentforwarding": "no",
    "allowtcpforwarding": "local",
    "permittunnel": "no",
    "maxauthtries": "5",
    "logingracetime": "30",
}
JOURNAL = (
    "Storage=persistent",
    "SystemMaxUse=1G",
    "SystemKeepFree=1G",
    "MaxRetentionSec=90day",
    "RateLimitBurst=10000",
)
# Recognisable, and of the form that each has to have.
TOKEN = "planted-token-7f3b1c5d9e2a4680"
PLANTED = {
    "FINNHUB_API_KEY": "plantedfinnhub0a1b2c3d4e5f",
    "TWELVEDATA_API_KEY": "plantedtwelve6a7b8c9d0e1f",
    "API_TOKENS": f"planted:read:{hashlib.sha256(TOKEN.encode()).hexdigest()}",
}
MAIL_PASSWORD = "planted-mail-5e7c9a1b3d"
APPRISE = f"urls:\n  - mailtos://ops:{MAIL_PASSWORD}@mail.example.test:\n      - tag: critical\n"
# Where a secret may be: for root alone, or handed over by systemd to the one service that needs it.
KEPT = re.compile(r"/etc/trading/(credentials/[A-Z_]+|apprise\.yml|deployment\.json)|/run/credentials/.*")


class Deployed(Struct, frozen=True):
    """A machine after a deployment with secrets, and what that run said."""

    box: Box
    play: Play
    directory: Path
    secrets: tuple[str, ...]


@pytest.fixture(scope="module")
def host(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    box = lab.up("host", deployed_layer)
    box.wait_until_booted()
    directory = tmp_path_factory.mktemp("controller")
    controller = Ansible(directory, box, variables=VARIABLES | {"trading_secrets": PLANTED, "trading_apprise": APPRISE})
    play = controller.run("deploy.yml", "-vvv", "--diff").must()
    made = box.run("cat /etc/trading/credentials/REDIS_*").split()
    yield Deployed(box, play, directory, (*PLANTED.values(), MAIL_PASSWORD, *made))
    lab.remove(box)


def as_operator(box: Box, command: str) -> Result:
    return answer("ssh", *box.ssh_options(), f"operator@{box.address}", command)


def found_in(text: str, secrets: tuple[str, ...]) -> list[str]:
    """Return the secrets that a text has; of a failed test they are shown, and open nothing."""
    return [secret for secret in secrets if secret in text]


# -- what runs ------------------------------------------------------------------------------------------------------


def test_every_unit_runs_and_starts_with_the_machine(host: Deployed) -> None:
    assert {unit: state for unit, state in host.box.status(*RUNNING).items() if state != "active"} == {}
    wanted = [unit for unit in RUNNING if unit not in NOT_ENABLED]
    said = host.box.run(f"systemctl is-enabled {' '.join(wanted)}").split()
    assert {unit: word for unit, word in zip(wanted, said, strict=True) if word != "enabled"} == {}


def test_nothing_that_starts_with_the_machine_waits_for_a_reboot(host: Deployed) -> None:
    listed = json.loads(host.box.run("systemctl list-unit-files --type=timer,socket --state=enabled -o json"))
    waiting = host.box.status(*(unit["unit_file"] for unit in listed if not unit["unit_file"].endswith("@.socket")))
    # A container trims no disk; the unit itself says so.
    idle = {unit for unit, state in waiting.items() if state != "active"} - {"fstrim.timer"}
    assert idle == set()


def test_no_unit_has_failed(host: Deployed) -> None:
    assert host.box.wait_until_booted() == "running", host.box.run("systemctl --failed --no-pager")


def test_every_job_has_a_next_run(host: Deployed) -> None:
    units = [f"{name}.timer" for name in TIMERS]
    assert set(next_runs(host.box, *units)[1]) == set(units)
    print(host.box.run("systemctl list-timers 'trading-*' certbot.timer --no-pager"))


# -- who may do what ------------------------------------------------------------------------------------------------


def test_every_file_has_the_rights_it_shall_have(host: Deployed) -> None:
    wrong = []
    for line in RIGHTS.split("\n")[1:-1]:
        pattern, *wanted = line.split()
        shown = host.box.run(f"stat -L -c '%n %a %U %G' {pattern}").splitlines()
        wrong += [one for one in shown if one.split()[1:] != wanted]
    assert wrong == []


def test_no_service_can_change_what_it_runs(host: Deployed) -> None:
    assert host.box.run("find /opt/trading ! -type l \\( ! -user root -o ! -group root -o -perm /022 \\)") == ""
    for user in ("trading", "trading-ops", "redis", "www-data"):
        at = "/opt/trading/current/lib/planted /etc/trading/planted /usr/local/sbin/planted /etc/systemd/system/planted"
        tried = host.box.run(
            f"for path in {at}; do runuser -u {user} -- touch $path 2>/dev/null && echo $path; done; :"
        )
        assert tried == "", user


def test_services_cannot_read_the_secrets_of_others(host: Deployed) -> None:
    secrets = "/etc/trading/credentials/* /etc/trading/apprise.yml /etc/trading/tls/privkey.pem"
    for user in ("trading", "trading-ops", "redis", "www-data", "operator"):
        read = host.box.run(
            f"for file in {secrets}; do runuser -u {user} -- cat $file 2>/dev/null && echo $file; done; :"
        )
        assert read == "", user


def test_users_are_in_no_other_group_than_they_need(host: Deployed) -> None:
    groups = {user: set(host.box.run(f"id -Gn {user}").split()) for user in ("trading", "trading-ops", "operator")}
    assert groups == {
        "trading": {"trading", "redis"},
        "trading-ops": {"trading-ops", "redis", "systemd-journal"},
        "operator": {"trading-operators", "systemd-journal"},
    }
    shells = host.box.run("getent passwd trading trading-ops | cut -d: -f7").split()
    assert shells == ["/usr/sbin/nologin"] * 2
    passwords = host.box.run("cut -d: -f1,2 /etc/shadow").split()
    assert [line for line in passwords if line.partition(":")[2][:1] not in ("!", "*")] == []


def test_the_operator_logs_in_by_key_and_may_do_everything_with_sudo(host: Deployed) -> None:
    assert as_operator(host.box, "sudo -n id -un").stdout.strip() == "root"
    assert as_operator(host.box, "journalctl -u trading-engine -n 1 --no-pager").ok
    assert as_operator(host.box, "sudo -n tradectl status").ok


def test_sshd_lets_in_by_key_alone(host: Deployed) -> None:
    meant = dict(line.split(" ", 1) for line in host.box.run("sshd -T").splitlines() if " " in line)
    assert {key: meant.get(key) for key in SSHD} == SSHD


# -- log, names, clock, upgrades, firewall --------------------------------------------------------------------------


def test_the_journal_is_kept_on_the_disk_within_limits(host: Deployed) -> None:
    meant = host.box.run("systemd-analyze cat-config systemd/journald.conf").splitlines()
    assert [line for line in JOURNAL if line not in meant] == []
    assert "/var/log/journal/" in host.box.run("journalctl --header --system | grep '^File path'")


def test_the_clock_is_kept_by_timesyncd(host: Deployed) -> None:
    assert host.box.run("systemctl is-enabled systemd-timesyncd").strip() == "enabled"
    meant = host.box.run("systemd-analyze cat-config systemd/timesyncd.conf")
    assert "PollIntervalMaxSec=1024" in meant and "SaveIntervalSec=60" in meant
    assert host.box.run("timedatectl show -p Timezone --value").strip() == "Etc/UTC"


def test_security_fixes_alone_come_by_themselves_and_reboot_nothing(host: Deployed) -> None:
    said = host.box.run("unattended-upgrade --dry-run --debug 2>&1 | grep -m1 'Allowed origins'", seconds=120)
    assert set(re.findall(r"label=([\w-]+)", said)) == {"Debian-Security"}
    settings = host.box.run("apt-config dump")
    assert 'Unattended-Upgrade::Automatic-Reboot "false"' in settings
    assert 'APT::Periodic::Unattended-Upgrade "1"' in settings


def test_an_upgrade_leaves_what_trades_running_and_says_so(host: Deployed) -> None:
    units = ("trading-engine", "trading-api", "redis-server", "nginx")
    began = "ActiveEnterTimestampMonotonic"
    before, redis = {unit: host.box.show(unit, began) for unit in units}, host.box.show("redis-server", "MainPID")
    host.box.run("apt-get install --reinstall -q -y redis-server nginx", seconds=300)
    assert {unit: host.box.show(unit, began) for unit in units} == before
    assert host.box.show("redis-server", "MainPID") == redis
    # nginx is not named: it takes the new program by itself, under open connections.
    assert host.box.run("ls /run/trading-restart-pending").split() == ["redis-server.service"]
    host.box.run("rm -r /run/trading-restart-pending/*")
    assert host.box.run("curl -sk -o /dev/null -w '%{http_version}' https://localhost/").strip()


def test_the_firewall_turns_away_what_is_not_named(host: Deployed) -> None:
    rules = host.box.run("nft --stateless list chain inet trading input")
    assert "policy drop" in rules
    opened = [port for ports in re.findall(r"tcp dport (?:\{ )?([\d, ]+)", rules) for port in ports.split(", ")]
    assert sorted(port.strip() for port in opened) == ["22", "443", "80"]


# -- secrets --------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_the_output_of_the_deployment(host: Deployed) -> None:
    assert host.play.changed > 0 and "/etc/trading/credentials/FINNHUB_API_KEY" in host.play.output
    assert found_in(host.play.output, host.secrets) == []


def test_the_controller_keeps_no_secret_but_in_its_inventory(host: Deployed) -> None:
    files = [path for path in host.directory.rglob("*") if path.is_file() and path.name != "hosts.json"]
    assert [path for path in files if found_in(path.read_text(errors="replace"), host.secrets)] == []


def test_no_secret_is_in_arguments_environments_units_or_the_journal(host: Deployed) -> None:
    places = {
        "arguments": "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
        "environments": "cat /proc/[0-9]*/environ | tr '\\0' ' '",
        "units": "systemctl show '*'; systemctl show-environment",
        "unit files": "systemctl cat 'trading*' 'redis*' 'nginx*' 'certbot*'",
        "journal": "journalctl --no-pager -o verbose --all",
        "accounting": "cat /var/log/*.log /var/log/*/*.log",
    }
    found = {what: found_in(host.box.ssh(command).stdout, host.secrets) for what, command in places.items()}
    assert {what: secrets for what, secrets in found.items() if secrets} == {}


def test_secrets_are_on_the_disk_for_root_alone(host: Deployed) -> None:
    # The list is read from a file that only root can read, and that is no part of what is searched.
    host.box.run("install -m 600 /dev/null /dev/shm/planted && cat > /dev/shm/planted", text="\n".join(host.secrets))
    places = "/etc /var /opt /tmp /root /home /srv /usr/local /run"
    command = f"grep -rlaF --devices=skip -f /dev/shm/planted {places} 2>/dev/null; rm /dev/shm/planted"
    found = host.box.ssh(command, seconds=120).stdout.splitlines()
    assert len(found) >= len(host.secrets)
    assert [path for path in found if not KEPT.fullmatch(path)] == []


# -- and after a reboot ---------------------------------------------------------------------------------------------


def test_names_are_resolved_before_and_after_a_reboot_and_everything_is_back(host: Deployed) -> None:
    box = host.box
    boots = box.run("journalctl --list-boots --no-pager -q").count("\n")
    assert box.run("readlink -f /etc/resolv.conf").strip() == "/run/systemd/resolve/stub-resolv.conf"
    name = "getent ahosts $(awk -F/ '/^deb /{print $3; exit}' /etc/apt/sources.list)"
    assert box.ssh(name).ok
    box.reboot()
    assert box.wait_until_booted() == "running", box.run("systemctl --failed --no-pager")
    box.wait_for(name, 15)
    assert {unit: state for unit, state in box.status(*RUNNING).items() if state != "active"} == {}
    assert box.run("journalctl --list-boots --no-pager -q").count("\n") == boots + 1
    assert "policy drop" in box.run("nft list chain inet trading input")
    box.wait_for("curl -sS --fail http://127.0.0.1:8000/health/ready", 60)


def test_a_deployment_by_an_operator_shuts_the_door_for_root(host: Deployed, tmp_path: Path) -> None:
    controller = Ansible(tmp_path / "operator", host.box, variables=VARIABLES)
    controller.run("deploy.yml", "--tags", "base", ansible_user="operator").must()
    host.box.hang_up()
    assert as_operator(host.box, "sudo -n sshd -T | grep permitrootlogin").stdout.split() == ["permitrootlogin", "no"]
    assert not host.box.ssh("true").ok
    as_operator(host.box, "sudo -n rm /etc/ssh/sshd_config.d/10-trading.conf; sudo -n systemctl reload ssh").must()
