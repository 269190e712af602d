"""Six answers at a glance: unknown is never well, and the worst of them is the headline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app import watcher
from app.watched import AlertAnswer, BackupAnswer, CheckAnswer, Status
from app.watcher import Known
from app.web import glance, words
from app.web.glance import Tile, Watch

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def known(*items: Any, doubt: str | None = None) -> Known[Any]:
    return Known(doubt, NOW, 1.0, list(items))


def check(name: str, status: Status = "OK") -> CheckAnswer:
    return CheckAnswer(name, status, f"{name} is {status}", NOW, NOW)


def watch(*checks: CheckAnswer, alerts: Known[Any] | None = None, backups: Known[Any] | None = None) -> Watch:
    return Watch(known(*checks), alerts or known(), backups or known())


def tile(name: str, level: Any) -> Tile:
    return Tile(name, level, level, f"{name} is {level}")


def test_levels_have_the_order_of_the_watchers_statuses() -> None:
    assert [words.LEVELS[status] for status in watcher.RANKS] == [one for one in words.RANKS if one != "none"]


def test_a_watcher_that_does_not_look_makes_host_backup_and_alerts_unknown() -> None:
    silent = Watch(*(known(doubt="it has not looked for 20 min") for _ in range(3)))
    found = [glance.host(silent), glance.backup(silent), glance.alerts(silent)]
    assert {one.level for one in found} == {"unknown"}
    assert {one.why for one in found} == {"it has not looked for 20 min"}


def test_no_check_of_the_host_is_no_good_news() -> None:
    assert glance.host(watch(check("storage"))).level == "unknown"


def test_checks_of_backups_and_of_trading_are_not_the_hosts() -> None:
    found = glance.host(watch(check("disk"), check("storage", "CRITICAL"), check("loop", "CRITICAL")))
    assert (found.level, found.why) == ("ok", "1 checks are well")


def test_the_worst_check_is_named_with_the_number_of_others() -> None:
    found = glance.host(watch(check("disk"), check("memory", "WARN"), check("load", "WARN")))
    assert (found.level, found.why) == ("warn", "memory: memory is WARN; 1 more")


def test_a_machine_without_backups_says_so_and_is_neither_well_nor_ill() -> None:
    assert glance.backup(watch(check("disk"))).level == "none"


def test_checks_of_backups_without_a_verified_backup_are_not_believed() -> None:
    assert glance.backup(watch(check("storage"))).level == "unknown"


def test_a_verified_backup_with_its_checks_well_is_well() -> None:
    copy = BackupAnswer("b1", NOW, 10, verified=True, ledger_head=7)
    assert glance.backup(watch(check("storage"), backups=known(copy))).level == "ok"


def test_open_alerts_are_counted_with_who_took_them_on() -> None:
    open_one = AlertAnswer(1, "disk", "firing", "WARN", NOW, "90 % full")
    ended = AlertAnswer(2, "load", "ended", "CRITICAL", NOW, "high", ended=NOW)
    found = glance.alerts(watch(alerts=known(open_one, ended)))
    assert (found.level, found.word, found.why) == ("warn", "1 open", "disk")


@pytest.mark.parametrize(
    ("levels", "worst"),
    [
        (("ok", "ok"), "ok"),
        (("ok", "none"), "ok"),
        (("none",), "none"),
        (("ok", "unknown"), "unknown"),
        (("unknown", "warn"), "unknown"),
        (("warn", "critical", "unknown"), "critical"),
        ((), "unknown"),
    ],
)
def test_the_headline_is_as_bad_as_the_worst_answer(levels: tuple[str, ...], worst: str) -> None:
    assert glance.verdict([tile(f"t{number}", level) for number, level in enumerate(levels)]).level == worst


def test_reasons_come_with_the_worst_first_and_leave_out_what_is_well() -> None:
    found = glance.verdict([tile("Feed", "unknown"), tile("Host", "critical"), tile("Risk", "ok")])
    assert found.reasons == ["Host: Host is critical", "Feed: Feed is unknown"]
