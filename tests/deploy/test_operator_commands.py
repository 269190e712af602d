"""The operator's commands on a deployed machine, as root and as somebody who may nothing: what they say and leave."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deploy.box import Box
from deploy.shell import Result
from deploy.watching import wait_until_done, wait_until_up

SECONDS = 120


@pytest.fixture(scope="module")
def box(deployed_box: Box) -> Box:
    wait_until_up(deployed_box)
    deployed_box.run("useradd --create-home joe")
    deployed_box.ssh("tradectl check", seconds=SECONDS)
    return deployed_box


def typed(box: Box, line: str) -> Result:
    return box.ssh(line, seconds=SECONDS)


def joe(box: Box, line: str) -> Result:
    """Type a line as a user who may nothing."""
    return typed(box, f"su - joe -c '{line}'")


def diagnosis(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(typed(box, "tradectl doctor --json").stdout)
    return found


def wrong(box: Box) -> dict[str, Any]:
    return {one["what"]: one for one in diagnosis(box)["wrong"]}


@pytest.mark.parametrize("line", ["check", "ack clock --why x", "silence clock --for 2h --why x", "report --list"])
def test_the_work_of_another_user_is_told_with_the_whole_line_to_type(box: Box, line: str) -> None:
    said = joe(box, f"tradectl {line}")
    assert (said.returncode, said.stderr.rstrip().endswith(f"sudo tradectl {line}")) == (1, True)


def test_to_read_about_a_command_takes_no_right(box: Box) -> None:
    said = joe(box, "tradectl silence --help")
    assert (said.returncode, said.stdout.startswith("Usage: tradectl silence")) == (0, True)


@pytest.mark.parametrize(("line", "code"), [("logs --errors", 3), ("profile engine 1s", 1), ("ledger verify", 1)])
def test_what_may_not_be_read_is_told_as_that(box: Box, line: str, code: int) -> None:
    said = joe(box, f"tradectl {line}")
    assert (said.returncode, "sudo tradectl" in said.stderr) == (code, True)


def test_the_doctor_of_somebody_who_may_nothing_says_nothing_that_is_not_so(box: Box) -> None:
    found = json.loads(joe(box, "tradectl doctor --json").stdout)
    steps = {step["name"]: step["status"] for tree in found["trees"] for step in tree["steps"]}
    assert [steps[name] for name in ("Redis", "engine", "settings", "callers")] == ["blocked"] * 4
    assert "not seen by this user" in joe(box, "tradectl doctor settings").stdout


def test_a_foreign_env_file_says_nothing_here(box: Box) -> None:
    box.run("mkdir -p /srv/elsewhere && echo NONSENSE=1 > /srv/elsewhere/.env")
    for line in ("status", "doctor settings", "alerts", "logs --errors"):
        assert typed(box, f"cd /srv/elsewhere && tradectl {line}").returncode == 0


def test_what_root_does_is_done_by_root_and_shown_at_once(box: Box) -> None:
    assert typed(box, "tradectl ack clock --why looking").returncode == 0
    alerts = json.loads(box.run("curl -s http://localhost:8000/api/v1/ops/alerts"))["items"]
    (clock,) = [one for one in alerts if one["name"] == "clock"]
    assert (clock["state"], clock["acknowledged"]["by"]) == ("acknowledged", "root")


def test_a_unit_that_stopped_is_seen_at_once_and_the_first_thing_to_type_mends_it(box: Box) -> None:
    for unit in ("nginx.service", "trading-api.socket", "trading-engine.service"):
        box.run(f"systemctl stop {unit}")
        first = diagnosis(box)["first"]
        assert typed(box, first).returncode == 0, first
        wait_until_up(box)
        assert not {"units", "API", "engine"} & wrong(box).keys()


def test_after_it_was_mended_what_the_watcher_saw_is_not_told_as_wrong(box: Box) -> None:
    box.run("systemctl stop trading-check.timer trading-api.socket trading-api.service")  # nobody else looks meanwhile
    wait_until_done(box, "trading-check.service")
    typed(box, "tradectl check")
    assert "API" in wrong(box)
    box.run("systemctl restart trading-api.service")
    wait_until_up(box)
    told = wrong(box)
    assert "live" not in told and "services" not in told
    assert told["last look"]["mend"] == "sudo tradectl check"
    typed(box, "tradectl check")
    assert "last look" not in wrong(box)
    box.run("systemctl start trading-check.timer")


def test_a_profile_leaves_a_flame_graph_that_others_cannot_read_and_nothing_is_overwritten(box: Box) -> None:
    found = json.loads(typed(box, "tradectl profile engine 1s --idle --json").stdout)
    assert "<svg" in box.get(found["flame"])
    assert joe(box, f"cat {found['flame']}").returncode != 0
    assert typed(box, "tradectl profile engine 1s --flame /var/lib/trading/ledger.sqlite3").returncode == 2
