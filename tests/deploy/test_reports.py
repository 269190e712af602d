"""The reports on a deployed machine, made by their units inside their sandboxes: nothing in them is out of sight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy.box import Box
from deploy.lab import Lab
from deploy.watching import wait_until_up

REPORTS = ("morning", "evening", "weekly", "monthly")
FOLDER = "/var/lib/trading-ops/reports"
# What a container cannot tell, or a young machine has no list of yet.
BLIND = {("Checks", "clock"), ("Checks", "updates"), ("Updates", "packages")}

Made = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def box(lab: Lab, deployed_layer: Path) -> Iterator[Box]:
    box = lab.up("reports", deployed_layer)
    wait_until_up(box)
    box.run("systemctl start trading-backup", seconds=120)  # it is due at :55 and has not run yet
    box.run("systemctl start trading-check", seconds=120)
    yield box
    lab.remove(box)


@pytest.fixture(scope="module")
def made(box: Box) -> Made:
    """Each report as it was kept, by sections."""
    box.run("logger --priority user.err nothing; systemd-cat --priority=err true")
    box.run("systemd-run --wait --unit=trading-broken -p StandardOutput=journal sh -c 'echo \"<3>it broke 7\"'")
    for job in REPORTS:
        box.run(f"systemctl start trading-{job} || {{ journalctl -u trading-{job}; exit 1; }}", seconds=240)
    names = {path.rpartition("/")[2] for path in box.run(f"ls {FOLDER}/*.json").split()} - {"index.json"}
    found = {name.partition("-")[0]: json.loads(box.get(f"{FOLDER}/{name}")) for name in names}
    return {job: {one["title"].partition(",")[0]: one for one in one["sections"]} for job, one in found.items()}


def line(section: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in section["lines"] if one["name"] == name)
    return found


@pytest.mark.parametrize("job", REPORTS)
def test_inside_its_sandbox_a_report_can_tell_everything(made: Made, job: str) -> None:
    for title, section in made[job].items():
        for one in section["lines"]:
            print(f"{one['status'] or '':<8} {title}: {one['name']}: {one['text']}")
    blind = {
        (title, one["name"]): one["text"]
        for title, section in made[job].items()
        for one in section["lines"]
        if one["status"] == "UNKNOWN"
    }
    assert {about: text for about, text in blind.items() if about not in BLIND} == {}


def test_an_error_that_a_unit_logged_is_counted(made: Made) -> None:
    rows = made["morning"]["Errors"]["table"]["rows"]
    assert [row for row in rows if row[1] == "trading-broken.service" and "it broke" in row[-1]]


def test_the_snapshot_of_redis_and_the_journal_are_verified(made: Made) -> None:
    evening = made["evening"]
    assert line(evening["Redis"], "snapshot")["status"] == "OK"
    assert line(evening["Logs"], "journal")["text"].startswith("takes up ")
    assert " of " in line(evening["Logs"], "journal")["text"]


def test_a_copy_is_made_before_the_weekly_report(made: Made) -> None:
    told = line(made["weekly"]["Safety copies"], "made now")
    assert (told["status"], told["text"][:4]) == ("OK", "yes,")


def test_the_renewal_is_judged(made: Made) -> None:
    certificate = made["weekly"]["Certificate"]
    assert "certbot.timer is active" in line(certificate, "timer")["text"]
    # Its certificate signs itself; that the trial of a real one is told, tests/deploy/test_tls.py shows.
    assert line(certificate, "trial")["text"].startswith("none was made: certbot has no certificate")


def test_everybody_reads_a_report_again_through_the_api(box: Box, made: Made) -> None:
    box.run("systemctl start trading-check", seconds=120)
    listed = json.loads(box.run("curl -s http://localhost:8000/api/v1/ops/reports"))["items"]
    assert {one["job"] for one in listed} == set(REPORTS) == made.keys()
    page = next(file for one in listed for file in one["files"] if file.endswith(".html"))
    assert "<h2>" in box.run(f"curl -s http://localhost:8000/api/v1/ops/reports/{page}")
    assert "Morning report of " in box.run("tradectl report morning")
