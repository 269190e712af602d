"""When the ledger's chain was last found whole, and when a copy was last restored on trial."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import DAY, NOW, context, places

from ops import stamps
from ops.check import Context, Result, Status, always, run_all, summarise
from ops.checks import CHECKS, services, storage
from ops.config import Settings
from ops.restic import INSTALL
from ops.stamps import Stamp

HOUR = timedelta(hours=1)
# the checks that give a machine that was just started time to catch up, on any machine
LATE = [msgspec.structs.replace(one, applies=always) for one in CHECKS if one.name in ("storage", "ledger", "jobs")]
DENIED = "tradectl says (exit code 1): entry 7 does not follow entry 6"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return places(tmp_path)


def left(settings: Settings, job: str, ago: timedelta, *, ok: bool = True, what: str = "done", **found: Any) -> None:
    stamps.write(settings.home / "stamps", Stamp(job, NOW - ago, NOW - ago, ok, what, found))


def newest(ago: timedelta) -> dict[str, Any]:
    return {"name": "x", "at": (NOW - ago).isoformat(), "seq": 7, "bytes": 1}


def ledger(settings: Settings, **others: Any) -> Status:
    return summarise("ledger", storage.ledger(context(settings, **others))).status


@pytest.mark.parametrize(("ago", "status"), [(HOUR, Status.OK), (7 * HOUR, Status.WARN), (27 * HOUR, Status.CRITICAL)])
def test_the_ledger_is_judged_by_when_a_backup_verified_it(settings: Settings, ago: timedelta, status: Status) -> None:
    left(settings, "backup", timedelta(), account=True, copies=1, newest=newest(ago))
    assert ledger(settings) is status


def test_a_drill_verifies_the_ledger_as_well(settings: Settings) -> None:
    left(settings, "backup", timedelta(), ok=False, account=True, copies=1, newest=newest(30 * HOUR))
    assert ledger(settings) is Status.CRITICAL
    left(settings, "drill", HOUR, name="x", seconds=1)
    assert ledger(settings) is Status.OK


def test_a_chain_that_did_not_hold_is_critical_although_an_older_copy_did(settings: Settings) -> None:
    left(settings, "backup", timedelta(), ok=False, what=DENIED, account=True, copies=1, newest=newest(HOUR))
    result = summarise("ledger", storage.ledger(context(settings)))
    assert result.status is Status.CRITICAL
    assert "entry 7 does not follow entry 6" in result.summary


def test_a_backup_that_failed_for_want_of_space_says_nothing_of_the_chain(settings: Settings) -> None:
    left(settings, "backup", timedelta(), ok=False, what="3 MiB free", account=True, copies=1, newest=newest(HOUR))
    assert ledger(settings) is Status.OK


def test_an_account_that_nobody_could_verify_is_critical_and_no_account_is_fine(settings: Settings) -> None:
    left(settings, "backup", timedelta(), ok=False, what="3 MiB free", account=True, copies=0, newest=None)
    assert ledger(settings) is Status.CRITICAL
    left(settings, "backup", timedelta(), account=False, copies=0, newest=None)
    assert ledger(settings) is Status.OK


def test_on_a_new_machine_nobody_has_verified_yet(settings: Settings) -> None:
    assert ledger(settings, deployed=NOW - HOUR) is Status.WARN
    assert ledger(settings) is Status.CRITICAL


def test_after_a_start_of_the_machine_the_first_backup_is_on_its_way(settings: Settings) -> None:
    left(settings, "backup", 9 * HOUR, account=True, copies=1, newest=newest(9 * HOUR))
    assert ledger(settings, booted=NOW - timedelta(minutes=2)) is Status.OK


@pytest.mark.parametrize(("name", "look"), [("ledger", storage.ledger), ("storage", storage.copies)])
def test_what_was_late_before_a_start_of_the_machine_is_late_after_it(settings: Settings, name: str, look: Any) -> None:
    left(settings, "backup", 9 * HOUR, account=True, copies=1, newest=newest(9 * HOUR))
    before = summarise(name, look(context(settings)))
    assert before.status is not Status.OK
    starting = context(settings, booted=NOW - timedelta(minutes=2), previous={name: before})
    assert summarise(name, look(starting)).status is before.status


LOOKS = st.lists(st.tuples(st.sampled_from(["look", "start", "blind"]), st.integers(1, 600)), min_size=2, max_size=12)


@given(LOOKS, st.integers(0, 30), st.booleans())
def test_no_start_of_the_machine_makes_well_what_was_late_before_it(
    looks: list[tuple[str, int]], hours: int, ok: bool
) -> None:
    """Nothing is done any more from the first look on, so what is late stays so, whatever the looks could see."""
    with TemporaryDirectory() as place:
        settings = places(Path(place))
        for job in ("backup", "drill", "morning"):
            found = {"account": True, "copies": 1, "newest": newest(hours * HOUR)} if job == "backup" else {"name": "x"}
            left(settings, job, hours * HOUR, ok=ok, **found)
        file, now, booted = settings.home / "stamps" / "backup.json", NOW, NOW - DAY
        text, previous, late = file.read_bytes(), dict[str, Result](), set[tuple[str, str]]()
        for what, minutes in looks:
            now += timedelta(minutes=minutes)
            booted = now - timedelta(minutes=1) if what == "start" else booted
            file.write_bytes(b"{" if what == "blind" else text)
            results = run_all(LATE, context(settings, now, booted=booted, previous=previous))
            bad = {(one.name, fault.about): fault.status for one in results for fault in one.faults}
            blind = {one.name for one in results if not one.looked}
            assert {one for one in late if one[0] not in blind} <= bad.keys()
            late |= {one for one, status in bad.items() if status is not Status.UNKNOWN}
            previous = {one.name: one for one in results}


def test_a_look_that_saw_nothing_before_a_start_of_the_machine_excuses_nothing_after_it(settings: Settings) -> None:
    left(settings, "backup", 9 * HOUR, account=True, copies=1, newest=newest(9 * HOUR))
    blind = Result("storage", Status.UNKNOWN, "cannot be told", looked=False)
    starting = context(settings, booted=NOW - timedelta(minutes=2), previous={"storage": blind})
    assert summarise("storage", storage.copies(starting)).status is Status.CRITICAL


def judged(seen: Context) -> Status:
    return summarise("drill", storage.drill(seen)).status


@pytest.mark.parametrize(("ago", "status"), [(7, Status.OK), (9, Status.WARN), (16, Status.CRITICAL)])
def test_a_drill_is_judged_by_its_age(settings: Settings, ago: int, status: Status) -> None:
    left(settings, "drill", ago * DAY, name="x", seconds=1)
    assert judged(context(settings)) is status


def test_a_drill_that_failed_is_critical(settings: Settings) -> None:
    left(settings, "drill", HOUR, ok=False, what="the account differs")
    assert judged(context(settings)) is Status.CRITICAL


def test_a_drill_and_a_verification_of_the_future_prove_nothing_of_today(settings: Settings) -> None:
    left(settings, "drill", -DAY, name="x", seconds=1)
    assert (judged(context(settings)), ledger(settings)) == (Status.WARN, Status.WARN)
    left(settings, "drill", timedelta(minutes=-1), name="x", seconds=1)
    assert (judged(context(settings)), ledger(settings)) == (Status.OK, Status.OK)
    left(settings, "drill", -DAY, ok=False, what="the account differs")
    assert judged(context(settings)) is Status.CRITICAL


def test_a_drill_that_had_nothing_to_restore_is_none_once_there_is_an_account(settings: Settings) -> None:
    left(settings, "drill", HOUR, what="there is no account")
    assert judged(context(settings)) is Status.OK
    left(settings, "backup", HOUR, account=True, copies=1, newest=newest(HOUR))
    assert judged(context(settings)) is Status.WARN


@pytest.mark.parametrize(("deployed", "status"), [(1, Status.WARN), (9, Status.WARN), (16, Status.CRITICAL)])
def test_before_the_first_drill_nobody_knows(settings: Settings, deployed: int, status: Status) -> None:
    assert judged(context(settings, deployed=NOW - deployed * DAY)) is status


def test_a_stamp_that_cannot_be_read_is_no_drill(settings: Settings) -> None:
    left(settings, "drill", HOUR, name="x")
    (settings.home / "stamps" / "drill.json").write_text("{")
    with pytest.raises(Exception, match="cannot be read"):
        storage.drill(context(settings))


def test_copies_are_looked_at_where_somebody_makes_them(settings: Settings) -> None:
    before = storage.is_kept(settings)
    left(settings, "backup", HOUR)
    assert storage.is_kept(settings) >= before
    assert storage.is_kept(settings)


def test_a_laptop_without_restic_is_warned_with_what_to_type_and_an_appliance_is_critical(settings: Settings) -> None:
    left(settings, "backup", HOUR, ok=False, what=INSTALL, account=True, copies=0, newest=None)
    result = summarise("storage", storage.copies(context(settings)))
    wanted = Status.CRITICAL if services.deployed(settings) else Status.WARN
    assert result.status is wanted
    assert "apt install restic" in result.summary or wanted is Status.CRITICAL
    assert ledger(settings) is (Status.CRITICAL if services.deployed(settings) else Status.OK)


# -- what was archived since the last backup ------------------------------------------------------------------------


def archived(settings: Settings, **others: Any) -> tuple[Status, str]:
    result = summarise("archive", storage.archived(context(settings, **others)))
    return result.status, result.summary


@pytest.mark.parametrize(("minutes", "status"), [(1, Status.OK), (3, Status.WARN), (11, Status.CRITICAL)])
def test_what_is_on_this_machine_alone_is_judged_by_its_age(settings: Settings, minutes: int, status: Status) -> None:
    at = (NOW - timedelta(minutes=minutes)).isoformat()
    left(settings, "archive", timedelta(), ok=status is Status.OK, what="it was so", archived=at, seq=7)
    found = archived(settings)
    assert found[0] is status
    assert "it was so" in found[1]


def test_an_account_without_a_backup_has_nothing_to_archive_and_a_job_that_does_not_run_is_told(
    settings: Settings,
) -> None:
    left(settings, "archive", timedelta(seconds=20), what="there is no backup yet", archived=None)
    assert archived(settings)[0] is Status.OK
    left(settings, "archive", timedelta(minutes=20), what="there is no backup yet", archived=None)
    assert archived(settings)[0] is Status.CRITICAL
    left(settings, "archive", -DAY, what="done", archived=(NOW + DAY).isoformat())
    assert archived(settings)[0] is Status.WARN


def test_before_the_first_archive_it_is_a_warning_at_first_and_critical_then(settings: Settings) -> None:
    assert archived(settings, deployed=NOW - timedelta(minutes=5))[0] is Status.WARN
    assert archived(settings)[0] is Status.CRITICAL
