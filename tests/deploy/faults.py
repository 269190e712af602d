"""A machine that suffers one fault after the other, and what people are told of each: a row of the fault matrix.

Before each fault the watcher remembers what it knew of the well machine, so that no fault is told as one of many. The
checks run when the test says so; all else is as it was deployed.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from deploy.box import Box
from deploy.watching import JOBS, NEVER, Ear, change, wait_until_done, wait_until_up
from support.matrix import Row, keep

CHECK = "trading-check.service"
MEMORY, WELL = "/var/lib/trading-ops/ops.sqlite3", "/root/well.sqlite3"
EXTRA = "/etc/trading/faults.env"
# Of this machine alone: tests boot it beside others, on which it starts late, and its load is that of all.
SETTINGS = {
    "OPS_BOOT_GRACE": "0",
    "OPS_LOAD_WARN": "1000",
    "OPS_LOAD_CRITICAL": "1000",
    "OPS_PRESSURE_WARN": "1",
    "OPS_PRESSURE_CRITICAL": "1",
    "OPS_PRESSURE_FULL_WARN": "1",
    "OPS_PRESSURE_FULL_CRITICAL": "1",
    "OPS_PRESSURE_IO_WARN": "1",
    "OPS_PRESSURE_IO_CRITICAL": "1",
    "OPS_PRESSURE_CPU_WARN": "1",
    "OPS_LAG_WARN": "30",
    "OPS_LAG_CRITICAL": "60",
    "OPS_LOOP_WARN": "8",
    "OPS_REDIS_LATENCY_WARN": "2",
    "OPS_REDIS_LATENCY_CRITICAL": "3",
    "OPS_REDIS_SLOW_WARN": "1000",
    "OPS_REDIS_SLOW_CRITICAL": "1000",
    "OPS_TLS_AUTHORITY": "/etc/ssl/authority.pem",  # whose certificates `certify` has served
}
BAD = """
    SELECT name, summary FROM checks WHERE status != 'OK'
    UNION SELECT name, summary FROM sources WHERE json_extract(state, '$.status') != 'OK'
"""
TLS, VERDICT = "/etc/trading/tls", "/var/lib/trading-tls/verdict.json"
KEEPS_NO_TIME = "clock"  # which nothing does in a container
AFTERWARDS = 2  # looks more after it was told, in which nothing more may be told
MOST = 6  # looks until a fault, or its end, has to be told


class House:
    """A deployed machine, well, with the ear that its alerts reach."""

    def __init__(self, box: Box, ear: Ear) -> None:
        self.box, self.ear = box, ear
        wait_until_up(box)
        for job in JOBS:
            if job != "archive":  # which is due twice a minute, and late in two
                change(box, f"trading-{job}.timer", Timer=NEVER)
        box.run("systemctl restart 'trading-*.timer'")
        wait_until_done(box, "trading-*.service")
        change(box, CHECK, Service=[f"EnvironmentFile={EXTRA}"])
        self.set()
        ear.belongs_to(box)
        certify(box, "-1 day", "+89 days")
        box.put(VERDICT, json.dumps({"at": datetime.now(UTC).isoformat(), "ok": True}))
        box.run("systemctl start trading-backup trading-drill && systemctl start trading-archive", seconds=200)
        self.get_well()
        for _ in range(2):
            self.look()
        assert set(self.bad()) <= {KEEPS_NO_TIME}, self.bad()
        box.run(f"rm -f {WELL}; sqlite3 {MEMORY} \"VACUUM INTO '{WELL}'\"; chown trading-ops: {WELL}")

    def set(self, **settings: str) -> None:
        """Give the watcher settings beside its own, from its next look on."""
        text = "".join(f"{name}={value}\n" for name, value in {**SETTINGS, **settings}.items())
        self.box.put(EXTRA, text)

    def look(self) -> None:
        """Have everything looked at. What systemd counts is undone: it ends what is started too often."""
        self.box.run(f"systemctl reset-failed {CHECK}; systemctl start {CHECK}", seconds=200)

    def bad(self) -> dict[str, str]:
        """Return what the watcher knows to be not well."""
        said = self.box.ssh(f"sqlite3 -readonly -json {MEMORY} {shlex.quote(BAD)}").stdout
        return {one["name"]: one["summary"] for one in json.loads(said or "[]")}

    def books(self) -> tuple[int, int]:
        """Return how many entries and orders the account has, once its chain of hashes is proven whole."""
        said = json.loads(self.box.run("tradectl ledger verify --json", seconds=120))
        count = "SELECT count(*) FROM entries WHERE kind = 'OrderSubmitted'"
        orders = self.box.run(f'sqlite3 -readonly /var/lib/trading/ledger.sqlite3 "{count}"')
        return int(said["rows"]), int(orders)

    def get_well(self, seconds: float = 90) -> None:
        """Wait until the application says that it is."""
        self.box.wait_for(
            "curl -s -m 5 http://127.0.0.1:8000/health | tee /dev/stderr | grep -q '\"healthy\"'", seconds, every=0.5
        )

    def forget(self) -> None:
        """Let the watcher know of a well machine and of nothing since."""
        wait_until_done(self.box, "trading-alert@*")
        self.box.run(
            "systemctl reset-failed; rm -f /run/trading-ops/ops.sqlite3*"
            f"; rm -f {MEMORY}*; install -o trading-ops -g trading-ops -m 644 {WELL} {MEMORY}"
        )
        self.look()
        self.ear.messages.clear()

    @contextmanager
    def suffers(self, *, fault: str, **settings: str) -> Iterator[Case]:
        """Have a fault: the test brings it about, waits until it is told, mends it, and waits for the end."""
        self.set(**settings)
        self.forget()
        case = Case(self, fault)
        yield case
        case.keep()


class Case:
    """One fault, from its beginning to its end."""

    def __init__(self, house: House, fault: str) -> None:
        self._house, self._box, self._ear, self._fault = house, house.box, house.ear, fault
        self._before = house.books()
        self._began = time.monotonic()
        self._detected = self._told = 0.0
        self._looks, self._check = 0, ""
        self._mended, self._recovered = 0.0, ""

    def hurts(self, command: str) -> str:
        """Bring it about, by a command on the machine; its time begins now."""
        self.begins()
        return self._box.run(command, seconds=120)

    def begins(self) -> None:
        self._began = time.monotonic()

    @property
    def lasts(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def told_by_a_unit(self, unit: str, seconds: float = 150) -> str:
        """Wait until the failed unit has told itself, in one message; return what it says."""
        self._box.wait_for(self._alarms, seconds, every=0.05)
        self._told = self._detected = time.monotonic() - self._began
        self._check = unit
        return self._one(f"unit:{unit}")

    def told(self, check: str, every: float = 0.0) -> str:
        """Look until it is told, in one message; return what that says."""
        while not self._alarms():
            assert self._looks < MOST, f"not told after {self._looks} looks, which found {self._house.bad()}"
            if self._looks:
                time.sleep(every)
            self._house.look()
            self._looks += 1
            if not self._detected and check in self._house.bad():
                self._detected = time.monotonic() - self._began
        self._told = time.monotonic() - self._began
        self._check = check
        return self._one(check)

    def stays_told_once(self, looks: int = AFTERWARDS) -> None:
        """Look again, while it lasts: no second message comes."""
        for _ in range(looks):
            self._house.look()
        self._only(self._alarms())

    def mended(self, command: str = "", *, well: Callable[[], object] | None = None) -> None:
        """Mend it by a command of the operator, or wait until it has mended itself."""
        if command:
            self._box.run(command, seconds=120)
        if well:
            well()
        took = time.monotonic() - self._began
        self._recovered = f"by the operator: `{command.splitlines()[0]}`" if command else f"by itself in {took:.0f} s"

    def by_operator(self, words: str) -> None:
        """Say what the operator did where that is no single command."""
        self._recovered = f"by the operator: {words}"

    def ends(self) -> None:
        """Look until the end is told: once, and of nothing else is anything told meanwhile."""
        for _ in range(MOST):
            self._house.look()
            if self._ends():
                break
        assert len(self._ends()) == 1, f"{self._titles()}; not well: {self._house.bad()}"
        self._house.look()
        assert len(self._ends()) == 1, self._titles()
        self._only(self._alarms())

    def keep(self) -> None:
        """Prove that nothing was lost, and keep the row."""
        entries, orders = self._house.books()
        assert entries >= self._before[0]
        assert orders >= self._before[1]
        row = Row(
            *(self._fault, "appliance", round(self._detected, 1), round(self._told, 1), self._looks),
            *(len(self._alarms()), self._check, self._recovered, len(self._ends()) == 1, "nothing"),
        )
        print(keep(row))

    # -- what was heard -------------------------------------------------------------------------------------------

    def _alarms(self) -> list[dict[str, Any]]:
        return [one for one in list(self._ear.messages) if one["type"] != "success"]

    def _ends(self) -> list[dict[str, Any]]:
        return [one for one in list(self._ear.messages) if one["type"] == "success"]

    def _titles(self) -> list[str]:
        return [one["title"] for one in self._ear.messages]

    def _only(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        assert len(messages) == 1, f"{self._titles()}; not well: {self._house.bad()}"
        return messages[0]

    def _one(self, cause: str) -> str:
        """Return the one message that came; see that it begins with its cause, and says what to type and to read."""
        body = self._only(self._alarms())["message"]
        first = body.splitlines()[0]
        assert first.split(" ", 1)[1].startswith(f"{cause}: "), body
        for part in ("\nWhat it means: ", "\nType first: ", '\nWhat to do: docs/operations.md, section "'):
            assert part in body, body
        return str(body)


def certify(box: Box, begins: str, ends: str) -> None:
    """Have a certificate served that an authority of its own has signed, for a time in the words of date(1)."""
    box.run(
        "set -e; mkdir -p /root/authority; cd /root/authority"
        "; new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'"
        "; test -e ca.pem || openssl req -x509 $new -subj /CN=authority -days 3650 -keyout ca.key -out ca.pem"
        "; openssl req $new -subj /CN=trade.example.test -keyout key.pem -out request.pem"
        "; form=+%Y%m%d%H%M%SZ"
        f"; install -m 644 ca.pem {SETTINGS['OPS_TLS_AUTHORITY']}; echo subjectAltName=DNS:trade.example.test > names"
        "; openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -extfile names -out certificate.pem"
        f" -not_before $(date -u -d '{begins}' $form) -not_after $(date -u -d '{ends}' $form)"
        f"; cat key.pem > {TLS}/privkey.pem; cat certificate.pem ca.pem > {TLS}/fullchain.pem; systemctl reload nginx"
    )


def main_of(unit: str) -> str:
    """Return shell words for the main process of a unit."""
    return f"$(systemctl show --property MainPID --value {unit})"
