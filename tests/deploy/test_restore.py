"""A machine is lost, or its account is: one command brings it back from a backup, or moves it to another machine.

What is restored is compared with the ledger of the machine that was lost, which `tradectl` of this machine reads.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from deploy import deployed as made
from deploy.box import Box
from deploy.lab import Lab
from deploy.playbook import PROGRAM, Ansible, Play
from deploy.releases import Account, account, current, must_follow, must_trade, open_orders, pids
from deploy.shell import run
from deploy.watching import by_hand, change, stamp, undo, wait_until, wait_until_up
from msgspec import Struct

NUMBERS = count(1)
REPOSITORY, KEY = "/var/backups/trading/repository", "/etc/trading/credentials/BACKUP_PASSWORD"
SAFETY_COPIES = "ls -d /var/lib/trading.before-*"
TRADECTL = PROGRAM.with_name("tradectl")
TARGET_SECONDS = 600
POINT = re.compile(r"up to entry (\d+) of (\S+), equity ([\d.]+)")
TOOK = re.compile(r"it took (\d+) s")


class Saved(Struct, frozen=True):
    """What is left of a machine: its repository, fetched, and the key of it. And its ledger, to compare with."""

    repository: Path
    key: str
    ledger: Path
    directory: Path

    def at(self, seq: int) -> dict[str, Any]:
        """Return what the lost machine's own ledger says of its account at an entry."""
        cut = self.directory / f"cut-{next(NUMBERS)}"
        run(TRADECTL, "ledger", "cut", "--until", seq, "--to", cut, "--data-dir", self.ledger)
        return dict(json.loads(run(TRADECTL, "ledger", "verify", "--data-dir", cut, "--json"), parse_float=Decimal))

    def entries(self) -> list[dict[str, Any]]:
        """Return what the lost machine had written into its ledger."""
        words = ("ledger", "show", "--after", 0, "--limit", 1_000_000, "--json", "--data-dir", self.ledger)
        return list(json.loads(run(TRADECTL, *words), parse_float=Decimal)["items"])


class Restored(Struct, frozen=True):
    """What the play said that it restored."""

    seq: int
    at: str
    equity: Decimal
    seconds: int


def told(play: Play) -> Restored:
    text = " ".join(play.output.split())
    point, took = POINT.search(text), TOOK.search(text)
    assert point and took, play
    return Restored(int(point[1]), point[2], Decimal(point[3]), int(took[1]))


def trade(box: Box) -> Account:
    """Wait until a machine holds something, and return its account."""
    wait_until_up(box)
    box.wait_for(lambda: account(box).positions, seconds=120, every=1)
    return account(box)


def head(box: Box) -> int:
    return len(account(box).entries)


def back_up(box: Box) -> None:
    box.run("systemctl start trading-backup.service", seconds=120)
    assert stamp(box, "backup")["ok"], stamp(box, "backup")


def fetch(box: Box, directory: Path) -> Path:
    """Fetch the repository of a machine, as the guide says; return where it lies."""
    where = directory / f"repository-{next(NUMBERS)}.tar"
    run("bash", "-c", f'ssh "$@" tar -C /var/backups/trading -c repository > {where}', "-", *box.ssh_options(),
        f"root@{box.address}", seconds=120)  # fmt: skip
    return where


def controller(directory: Path, *boxes: Box, **variables: object) -> Ansible:
    return Ansible(directory / f"controller-{next(NUMBERS)}", *boxes, variables=variables)


@pytest.fixture(scope="module")
def saved(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A machine that traded, was backed up, traded on, archived, was halted by nobody, and is gone without a word."""
    directory, box = tmp_path_factory.mktemp("saved"), lab.up(made.NAME, deployed_layer)
    trade(box)
    box.run("tradectl halt --reason 'a storm is coming'; tradectl release --reason 'it has passed'")
    back_up(box)
    backed_up = head(box)
    box.wait_for(lambda: head(box) > backed_up, seconds=120, every=1)
    box.run("systemctl start trading-archive.service", seconds=60)
    repository, key = fetch(box, directory), box.get(KEY).strip()
    box.pull_the_plug()
    shutil.copytree(box.disk / "var/lib/trading", directory / "ledger")
    lab.remove(box)
    return Saved(repository, key, directory / "ledger", directory)


@pytest.fixture(scope="module")
def own(lab: Lab, deployed_layer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Ansible]]:
    """A machine that trades and is backed up, and its controller."""
    box = lab.up("own", deployed_layer)
    trade(box)
    by_hand(box)
    deployer = controller(tmp_path_factory.mktemp("own"), box, **made.VARIABLES)
    deployer.run("deploy.yml", "--tags", "app,ops,proxy").must()  # under its present address
    by_hand(box)
    back_up(box)
    yield box, deployer
    lab.remove(box)


# -- a lost machine ---------------------------------------------------------------------------------------------------


def test_a_lost_machine_comes_back_with_one_command(bare: Box, saved: Saved, tmp_path: Path) -> None:
    deployer = controller(tmp_path, bare, trading_backup_password=saved.key)
    play = deployer.run("restore.yml", backup="latest", backup_repository=str(saved.repository)).must()
    found = told(play)
    print(f"recovery took {found.seconds} s (aim: {TARGET_SECONDS}), up to entry {found.seq}, equity {found.equity}")

    before = saved.at(found.seq)
    assert found.equity == before["equity"], "to the last digit of what the lost machine knew at that entry"
    assert found.seq > 0
    assert found.seconds < TARGET_SECONDS
    wait_until_up(bare)
    must_trade(bare, current(bare))
    after = account(bare)
    lost = saved.entries()
    assert after.entries[: found.seq] == lost[: found.seq]
    print(f"{len(lost) - found.seq} entries of {len(lost)} were lost with the machine")
    assert bare.get("/etc/trading/trading.env").count("AAPL,MSFT,BTC/USD") == 1, "it has the settings of the lost one"
    fences = json.loads(bare.run("tradectl fence show --json"))
    assert (fences["generation"], fences["fenced"]) == (2, False)
    assert bare.ssh("ls -A /var/lib/trading-restore /var/lib/trading-deploy/restore.json").stdout == ""
    print("\n".join(line for line in play.output.splitlines() if "the account" in line))

    back_up(bare)
    assert stamp(bare, "backup")["found"]["copies"] >= 2, "it goes on with the same repository and key"
    assert deployer.run("restore.yml", backup="nosuch").returncode != 0


def test_a_restore_that_is_cut_off_anywhere_is_ended_by_the_same_command(
    bare: Box, saved: Saved, tmp_path: Path
) -> None:
    deployer = controller(tmp_path, bare, trading_backup_password=saved.key)
    words = {"backup": "latest", "backup_repository": str(saved.repository)}
    for task in ("Restore the backup beside", "put the account in its place", "Release | Switch"):
        play = deployer.start("restore.yml", **words)
        play.wait_for_task(task)
        play.kill()
    found = told(deployer.run("restore.yml", **words).must())

    assert found.equity == saved.at(found.seq)["equity"]
    wait_until_up(bare)
    must_trade(bare, current(bare))
    assert bare.ssh(SAFETY_COPIES).stdout == "", "there was nothing before, and the account was not placed twice"
    assert json.loads(bare.run("tradectl fence show --json"))["generation"] == 2


@pytest.mark.parametrize(
    "case",
    [
        ({}, {}, "Say which backup"),
        ({}, {"backup": "latest"}, "There is no repository of backups"),
        ({}, {"backup": "latest", "backup_repository": "/nowhere"}, "is neither a repository of backups"),
        ({}, {"backup": "latest", "backup_repository": "SAVED"}, "the key of the backups is not known"),
        ({"trading_backup_password": "wrong"}, {"backup": "latest", "backup_repository": "SAVED"}, "does not open"),
        (
            {"trading_backup_password": "RIGHT"},
            {"backup": "nosuch", "backup_repository": "SAVED"},
            "no backup 'nosuch'",
        ),
    ],
)
def test_what_cannot_be_restored_is_refused_with_the_reason(
    lab: Lab, saved: Saved, tmp_path: Path, case: tuple[dict[str, str], dict[str, str], str]
) -> None:
    variables, words, why = case
    box = lab.boxes.get("refusing") or lab.up("refusing")
    real = {"SAVED": str(saved.repository), "RIGHT": saved.key}
    deployer = controller(tmp_path, box, **{key: real.get(value, value) for key, value in variables.items()})
    play = deployer.run("restore.yml", **{key: real.get(value, value) for key, value in words.items()})

    said = " ".join(play.output.split())
    assert not play.ok
    assert why in said, play
    assert not box.exists("/var/lib/trading"), "nothing is there yet"
    print(said[said.find(why) :][:300])


# -- on its own machine -----------------------------------------------------------------------------------------------


def test_a_corrupt_account_is_replaced_and_kept_as_a_safety_copy(own: tuple[Box, Ansible]) -> None:
    box, deployer = own
    box.run("systemctl start trading-archive.service", seconds=60)
    release = current(box)
    box.run("systemctl stop trading.target; rm -f /var/lib/trading/ledger.sqlite3-*")
    box.run("echo 'no ledger' > /var/lib/trading/ledger.sqlite3; systemctl start trading.target")
    wait_until(box, "trading-engine.service", "failed")
    found = told(deployer.run("restore.yml", backup="latest").must())

    wait_until_up(box)
    must_trade(box, release)
    (kept,) = box.run(SAFETY_COPIES).split()
    assert box.get(f"{kept}/ledger.sqlite3") == "no ledger\n"
    assert found.seq <= head(box)
    box.run(f"rm -r {kept}")
    by_hand(box)
    back_up(box)


def test_an_account_goes_back_to_an_entry_that_is_named(own: tuple[Box, Ansible]) -> None:
    box, deployer = own
    before = account(box)
    until = before.entries[len(before.entries) // 2]["seq"]
    found = told(deployer.run("restore.yml", backup="latest", until=str(until)).must())

    after = account(box)
    assert found.seq <= until
    assert after.entries[: found.seq] == before.entries[: found.seq]
    assert after.entries[found.seq :] != before.entries[found.seq :][: len(after.entries) - found.seq]
    must_trade(box, current(box))
    box.run(f"rm -r $({SAFETY_COPIES})")
    by_hand(box)
    back_up(box)


def test_a_damaged_backup_is_refused_and_the_machine_trades_on(own: tuple[Box, Ansible]) -> None:
    box, deployer = own
    running, entries = pids(box), head(box)
    box.run(f"cp -a {REPOSITORY} /root/kept")
    flip = (
        "import sys; p = sys.argv[1]; b = bytearray(open(p, 'rb').read()); b[len(b) // 2] ^= 1; open(p, 'wb').write(b)"
    )
    box.run(f'for file in $(find {REPOSITORY}/data -type f); do chmod u+w $file; python3 -c "{flip}" $file; done')
    play = deployer.run("restore.yml", backup="latest")

    assert not play.ok
    said = " ".join(play.output.split())
    assert "the backup is not restored, and nothing here was changed" in said, play
    print(said[said.find("the backup is not restored") :][:400])
    assert pids(box) == running
    assert head(box) >= entries
    assert box.ssh(SAFETY_COPIES).stdout == ""
    box.run(f"rm -r {REPOSITORY}; mv /root/kept {REPOSITORY}")


# -- moving -----------------------------------------------------------------------------------------------------------


def test_an_account_moves_to_another_machine_and_the_old_one_trades_no_more(
    lab: Lab, deployed_layer: Path, tmp_path: Path
) -> None:
    old = lab.up("oldhouse", deployed_layer)
    before = trade(old)
    new = lab.up("newhouse")
    deployer = controller(tmp_path, old, new)
    found = told(deployer.run("restore.yml", move_from="oldhouse").must())

    wait_until_up(new)
    must_trade(new, current(new))
    after = account(new)
    assert after.entries[: len(before.entries)] == before.entries
    must_follow(before, after)
    assert open_orders(before.entries) <= {
        entry["body"].get("order", {}).get("id") for entry in after.of("OrderSubmitted")
    }
    assert found.seq >= len(before.entries), "the last backup was made once the old machine had stopped"

    assert old.status("trading-engine.service", "trading.target")["trading.target"] == "inactive"
    old.ssh("systemctl start trading-engine.service")
    assert old.show("trading-engine.service", "ExecMainStatus")["ExecMainStatus"] == "6", "it is fenced"
    old.reboot()
    old.wait_until_booted()
    assert old.status("trading-engine.service", "trading-api.service") == {
        "trading-engine.service": "inactive",
        "trading-api.service": "inactive",
    }
    assert json.loads(new.run("tradectl fence show --json"))["generation"] == 2
    left = json.loads(old.run("tradectl fence show --json"))
    assert (left["fenced"], left["known"], left["liftable"]) == (True, 2, False), "it knows where the account is"
    for box in (old, new):
        lab.remove(box)


def test_a_repository_elsewhere_is_all_it_takes_and_the_lost_machine_is_fenced_when_it_comes_back(
    lab: Lab, deployed_layer: Path, tmp_path: Path
) -> None:
    keeper, old, new = lab.up("keeper"), lab.up("lost", deployed_layer), lab.up("found")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
    keeper.run("cat >> /root/.ssh/authorized_keys", text=(tmp_path / "key.pub").read_text())
    elsewhere = {
        "trading_backup_repository": f"sftp:root@{keeper.address}:/srv/repository",
        "trading_backup_ssh_key": (tmp_path / "key").read_text(),
        "trading_backup_known_hosts": f"{keeper.address} {keeper.get('/etc/ssh/ssh_host_ed25519_key.pub')}",
        "trading_backup_password": "only for tests",
        "trading_backup_environment": {"FIRST": "1", "SECOND": "a b"},
    }
    trade(old)
    refused = controller(tmp_path, old, **made.VARIABLES, **elsewhere).run("deploy.yml", "--tags", "ops")
    assert "is not the key that this machine's backups are encrypted with" in " ".join(refused.output.split())
    deployer = controller(tmp_path, old, **made.VARIABLES, **elsewhere)
    deployer.run("deploy.yml", "--tags", "app,ops,proxy", ops_backup_new_password=True).must()
    assert old.get("/etc/trading/credentials/BACKUP_ENVIRONMENT") == "FIRST=1\nSECOND=a b\n"
    back_up(old)
    old.cut()

    found = told(controller(tmp_path, new, **elsewhere).run("restore.yml", backup="latest").must())
    wait_until_up(new)
    must_trade(new, current(new))
    print(f"recovery from elsewhere took {found.seconds} s, up to entry {found.seq}")
    back_up(new)

    old.mend()
    old.wait_for("test -e /var/lib/trading/FENCED", seconds=150, every=1)
    old.wait_for("test $(systemctl is-active trading-engine.service) != active", seconds=60)
    assert json.loads(old.run("tradectl fence show --json"))["known"] == 2
    assert not old.ssh("runuser -u trading -- cat /etc/trading/credentials/BACKUP_SSH_KEY").ok
    must_trade(new, current(new))
    for box in (keeper, old, new):
        lab.remove(box)


# -- the jobs ---------------------------------------------------------------------------------------------------------


def test_the_first_backup_and_its_rehearsal_are_made_with_the_deployment(deployed: Box) -> None:
    left = {job: stamp(deployed, job) for job in ("backup", "verify", "drill")}
    assert {job: found.get("ok") for job, found in left.items()} == dict.fromkeys(left, True), left
    assert left["drill"]["ended"] < left["verify"]["began"]


def test_what_is_traded_is_archived_within_a_minute_and_the_log_is_not_filled_by_it(deployed: Box) -> None:
    wait_until_up(deployed)
    deployed.wait_for(lambda: stamp(deployed, "archive").get("ok"), seconds=60)
    before = stamp(deployed, "archive")["ended"]
    deployed.wait_for(lambda: stamp(deployed, "archive")["ended"] > before, seconds=60)
    said = deployed.journal("trading-archive.service")
    assert "Starting" not in said and "Finished" not in said, said


def test_a_backup_holds_what_only_root_may_read_and_its_user_reads_nothing_else(deployed: Box) -> None:
    wait_until_up(deployed)
    by_hand(deployed)
    back_up(deployed)
    assert "without" not in stamp(deployed, "backup")["what"], "Redis, the log and the guides are in it too"
    deployed.run("tradectl backup restore --to /var/lib/looked --part machine", seconds=120)
    for path in ("etc/trading/credentials/API_TOKENS", "etc/trading/deployment.json", "etc/trading/tls/privkey.pem"):
        assert deployed.get(f"/var/lib/looked/machine/{path}") == deployed.get(f"/{path}"), path
    assert deployed.get("/var/lib/looked/machine/var/lib/trading-deploy/release.json") != ""
    assert not deployed.ssh("runuser -u trading -- cat /etc/trading/credentials/API_TOKENS").ok


def test_a_backup_that_cannot_be_made_is_told_and_loses_nothing(deployed: Box) -> None:
    wait_until_up(deployed)
    by_hand(deployed)
    back_up(deployed)
    before = stamp(deployed, "backup")["found"]["copies"]
    change(deployed, "trading-backup.service", Service=["Environment=OPS_TRADECTL=/bin/false"])
    assert not deployed.ssh("systemctl start trading-backup.service", seconds=120).ok
    wait_until(deployed, "trading-backup.service", "failed")
    undo(deployed, "trading-backup.service")
    back_up(deployed)
    assert stamp(deployed, "backup")["found"]["copies"] == before + 1
