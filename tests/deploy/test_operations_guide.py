"""Every command of the operations guide, typed by its operator on a deployed machine, and on the operator's own.

First what only looks, several at a time; then what changes something, each followed by a look whether the machine is
well. A command of the guide that no table here knows fails.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deploy.box import Box
from deploy.deployed import DOMAIN, TOKENS
from deploy.playbook import ROOT
from deploy.shell import Result, answer
from deploy.watching import BUSY, change
from msgspec import Struct

GUIDE = (ROOT / "docs/operations.md").read_text()
LINES = tuple(
    dict.fromkeys(
        line
        for block in re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    )
)
SECONDS = 120
RELEASES = "/opt/trading/releases"
OTHER = "9.9.9-guide"
RESTORED = "/var/backups/trading/restored"  # what looks there needs a restore before it
UNITS = ("trading-engine", "trading-api", "redis-server", "nginx", "trading.target")

# What stands in capitals, and what it is here; with one word for the machine as it is, found on it.
PLACEHOLDERS = {
    "UNIT": "trading-api.service",
    "CHECK": "clock",  # of which a container cannot tell, so it is alerted
    "JOB": "backup",
    "NAME": "somebody",
    "DOMAIN": DOMAIN,
    "TOKEN": TOKENS["read"],
    "RELEASE": OTHER,
}
FOUND = {"ADDRESS"}

# Commands that change nothing. All others stand in CHANGES, in the order in which they work.
LOOKS = re.compile(
    r"systemctl (list-units|list-timers|status|show) |journalctl (?!--vacuum)|timedatectl status|resolvectl status"
    r"|redis-cli (ping|info)|sudo redis-operator (INFO|DBSIZE|(SLOWLOG|CONFIG) GET|LATENCY LATEST|CLIENT LIST) ?"
    r"|sudo redis-operator ACL (LIST|LOG) ?"
    r'|curl (--cacert \S+ -H "[^"]+" https:|"?http://localhost:8000/)|openssl '
    r"|sudo (nft list|sshd -T|ls|ss|tail|du|cat /etc/trading/credentials/BACKUP_PASSWORD) ?"
    r"|tradectl (status|portfolio|performance|explain|trades|limits|orders|providers|strategies|token)\b"
    r"|sudo tradectl user (list|tokens|sessions|history)\b"
    r"|sudo (tradectl (ledger (verify|show)|fence show)|trading-status|trading-release status)|df|ps|free|uptime|cat|ls"
    r"|ssh operator@ADDRESS( cat .*| sudo tar -C \S+ -cz .*)?$|sudo tradectl doctor( providers| --all)?$"
    r"|(sudo )?tradectl (logs|profile) |sudo tradectl (check$|alerts\b)"
)

LOOKING = [line for line in LINES if LOOKS.match(line) and RESTORED not in line]

LAPTOP = "on a laptop, which tests/cli and tests/test_docs.py try"
INVENTORY = "on the operator's own machine, with its inventory: tests/deploy runs the playbooks"
NOT_HERE = {
    "DATA_DIR=data-two tradectl run --port 8001": LAPTOP,
    "tradectl run --replay tape --exit-at-end --port 8001": LAPTOP,
    "tradectl run --replay waves.csv --exit-at-end --port 8001": LAPTOP,
    "tradectl replay session.jsonl": LAPTOP,
    "tradectl backup restore --to restored": LAPTOP,
    "mv data data-old": LAPTOP,
    "mv restored/account data": LAPTOP,
    "tradectl ledger verify": LAPTOP,
    'tradectl fence take --why "restored from a backup"': LAPTOP,
    "tradectl engine --reconcile-only --data-dir backup": LAPTOP,
    "tradectl ledger export --after 12000 --to new.jsonl": LAPTOP,
    "tradectl ledger import new.jsonl --data-dir backup": LAPTOP,
    "tradectl ledger cut --until 12000 --to data-then": LAPTOP,
    "tradectl ledger cut --until 2026-01-05T14:59:00Z --to data-noon": LAPTOP,
    "tradectl ledger verify --data-dir data-then": LAPTOP,
    "tradectl engine --reconcile-only --data-dir data-then": LAPTOP,
    "tradectl doctor": LAPTOP,
    "ansible-playbook -i inventory/hosts.yml status.yml": INVENTORY,
    "ansible-playbook -i inventory/hosts.yml deploy.yml --check --diff": INVENTORY,
    "ansible-playbook -i inventory/hosts.yml deploy.yml": INVENTORY,
    "ansible-playbook -i inventory/hosts.yml deploy.yml --tags app": INVENTORY,
    "ansible-playbook -i inventory/hosts.yml rollback.yml": INVENTORY,
    "ansible-playbook -i inventory/hosts.yml maintenance.yml": INVENTORY,
    "ansible-playbook -i inventory/hosts.yml restore.yml -e backup=latest": INVENTORY,
    "ansible-playbook -i inventory/hosts.yml restore.yml -e backup=latest -e backup_repository=../repository.tar.gz": (
        INVENTORY
    ),
    "ansible-playbook -i inventory/hosts.yml restore.yml -e move_from=HOST": INVENTORY,
    "ansible-vault edit ansible/inventory/group_vars/trading/vault.yml": INVENTORY,
    'make deploy ARGS="--tags app --ask-vault-pass"': INVENTORY,
    "timedatectl timesync-status": "a container has no time service of its own, as the guide says",
    "resolvectl query finnhub.io": "a test asks nobody on the internet",
    "sudo dmesg -T | grep -i error": "the kernel's log is that of the machine below the container",
    "sudo rm /var/lib/trading-ops/ops.sqlite3.damaged-*": "no memory is damaged here: tests/ops/test_memory.py",
}

FROM_OUTSIDE = 'curl --cacert trading.pem -H "Authorization: Bearer TOKEN" https://DOMAIN/health'
# Their exit code is a verdict on the machine: of a container not everything can be told, its clock for one.
VERDICTS = re.compile(r"sudo tradectl (doctor( --all)?|check)$")
# Where the guide says another exit code than 0.
CODES = {line: 4 for line in LINES if line.endswith("doctor providers")}
CODES |= {"sudo tradectl selftest": 1}  # nobody is to be told by a machine of a test
# What the guide says that is answered.
ANSWERS = {
    "redis-cli ping": r"^PONG$",
    "sudo trading-status": r"^  release +\S+, ready$",
    "sudo tradectl doctor": r"^not responding +OK ",
    "sudo tradectl doctor --all": r"^  Does the API answer\? +OK ",
    "sudo tradectl check": r"^OK +disk ",
    "curl http://localhost:8000/api/v1/ops/checks": r'"status":"known"',
    "tradectl logs --unit engine --since 15min": r" engine +trading begins",
    "sudo tradectl profile engine 10s": r"^engine \(process \d+\), 10 s: busy",
    "sudo tradectl profile api 10s": r"^flame graph: /var/lib/trading/profiles/api-\d{8}T\d{6}Z\.svg$",
    "sudo tradectl profile engine --memory": r"^[\d,]+ objects that can hold others",
    "curl http://localhost:8000/health": r'"status":"(healthy|degraded)"',
    "cat /var/lib/trading-tls/verdict.json": r'"ok": true',
    "sudo redis-operator ACL LIST": r"^user operator on .* \+@all$",
    "sudo sshd -T": r"^passwordauthentication no$",
    "sudo nft list ruleset": r"policy drop",
    "systemctl show UNIT -p Result,ExecMainStatus,NRestarts": r"^Result=success$",
    "cat /var/lib/trading-ops/stamps/JOB.json": r'"ok":true',
    "tradectl token NAME --scope read --scope trade": r"^  somebody:read\+trade:[0-9a-f]{64}$",
    FROM_OUTSIDE: r'"status":"(healthy|degraded)"',
}


# What is typed where a command asks.
PASSWORD = "correct horse battery staple\n"
TYPED = dict.fromkeys(
    ("sudo tradectl user add NAME --role trade --role ops", "sudo tradectl user passwd NAME"), PASSWORD
)


class Machines(Struct, frozen=True):
    """The deployed machine, and a directory of the operator's own machine from which it is reached."""

    box: Box
    own: Path

    def type(self, line: str) -> Result:
        """Type a line of the guide where it belongs."""
        words = self.filled(line)
        if line.startswith("ssh ") or "https://DOMAIN" in line:
            outside = os.environ | {"PATH": f"{self.own}:{os.environ['PATH']}", "CURL_HOME": str(self.own)}
            command = ("env", "-C", self.own, *(f"{key}={outside[key]}" for key in ("PATH", "CURL_HOME")), "bash", "-c")
            return answer(*command, words, seconds=SECONDS)
        return self.operator(words, TYPED.get(line))

    def operator(self, line: str, text: str | None = None) -> Result:
        """Run a command as the operator who is logged in by ssh, and type what it asks for."""
        options = self.box.ssh_options()
        return answer("ssh", *options, f"operator@{self.box.address}", line, text=text, seconds=SECONDS)

    def filled(self, line: str) -> str:
        """Return a line with what its words in capitals stand for."""
        known = PLACEHOLDERS | {"ADDRESS": self.box.address}
        return re.sub(rf"\b({'|'.join(known)})\b", lambda found: known[found[1]], line)

    def state(self) -> str:
        return re.findall(r"^state +(\w+)", self.operator("tradectl status").stdout, re.MULTILINE)[0]

    def see_ready(self) -> None:
        """See that engine and API do their work, and that no unit has failed."""
        running = " && ".join(f"systemctl is-active {unit}" for unit in UNITS)
        self.box.wait_for(f"{running} && curl -sf http://localhost:8000/health/ready", seconds=90)
        failed = self.box.run("systemctl list-units --failed --no-legend --plain; systemctl reset-failed")
        assert failed == ""  # and the next step begins well in any case


def is_as_told(line: str, done: Result) -> bool:
    """Say whether a command ended as the guide says, and said what it says."""
    allowed = (0, 1) if VERDICTS.match(line) else (CODES.get(line, 0),)
    said = re.search(ANSWERS.get(line, ""), done.stdout, re.MULTILINE)
    return done.returncode in allowed and said is not None


def shortened(what: object) -> str:
    return str(what)[:60]


class Step(Struct, frozen=True):
    """Commands that belong together: what has to be done before, and what is so afterwards, besides being ready."""

    lines: tuple[str, ...]
    before: Callable[[Machines], object] = lambda machines: None
    after: Callable[[Machines], bool] = lambda machines: True
    ready: bool = True

    def __str__(self) -> str:
        return self.lines[0]


# -- what is so before and after a change -----------------------------------------------------------------------------


def is_halted(machines: Machines) -> bool:
    machines.box.wait_for(lambda: machines.state() == "halted")
    return True


def is_active(machines: Machines) -> bool:
    return machines.state() == "active" and not machines.box.exists("/var/lib/trading/HALT")


def look_at_all(machines: Machines) -> None:
    machines.box.run("systemctl start trading-check")


def stop_api(machines: Machines) -> None:
    machines.box.run("systemctl stop trading-api.socket trading-api.service")


def install_other_release(machines: Machines) -> None:
    """Make a second release by hard links; the trial release runs the first one's programs."""
    machines.box.run(f"cp -al {RELEASES}/{now(machines)} {RELEASES}/{OTHER}")


def now(machines: Machines) -> str:
    return machines.box.run("readlink /opt/trading/current").strip().rpartition("/")[2]


def runs(release: str) -> Callable[[Machines], bool]:
    return lambda machines: (now(machines) == OTHER) == (release == OTHER)


def upgrade_nginx(machines: Machines) -> None:
    """Leave what an upgrade of nginx leaves, and see that the status tells of it."""
    machines.box.run("touch /run/trading-restart-pending/nginx.service")
    told = machines.type("sudo trading-status")
    assert told.returncode == 1
    assert re.search(r"^! restart .* nginx\.service$", told.stdout, re.MULTILINE), str(told)


def silence_as_maintenance(machines: Machines) -> None:
    """Leave what a maintenance leaves whose controller died."""
    why = "the operating system is upgraded"
    machines.box.run(f"tradectl silence '**' --for 40min --by maintenance.yml --why '{why}'")


def awaits_no_restart(machines: Machines) -> bool:
    return "! restart" not in machines.type("sudo trading-status").stdout


def shuts_everybody_out(machines: Machines) -> bool:
    return '"code":"not_signed_in"' in machines.type(FROM_OUTSIDE).stdout


def was_told_of_a_user(machines: Machines) -> bool:
    history = machines.operator("sudo tradectl user history --limit 100").stdout
    named = machines.filled("NAME")
    assert named not in machines.operator("sudo tradectl user list").stdout
    return all(re.search(rf"{what} +{named} +operator ", history) for what in ("user added", "user removed"))


def has_no_token(machines: Machines) -> bool:
    return machines.filled("NAME") not in machines.operator("sudo tradectl user tokens").stdout


def damage_the_sign_ins(machines: Machines) -> None:
    machines.box.run("systemctl stop trading-api; echo damaged > /var/lib/trading/sign-ins.sqlite3")


def asks_who_comes(machines: Machines) -> bool:
    return "<h1>Nobody may sign in yet</h1>" in machines.operator("curl -sS http://localhost:8000/sign-in").stdout


def was_restored(machines: Machines) -> bool:
    return "restored by hand" in machines.operator("sudo tradectl fence show").stdout and is_active(machines)


def shows_prices(machines: Machines) -> bool:
    said = machines.operator("tradectl status").stdout
    return re.search(r"^redis +yes", said, re.MULTILINE) is not None


def has_a_new_account(machines: Machines) -> bool:
    was, now_is = (machines.box.get(f"/var/lib/{name}/ACCOUNT") for name in ("trading-old", "trading"))
    return was != now_is


def reboot(machines: Machines) -> None:
    before = machines.box.boot_id()
    machines.type("sudo systemctl reboot")
    machines.box.hang_up()
    machines.box.wait_for(lambda: machines.box.boot_id() not in ("", before), 60)


CHANGES = (
    Step(('tradectl halt --reason "looks odd"',), after=is_halted),
    Step(
        (
            'curl -X POST http://localhost:8000/api/v1/trading/halt -d \'{"who": "anna", "reason": "looks odd"}\'',
            'echo "anna: looks odd" | sudo tee /var/lib/trading/HALT',
        ),
        after=is_halted,
    ),
    Step(
        (
            "sudo rm -f /var/lib/trading/HALT",
            'tradectl release --reason "the feed was checked, prices are right"',
        ),
        after=is_active,
    ),
    Step(('tradectl flatten --yes --reason "leave the market"',), after=lambda m: m.state() == "stopped"),
    Step(('tradectl start --reason "back from lunch"',), after=is_active),
    Step(('tradectl enable momentum --reason "mended"',)),
    Step(("sudo systemctl start trading-backup", "sudo systemctl start trading-drill")),
    Step(('sudo tradectl ack CHECK --why "I am looking at it"',), before=look_at_all),
    Step(('sudo tradectl silence CHECK --for 2h --why "the disk is exchanged"', "sudo tradectl unsilence CHECK")),
    Step(("sudo tradectl silence '*' --for 2h --why \"the disk is exchanged\"", "sudo tradectl unsilence '*'")),
    Step(("sudo tradectl unsilence '**'",), before=silence_as_maintenance),
    Step(("sudo tradectl selftest",)),
    Step(("sudo tradectl backup create", "sudo tradectl backup verify", "sudo tradectl backup list")),
    Step(("sudo tradectl backup", "sudo tradectl drill", "sudo tradectl report --new morning")),
    Step(("sudo tradectl report morning", "sudo tradectl report --list")),
    Step(("sudo systemctl start trading-JOB", "sudo systemctl start trading-JOB.timer")),
    Step(("sudo systemctl restart trading-api",)),
    Step(
        (
            "sudo tradectl user add NAME --role trade --role ops",
            "sudo tradectl user roles NAME --role read",
            "sudo tradectl user passwd NAME",
            "sudo tradectl user end NAME",
            "sudo tradectl user unlock NAME",
            "sudo tradectl user remove NAME",
        ),
        after=was_told_of_a_user,
    ),
    Step(
        ("sudo tradectl token NAME --scope read --days 90 --here", "sudo tradectl token NAME --revoke"),
        after=has_no_token,
    ),
    Step(
        (
            "sudo systemctl stop trading-api",
            "sudo rm -f /var/lib/trading/sign-ins.sqlite3 /var/lib/trading/sign-ins.sqlite3-wal"
            " /var/lib/trading/sign-ins.sqlite3-shm",
            "sudo systemctl start trading-api",
        ),
        before=damage_the_sign_ins,
        after=asks_who_comes,
    ),
    Step(("sudo systemctl reset-failed UNIT", "sudo systemctl start UNIT"), before=stop_api),
    Step(("sudo systemctl restart redis-server",)),
    Step(("sudo redis-operator FLUSHALL",), after=shows_prices),
    Step(
        (
            "sudo rm /etc/trading/credentials/REDIS_PASSWORD",
            "sudo /usr/local/lib/trading/redis-users",
            "sudo systemctl restart redis-server trading-engine trading-api",
        ),
        after=shows_prices,
    ),
    Step(("sudo systemctl restart trading-engine",)),
    Step(("sudo systemctl restart systemd-sysctl", "sudo systemctl daemon-reload")),
    Step(
        ("sudo systemctl restart redis-server nginx trading-api trading-engine",),
        before=upgrade_nginx,
        after=awaits_no_restart,
    ),
    Step(("sudo trading-release activate RELEASE",), before=install_other_release, after=runs(OTHER)),
    Step(("sudo trading-release rollback",), after=runs("the one that was deployed")),
    Step(
        (
            "sudo systemctl start certbot",
            "sudo /usr/local/lib/trading/trading-tls issue",
            "sudo /usr/local/lib/trading/trading-tls deploy",
        )
    ),
    Step(("sudo systemctl reload nftables", "sudo timedatectl set-ntp true")),
    Step(("sudo journalctl --vacuum-size=200M", "sudo apt-get clean")),
    Step(
        (
            "sudo truncate --size 0 /etc/trading/credentials/API_TOKENS",
            "sudo systemctl restart trading-api",
        ),
        after=shuts_everybody_out,
    ),
    Step(
        (
            f"sudo tradectl backup restore --to {RESTORED} --part account",
            f"sudo tradectl ledger verify --data-dir {RESTORED}/account",
            "sudo systemctl stop trading.target",
            "sudo mv -T /var/lib/trading /var/lib/trading-before",
            f"sudo cp -a {RESTORED}/account /var/lib/trading",
            'sudo tradectl fence take --why "restored by hand"',
            "sudo systemctl start trading.target",
        ),
        after=was_restored,
    ),
    Step(
        (
            "sudo systemctl stop trading.target",
            "sudo mv -T /var/lib/trading /var/lib/trading-old",
            "sudo rm /var/lib/trading-deploy/ledger.env",
            "sudo systemctl start trading.target trading-engine",
            "echo LEDGER_EXPECTED=true | sudo tee /var/lib/trading-deploy/ledger.env",
        ),
        after=has_a_new_account,
    ),
    Step(
        (
            'sudo tradectl fence lay --why "the account moves to a new machine"',
            'sudo tradectl fence lift --who anna --why "the move was called off, the new machine never started"',
            "sudo systemctl reset-failed trading-engine",
            "sudo systemctl start trading.target",
        ),
        after=is_active,
    ),
    Step(
        (
            "sudo systemctl stop trading.target",
            'sudo tradectl fence take --why "restored from the old machine"',
            "sudo systemctl start trading.target",
        ),
        after=is_active,
    ),
    Step(("sudo systemctl reboot",)),
)


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machines(deployed_box: Box, tmp_path_factory: pytest.TempPathFactory) -> Machines:
    """The machine, once it is ready and has been backed up, and the operator's own one."""
    own = tmp_path_factory.mktemp("own")
    options = " ".join(f"'{option}'" for option in deployed_box.ssh_options())
    (own / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
    (own / "ssh").chmod(0o755)
    (own / ".curlrc").write_text(f'resolve = "{DOMAIN}:443:{deployed_box.address}"\nnoproxy = "*"\n')
    found = Machines(deployed_box, own)
    found.see_ready()
    # The machine shares its cores with other tests, and their load is no fault of its own.
    change(deployed_box, "trading-check.service", Service=[BUSY])
    # What it knows of backups is as old as the image that it was started from, and so too old.
    deployed_box.run("systemctl start trading-backup trading-archive", seconds=SECONDS)
    deployed_box.run("systemctl start trading-check", seconds=SECONDS)
    # Engine and API tell of their memory some seconds after their start, and here they have only just started.
    deployed_box.wait_for("tradectl profile engine --memory && tradectl profile api --memory", SECONDS, every=1)
    return found


def test_every_command_of_the_guide_is_run_here_or_it_is_said_why_not() -> None:
    changing = {line for step in CHANGES for line in step.lines}
    unknown = [line for line in LINES if not LOOKS.match(line) and line not in changing and line not in NOT_HERE]
    assert not unknown, "say in CHANGES or NOT_HERE what becomes of them"


def test_no_table_here_has_a_command_that_the_guide_has_not() -> None:
    told = {line for step in CHANGES for line in step.lines} | NOT_HERE.keys() | ANSWERS.keys()
    assert not told - set(LINES)
    assert not {line for line in NOT_HERE if re.match(r"(sudo )?(systemctl|journalctl|redis-cli|curl) ", line)}


def test_every_word_in_capitals_is_known() -> None:
    values = {
        "AAPL",
        "POST",
        "INFO",
        "DBSIZE",
        "SLOWLOG",
        "GET",
        "LATENCY",
        "LATEST",
        "CLIENT",
        "LIST",
        "FLUSHALL",
        "ACL",
        "CONFIG",
        "LOG",
    }
    named = {word for line in LINES for word in re.findall(r"(?<![-\w/.=])[A-Z]{3,}(?![\w=:/])", line)}
    assert named - values - PLACEHOLDERS.keys() - FOUND <= {"HALT"}


@pytest.fixture(scope="module")
def looks(machines: Machines) -> dict[str, Result]:
    """What was answered to all that only looks. The certificate is fetched first, for those who call from outside."""
    first = next(line for line in LINES if line.endswith("> trading.pem"))
    lines = [line for line in LOOKING if line != first]
    with ThreadPoolExecutor(4) as pool:
        return {first: machines.type(first), **dict(zip(lines, pool.map(machines.type, lines), strict=True))}


@pytest.mark.parametrize("line", LOOKING, ids=shortened)
def test_a_command_that_looks_ends_as_the_guide_says(looks: dict[str, Result], line: str) -> None:
    assert is_as_told(line, looks[line]), str(looks[line])


def test_the_certificate_on_the_wire_is_that_on_the_disk(looks: dict[str, Result]) -> None:
    serials = [said.stdout.splitlines()[0] for line, said in looks.items() if line.startswith("openssl")]
    assert len(serials) == 2
    assert serials[0] == serials[1]


@pytest.mark.parametrize("step", CHANGES, ids=shortened)
def test_a_command_that_changes_something_leaves_the_machine_well(machines: Machines, step: Step) -> None:
    step.before(machines)
    for line in step.lines:
        if line == "sudo systemctl reboot":
            reboot(machines)  # the connection ends with it
        else:
            done = machines.type(line)
            assert is_as_told(line, done), str(done)
    machines.see_ready()
    assert step.after(machines)
