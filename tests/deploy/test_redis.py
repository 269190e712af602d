"""Redis on a deployed machine: who may do what in it, and that trading does not care what becomes of it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from deploy.box import Box
from deploy.deployed import VARIABLES
from deploy.outside import lets_in
from deploy.playbook import Ansible

SOCKET = "/run/redis/redis-server.sock"
PASSWORDS = {
    "trading": "REDIS_PASSWORD",
    "trading-ops": "REDIS_OPS_PASSWORD",
    "trading-backup": "REDIS_BACKUP_PASSWORD",
    "operator": "REDIS_OPERATOR_PASSWORD",
}
# What must never be said to anybody but an operator.
DANGEROUS = (
    "flushall",
    "flushdb",
    "config set maxmemory 1",
    "config rewrite",
    "keys *",
    "scan 0",
    "shutdown",
    "acl list",
    "eval 'return 1' 0",
    "replicaof 192.0.2.1 6379",
    "monitor",
    "client kill id 1",
    "slowlog reset",
    "bgsave",
)
TRADING = "/api/v1/trading"
SECONDS = 20  # in which everything has to be as before


def says(box: Box, user: str, command: str) -> str:
    """Return what Redis answers a user; one without a name needs no password."""
    words = command.replace("*", "'*'")
    if user == "default":
        return box.run(f"redis-cli {words}").strip()
    secret = f"REDISCLI_AUTH=$(cat /etc/trading/credentials/{PASSWORDS[user]})"
    return box.run(f"{secret} redis-cli -s {SOCKET} --no-auth-warning --user {user} {words}").strip()


def operator(box: Box, command: str) -> str:
    return box.run(f"redis-operator {command}").strip()


def ask(box: Box, path: str) -> Any:
    """Return what the API answers on the machine itself."""
    return json.loads(box.run(f"curl -s http://127.0.0.1:8000{path}"))


def give(box: Box, command: str, **body: object) -> Any:
    url = f"http://127.0.0.1:8000{TRADING}/{command}"
    return json.loads(box.run(f"curl -s --data-binary @- {url}", text=json.dumps(body)))


def health(box: Box) -> str:
    return str(ask(box, "/health")["status"])


def wait_until_well(box: Box) -> None:
    box.wait_for(lambda: health(box) == "healthy" and ask(box, f"{TRADING}/status")["redis_connected"], SECONDS)


def main_pid(box: Box, unit: str) -> str:
    return box.show(unit, "MainPID")["MainPID"]


@pytest.fixture(scope="module")
def trading(deployed_box: Box) -> Box:
    wait_until_well(deployed_box)
    return deployed_box


# -- who may do what ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["default", "trading-ops", "trading"])
def test_nobody_but_the_operator_may_do_what_hurts(trading: Box, user: str) -> None:
    answers = {command: says(trading, user, command) for command in DANGEROUS}

    assert {command: said for command, said in answers.items() if not said.startswith("NOPERM")} == {}


def test_trading_reaches_its_own_keys_and_no_others(trading: Box) -> None:
    assert says(trading, "trading", "set trading:test 1 ex 60") == "OK"
    assert says(trading, "trading", "get trading:test") == "1"
    for command in ("set other 1", "get other", "del other", "lrange other 0 -1"):
        assert says(trading, "trading", command).startswith("NOPERM")


def test_without_a_name_one_may_only_ask_how_it_is(trading: Box) -> None:
    assert says(trading, "default", "ping") == "PONG"
    assert "redis_version" in says(trading, "default", "info server")
    for command in ("get trading:test", "set a b", "client list", "config get dir", "subscribe x", "dbsize"):
        assert says(trading, "default", command).startswith("NOPERM")


def test_the_watcher_looks_at_the_server_and_at_no_key(trading: Box) -> None:
    for command in ("ping", "info memory", "config get maxmemory", "client list", "slowlog get", "latency latest"):
        assert not says(trading, "trading-ops", command).startswith("NOPERM")
    assert says(trading, "trading-ops", "get trading:test").startswith("NOPERM")


def test_the_backup_has_redis_save_and_does_nothing_else(trading: Box) -> None:
    assert says(trading, "trading-backup", "bgsave").startswith("Background saving")
    assert says(trading, "trading-backup", "lastsave").isdigit()
    answers = {command: says(trading, "trading-backup", command) for command in (*DANGEROUS, "get trading:test")}
    assert [command for command, said in answers.items() if not said.startswith("NOPERM")] == ["bgsave"]


def test_a_user_with_a_wrong_password_is_turned_away(trading: Box) -> None:
    said = trading.ssh(f"REDISCLI_AUTH=wrong redis-cli -s {SOCKET} --user trading get trading:test")
    assert "WRONGPASS" in said.stdout + said.stderr


def test_the_operator_may_do_all_and_only_root_is_the_operator(trading: Box) -> None:
    assert operator(trading, "acl whoami") == "operator"
    assert "~* &* +@all" in operator(trading, "acl list")
    refused = trading.ssh("runuser -u nobody -- /usr/local/sbin/redis-operator ping")
    assert refused.returncode == 1
    assert "call it as root" in refused.stderr


def test_engine_and_api_sign_in_as_the_trading_user_and_lack_no_right(trading: Box) -> None:
    operator(trading, "acl log reset")
    trading.run("systemctl restart trading-api.service")
    wait_until_well(trading)
    for path in ("/api/v1/market/quotes", "/api/v1/market/bars?symbol=AAPL", f"{TRADING}/status"):
        ask(trading, path)

    assert operator(trading, "client list").count(" user=trading ") >= 2
    assert operator(trading, "acl log") == ""


def test_redis_cannot_be_reached_from_outside(trading: Box) -> None:
    assert not lets_in(trading, 6379)
    assert trading.run("ss -Hltn sport = 6379").split()[3] == "127.0.0.1:6379"
    assert not trading.ssh(f"runuser -u nobody -- redis-cli -s {SOCKET} ping").ok


def test_redis_itself_cannot_change_who_may_do_what(trading: Box) -> None:
    for path in ("/etc/redis", "/etc/redis/users.acl", "/etc/redis/users.rules", "/etc/redis/redis.conf"):
        assert not trading.ssh(f"runuser -u redis -- test -w {path}").ok, path
    assert operator(trading, "config rewrite").startswith("ERR")


def test_redis_holds_no_more_than_configured_and_drops_what_is_oldest(trading: Box) -> None:
    total = int(trading.run("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    expected = min(2048, max(64, total // 256 * 64)) * 1024 * 1024
    settings = operator(trading, "config get maxmemory maxmemory-policy save appendonly stop-writes-on-bgsave-error")
    found = settings.splitlines()

    assert dict(zip(found[::2], found[1::2], strict=True)) == {
        "maxmemory": str(expected),
        "maxmemory-policy": "allkeys-lru",
        "save": "900 1 300 10 60 10000",
        "appendonly": "no",
        "stop-writes-on-bgsave-error": "no",
    }


def test_no_password_can_be_read_by_others(trading: Box) -> None:
    """Looked for in the journal, in all command lines while an operator works, and in every file that all may read."""
    passwords = trading.run(
        f"cd /etc/trading/credentials; for one in {' '.join(PASSWORDS.values())}; do cat $one; echo; done"
    )
    assert all(len(word) >= 40 for word in passwords.split())
    assert len(set(passwords.split())) == len(PASSWORDS)
    trading.put("/root/passwords", "\n".join(passwords.split()) + "\n", mode="0600")
    found = {
        "journal": "journalctl --no-pager | grep -cFf /root/passwords",
        "command lines": "redis-operator blpop nothing 1 >/dev/null & sleep 0.3;"
        " cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -cFf /root/passwords",
        "files": "find / -xdev -path /proc -prune -o -type f -perm -o=r -size -4M -print0"
        " | xargs -0 grep -lFf /root/passwords | wc -l",
    }
    assert {where: trading.ssh(look).stdout.strip() for where, look in found.items()} == dict.fromkeys(found, "0")


# -- whatever becomes of it ---------------------------------------------------------------------------------------


def test_emptied_by_the_operator_it_is_full_again_in_seconds_and_nothing_is_lost(trading: Box) -> None:
    give(trading, "deposit", amount=7, reason="before the flush")
    before = ask(trading, f"{TRADING}/status")
    assert operator(trading, "flushall") == "OK"
    flushed = datetime.fromisoformat(trading.run("date -u +%FT%T.%6N+00:00").strip())

    def live() -> bool:
        quotes = ask(trading, "/api/v1/market/quotes")
        return len(quotes) == 3 and all(datetime.fromisoformat(one["received"]) > flushed for one in quotes)

    trading.wait_for(lambda: int(operator(trading, "dbsize")) > 0 and live(), SECONDS)
    after = ask(trading, f"{TRADING}/status")
    assert (after["state"], after["account"]) == (before["state"], before["account"])
    assert after["ledger_seq"] >= before["ledger_seq"]
    assert trading.ssh("tradectl ledger verify").ok
    wait_until_well(trading)


def test_without_it_trading_goes_on_and_health_says_so(trading: Box) -> None:
    engine = main_pid(trading, "trading-engine.service")
    trading.run("systemctl stop redis-server")
    trading.wait_for(lambda: health(trading) == "degraded", SECONDS)
    said, done = ask(trading, "/health"), give(trading, "deposit", amount=1, reason="without Redis")
    status = ask(trading, f"{TRADING}/status")
    trading.run("systemctl start redis-server")

    assert any("Redis" in reason for reason in said["reasons"]), said
    assert done["outcome"] == "done", done
    assert status["engine_running"]
    assert status["loop_age_seconds"] < 5
    assert not status["redis_connected"]
    wait_until_well(trading)
    assert main_pid(trading, "trading-engine.service") == engine
    assert trading.ssh("tradectl ledger verify").ok


def test_killed_it_comes_back_by_itself_with_what_was_saved(trading: Box) -> None:
    operator(trading, "set trading:kept here")
    operator(trading, "save")
    before = main_pid(trading, "redis-server.service")
    trading.run("systemctl kill --signal=KILL --kill-whom=main redis-server")
    trading.wait_for(lambda: main_pid(trading, "redis-server.service") not in ("0", before), SECONDS)
    wait_until_well(trading)

    assert operator(trading, "get trading:kept") == "here"
    assert trading.status("redis-server") == {"redis-server": "active"}


def test_a_password_that_was_removed_is_made_anew_by_the_next_deploy(trading: Box, tmp_path: Path) -> None:
    files = [f"/etc/trading/credentials/{name}" for name in PASSWORDS.values()]
    before = trading.run(f"sha256sum {' '.join(files)}").split()[::2]
    trading.run(f"rm {' '.join(files)}")
    Ansible(tmp_path / "controller", trading, variables=VARIABLES).run("deploy.yml", "--tags=redis,app").must()

    after = trading.run(f"sha256sum {' '.join(files)}").split()[::2]
    assert not set(before) & set(after)
    wait_until_well(trading)
    trading.run("systemctl start trading-check.service")
    assert "OK       redis" in trading.journal("trading-check.service")
