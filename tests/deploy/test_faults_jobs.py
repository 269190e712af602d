"""The fault matrix of a machine, its third part: jobs, settings, disks, who is to be told, and the host itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from deploy.box import Box
from deploy.faults import House
from deploy.lab import Lab
from deploy.watching import APPRISE, Ear, change, undo, wait_until_done, wait_until_up
from support.mail import mailbox
from support.matrix import Row, keep

ENGINE, API = "trading-engine.service", "trading-api.service"
STAMP = "/var/lib/trading-ops/stamps/backup.json"


@pytest.fixture
def box(house: House) -> Box:
    return house.box


# -- jobs, units, settings --------------------------------------------------------------------------------------------


def test_a_backup_that_is_stale(house: House, box: Box) -> None:
    with house.suffers(fault="backup stale") as case:
        stamp = json.loads(box.get(STAMP))
        old = (datetime.now(UTC) - timedelta(hours=7)).isoformat()
        stamp["found"]["newest"]["at"] = old
        case.begins()
        box.put(STAMP, json.dumps({**stamp, "began": old, "ended": old}))
        said = case.told("jobs")
        assert "backup ran last 7 h" in said
        assert "It may explain: CRITICAL storage" in said
        case.stays_told_once()
        case.mended("systemctl start trading-backup")
        case.ends()


def test_a_timer_that_is_disabled(house: House, box: Box) -> None:
    with house.suffers(fault="timer disabled") as case:
        case.hurts("systemctl disable --now trading-backup.timer")
        said = case.told("services")
        assert "trading-backup.timer is inactive" in said
        case.stays_told_once()
        case.mended("systemctl enable --now trading-backup.timer")
        case.ends()


def test_a_unit_that_fails(house: House, box: Box) -> None:
    drill = "trading-drill.service"
    with house.suffers(fault="unit failed") as case:
        change(box, drill, Service=["ExecStart=", "ExecStart=/bin/false"])
        case.begins()
        assert not box.ssh(f"systemctl start {drill}").ok
        said = case.told_by_a_unit(drill)
        assert f"{drill} failed: exit-code" in said
        case.stays_told_once()
        undo(box, drill)
        case.mended(f"systemctl start {drill}")
        case.ends()


def test_a_kernel_that_is_set_otherwise(house: House, box: Box) -> None:
    with house.suffers(fault="kernel setting drifted") as case:
        case.hurts("sysctl net.ipv4.tcp_syncookies=0")
        said = case.told("kernel")
        assert "net.ipv4.tcp_syncookies" in said
        case.stays_told_once()
        case.mended("systemctl restart systemd-sysctl")
        case.ends()


# -- disks: on a machine whose engine nothing else kills, since four starts in ten minutes halt trading ----------------


@contextmanager
def nothing_archived(box: Box) -> Iterator[None]:
    """Take no file system away beneath a job that writes on it: it would fail, which is told.

    What failed for want of room is done afterwards, before anybody looks.
    """
    box.run("systemctl stop trading-archive.timer")
    wait_until_done(box, "trading-archive.service")
    yield
    box.run("systemctl start trading-archive.service trading-archive.timer", seconds=120)


def test_a_disk_that_is_full(house: House, box: Box) -> None:
    with house.suffers(fault="disk full (of the copies)") as case:
        box.small_disk("/var/backups/trading", 16 * 1024)
        case.begins()
        box.fill("/var/backups/trading")
        said = case.told("disk")
        assert "/var/backups/trading has 0.0% free" in said
        case.stays_told_once()
        box.free("/var/backups/trading")
        with nothing_archived(box):
            case.mended("umount /var/backups/trading")
        case.ends()


def test_a_disk_that_is_full_under_the_ledger(house: House, box: Box) -> None:
    data, ours = "/var/lib/trading", f"{API} {ENGINE}"
    box.run(f"systemctl stop {ours}")
    box.small_disk(data, 64 * 1024)
    box.run(f"systemctl start {ours}")
    house.get_well()
    with house.suffers(fault="disk full (of the ledger)") as case:
        case.begins()
        box.fill(data)
        said = case.told("disk")
        assert f"{data} has 0.0% free" in said
        case.stays_told_once(4)
        box.free(data)
        again = f"systemctl reset-failed {ENGINE}; systemctl start {ENGINE}"
        case.mended(again, well=house.get_well)
        case.by_operator(f"space is made, then `{again}`")
        case.ends()
    box.run(f"systemctl stop {ours}; cp -a {data} /root/data; umount {data}; cp -a /root/data/. {data}/")
    box.run(f"systemctl start {ours}")
    house.get_well()


def test_inodes_that_are_gone(house: House, box: Box) -> None:
    where = "/var/backups/trading"
    with house.suffers(fault="inodes gone (of the copies)") as case:
        box.small_disk(where, 16 * 1024)
        box.run(f"mount -o remount,nr_inodes=1000 {where}")
        case.hurts(f"cd {where}; i=0; while touch filler-$i 2>/dev/null; do i=$((i+1)); done")
        said = case.told("disk")
        assert "of its inodes free" in said
        case.stays_told_once()
        box.run(f"rm {where}/filler-*")
        with nothing_archived(box):
            case.mended(f"umount {where}")
        case.ends()


# -- those who are to be told -----------------------------------------------------------------------------------------


def test_an_alert_channel_that_answers_500(house: House, box: Box, ear: Ear) -> None:
    with house.suffers(fault="alert channel returning 500") as case:
        ear.code = 500
        case.hurts("systemctl disable --now trading-drill.timer")
        for _ in range(2):
            house.look()
        assert ear.messages == []
        waits = box.run("sqlite3 -readonly /var/lib/trading-ops/ops.sqlite3 'SELECT count(*) FROM outbox'")
        assert int(waits) > 0
        ear.code = 200
        said = case.told("services")
        assert "trading-drill.timer is inactive" in said
        box.run("systemctl enable --now trading-drill.timer")
        case.by_operator("the receiver answers 200 again; what waited for it is delivered, once")
        case.ends()


def test_a_mail_server_that_is_dead(house: House, box: Box, ear: Ear, lab: Lab) -> None:
    with socket.socket() as free:
        free.bind((lab.gateway, 0))
        port = free.getsockname()[1]
    mail = f"mailto://{lab.gateway}:{port}?from=box@trade.example&to=ann@trade.example&mode=insecure"
    box.put(APPRISE, f'urls:\n  - "{ear.url}"\n  - "{mail}"\n', mode="0600")
    with house.suffers(fault="mail server dead") as case:
        case.hurts("systemctl disable --now trading-drill.timer")
        said = case.told("services")
        assert "trading-drill.timer is inactive" in said
        case.stays_told_once()
        with mailbox(lab.gateway, port) as letters:
            house.look()
            assert [one["Subject"] for one in letters.mails] == [ear.messages[0]["title"]]
            box.run("systemctl enable --now trading-drill.timer")
            case.by_operator("the mail server is started; what waited for it is delivered, once")
            case.ends()
            assert len(letters.mails) == 2, "the alert and its end, each once"
    ear.belongs_to(box)


# -- the host, last, since it is switched off -------------------------------------------------------------------------


class Outside:
    """Stands for the service outside that waits for heartbeats, and tells when none came for a while."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.beats: list[tuple[float, str]] = []

    def waits(self, seconds: float) -> None:
        """Return once no heartbeat came for so long."""
        while time.monotonic() - self.beats[-1][0] < seconds:
            time.sleep(0.1)


@contextmanager
def outside(address: str) -> Iterator[Outside]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.beats.append((time.monotonic(), self.path))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer((address, 0), Handler) as server:
        found = Outside(f"http://{address}:{server.server_address[1]}/beat")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield found
        finally:  # a thread whose socket was closed before would spin for the rest of the run
            server.shutdown()


def test_a_host_that_dies(house: House, box: Box, ear: Ear, lab: Lab) -> None:
    patience = 15.0  # seconds; three looks of five minutes on an appliance
    with outside(lab.gateway) as listener:
        house.set(OPS_HEARTBEAT_URL=listener.url)
        house.forget()
        before = house.books()
        box.run('tradectl silence clock --for 1h --why "a container keeps no time of its own"')
        listener.beats.clear()
        house.look()
        assert [path for _, path in listener.beats] == ["/beat"]
        began = time.monotonic()
        box.pull_the_plug()
        listener.waits(patience)
        told = time.monotonic() - began
        assert ear.messages == []

        box.start()
        wait_until_up(box.wait_until_up())
        house.get_well()
        heard = len(listener.beats)
        house.look()
        back = time.monotonic() - began
        assert [path for _, path in listener.beats[heard:]] == ["/beat"]
        after = house.books()
        assert after >= before
    row = Row(
        fault="host killed",
        where="appliance",
        detected_after=round(told, 1),
        alerted_after=round(told, 1),
        looks=0,
        alerts=1,
        check="the listener outside",
        recovered=f"by itself in {back:.0f} s",
        notice=True,
        lost="nothing",
    )
    print(keep(row))
