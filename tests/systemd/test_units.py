"""What the units promise: who starts and stops what, when jobs run, how failures are told, who gets which secret."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from support.unit_files import SYSTEMD, Unit, drop_ins, own, read, seconds

from app.config import SECRETS, Settings, strategy_plans
from app.recovery import CRASH_LOOP, CRASH_WINDOW
from app.supervisor import HOPELESS
from ops import errands, failure, heartbeat, memory, sending
from ops.checks import CHECKS
from ops.config import UNITS
from ops.jobs import BY_THE_CLOCK, JOBS

SERVICES, TIMERS, SOCKETS, SLICES = own("service"), own("timer"), own("socket"), own("slice")
DROP_INS = drop_ins()
ALERT, ENGINE, API = "trading-alert@.service", "trading-engine.service", "trading-api.service"
RESTART = "trading-restart.service"  # started by its path unit, when the check asks for it
ASKED = "trading-asked.service"  # the same, when the page does
WATCHING = [ALERT, "trading-check.service", "trading-check.timer"]
JOB_SERVICES = [f"trading-{name}.service" for name in BY_THE_CLOCK]
ONESHOTS = [name for name, unit in SERVICES.items() if unit.get("Type") == "oneshot"]
BUSY_LEDGER = 5.0  # seconds that SQLite waits for another writer (app/store.py)
MINUTE = 60

CALENDAR = {
    "check": "*-*-* *:00/5:00 UTC",
    "morning": "*-*-* 09:00:00 UTC",
    "evening": "*-*-* 18:00:00 UTC",
    "weekly": "Sun *-*-* 02:00:00 UTC",
    "monthly": "*-*-01 01:00:00 UTC",
    "backup": "*-*-* *:55:00 UTC",
    "archive": "*-*-* *:*:20/30 UTC",
    "verify": "*-*-* 04:10:00 UTC",
    "drill": "Sun *-*-* 03:30:00 UTC",
}
REPOSITORY = {"BACKUP_PASSWORD", "BACKUP_ENVIRONMENT", "BACKUP_SSH_KEY"}
KEEPERS = [f"trading-{name}.service" for name in ("backup", "archive", "verify", "drill")]
CREDENTIALS = {
    ENGINE: {"FINNHUB_API_KEY", "TWELVEDATA_API_KEY", "REDIS_PASSWORD"},
    API: {"API_TOKENS", "REDIS_PASSWORD"},
    ALERT: {"apprise.yml"},
    "trading-check.service": {"apprise.yml", "REDIS_OPS_PASSWORD"},
    "trading-morning.service": {"apprise.yml"},
    "trading-evening.service": {"apprise.yml", "REDIS_OPS_PASSWORD"},
    "trading-weekly.service": {"apprise.yml"},
    "trading-monthly.service": {"apprise.yml"},
    "trading-backup.service": REPOSITORY | {"REDIS_OPS_PASSWORD"},
    "trading-archive.service": REPOSITORY,
    "trading-verify.service": REPOSITORY,
    "trading-drill.service": REPOSITORY,
    RESTART: set(),
    ASKED: {"apprise.yml"},
}
SOURCES = re.compile(
    r"(\w+):/etc/trading/credentials/\1|apprise\.yml:/etc/trading/apprise\.yml"
    r"|REDIS_OPS_PASSWORD:/etc/trading/credentials/REDIS_BACKUP_PASSWORD"  # of a user that may have Redis save
)
SETTINGS = "/etc/trading/trading.env"


def everything() -> dict[str, Unit]:
    return {
        name: unit
        for kind in ("service", "timer", "socket", "path", "target", "slice")
        for name, unit in own(kind).items()
    }


# -- what there is ---------------------------------------------------------------------------------------------------


def test_there_is_a_service_and_a_timer_for_each_job_of_the_clock_and_nothing_else() -> None:
    expected = {"trading.target", "trading.slice", "trading-jobs.slice", "trading-api.socket", ENGINE, API, ALERT}
    expected |= {RESTART, "trading-restart.path", ASKED, "trading-asked.path"}
    expected |= {f"trading-{name}.{kind}" for name in BY_THE_CLOCK for kind in ("service", "timer")}
    assert set(everything()) == expected


def test_every_unit_of_ours_that_the_watcher_looks_at_exists() -> None:
    watched = {name for name in UNITS.split() if name.startswith("trading")}
    assert watched <= set(everything())
    roles = "".join(path.read_text() for path in (SYSTEMD.parent / "ansible/roles").rglob("*.yml"))
    others = set(UNITS.split()) - watched
    bare = {"nftables.service", "ssh.service", "certbot.timer"}
    assert bare <= others
    assert [name for name in others if not re.search(rf"'?name'?: '?{re.escape(name)}", roles)] == []
    assert [name for name in others - bare if name not in DROP_INS] == []


@pytest.mark.parametrize("name", everything())
def test_every_unit_says_what_it_is(name: str) -> None:
    assert everything()[name].get("Description")


@pytest.mark.parametrize("path", sorted(path for path in SYSTEMD.rglob("*") if path.is_file()), ids=lambda p: p.name)
def test_no_line_is_longer_than_120_characters(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_runs_the_current_release(name: str) -> None:
    word = name.removeprefix("trading-").removesuffix(".service")
    program = "bin/tradectl" if name in (ENGINE, API) else "bin/python -m ops"
    arguments = "alert %i" if name == ALERT else word
    assert SERVICES[name].all("ExecStart") == [f"/opt/trading/current/{program} {arguments}"]


# -- starting and stopping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in {**SERVICES, **TIMERS, **SOCKETS} if name not in WATCHING])
def test_everything_but_the_watcher_stops_with_the_target_which_waits_for_it(name: str) -> None:
    unit = everything()[name]
    assert unit.get("PartOf") == "trading.target"
    assert "trading.target" in unit.words("After")


@pytest.mark.parametrize("name", WATCHING)
def test_who_tells_that_trading_is_stopped_does_not_stop_with_it(name: str) -> None:
    unit = everything()[name]
    assert not unit.all("PartOf") and not unit.all("BindsTo") and not unit.all("Requires")
    assert "trading.target" not in unit.words("After")


@pytest.mark.parametrize("name", everything())
def test_what_runs_for_ever_starts_with_the_target_and_a_job_only_by_its_timer(name: str) -> None:
    of_jobs = name in JOB_SERVICES or name in (ALERT, RESTART, ASKED) or name.endswith(".slice")
    wanted = "multi-user.target" if name == "trading.target" else "" if of_jobs else "trading.target"
    if name == "trading-check.timer":  # it comes with the machine, also where somebody disabled trading
        wanted = "timers.target trading.target"
    assert everything()[name].get("WantedBy") == wanted


def test_the_engine_wants_redis_and_does_not_need_it() -> None:
    engine = SERVICES[ENGINE]
    assert "redis-server.service" in engine.words("Wants")
    assert not engine.all("Requires") and not engine.all("BindsTo") and not engine.all("Requisite")


def test_the_api_needs_its_port_and_not_the_engine() -> None:
    api = SERVICES[API]
    assert api.all("Requires") == ["trading-api.socket"]
    assert ENGINE not in api.words("After") + api.words("Wants")


@pytest.mark.parametrize("name", [ENGINE, API])
def test_a_service_that_runs_for_ever_tells_that_it_is_ready_and_alive(name: str) -> None:
    unit = SERVICES[name]
    assert (unit.get("Type"), unit.get("NotifyAccess")) == ("notify", "main")
    assert unit.get("TimeoutStartSec") and unit.get("TimeoutStopSec")


@pytest.mark.parametrize("name", [ENGINE, API])
def test_the_watchdog_waits_longer_than_the_longest_legal_wait(name: str) -> None:
    settings = Settings()
    thinking = len(strategy_plans(settings.strategies)) * settings.strategy_budget_ms / 1000
    assert seconds(SERVICES[name].get("WatchdogSec")) > 2 * (thinking + BUSY_LEDGER)


def test_an_engine_that_would_end_the_same_way_again_is_not_started_again() -> None:
    assert set(SERVICES[ENGINE].words("RestartPreventExitStatus")) == {str(code) for code in HOPELESS}


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SERVICES, *SOCKETS, *DROP_INS])
def test_every_failure_is_told_but_that_of_an_alert(name: str) -> None:
    unit = {**everything(), **DROP_INS}[name]
    assert unit.all("OnFailure") == ([] if name == ALERT else ["trading-alert@%n.service"])


@pytest.mark.parametrize("name", [ENGINE, API, "redis-server.service", "nginx.service"])
def test_a_service_that_dies_is_started_again_and_told_of_once_when_it_stays_dead(name: str) -> None:
    unit = SERVICES.get(name) or DROP_INS[name]
    assert (unit.get("Restart"), unit.get("RestartMode")) == ("on-failure", "direct")
    assert seconds(unit.get("RestartSec")) < seconds(unit.get("RestartMaxDelaySec"))
    limits = [line for line in unit.lines if line.key.startswith("StartLimit")]
    assert {(line.section, line.key) for line in limits} == {
        ("Unit", "StartLimitIntervalSec"),
        ("Unit", "StartLimitBurst"),
    }


@pytest.mark.parametrize("name", [ENGINE, API, "redis-server.service", "nginx.service"])
def test_the_pauses_between_restarts_let_the_limit_be_reached(name: str) -> None:
    unit = SERVICES.get(name) or DROP_INS[name]
    longest = seconds(unit.get("RestartMaxDelaySec")) * int(unit.get("StartLimitBurst"))
    assert longest < seconds(unit.get("StartLimitIntervalSec")) / 2


def test_the_engines_own_brake_comes_before_that_of_systemd() -> None:
    engine = SERVICES[ENGINE]
    assert int(engine.get("StartLimitBurst")) > CRASH_LOOP
    assert seconds(engine.get("StartLimitIntervalSec")) >= CRASH_WINDOW.total_seconds()


def test_the_kernel_kills_jobs_first_and_the_engine_last() -> None:
    units = {**SERVICES, **DROP_INS}
    order = [
        "trading-backup.service",
        "redis-server.service",
        API,
        "nginx.service",
        ALERT,
        ENGINE,
    ]
    scores = [int(units[name].get("OOMScoreAdjust")) for name in order]
    assert all(first > second for first, second in pairwise(scores))


# -- jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ONESHOTS, "certbot.service"])
def test_no_job_may_hang_for_ever(name: str) -> None:
    unit = SERVICES.get(name) or DROP_INS[name]
    assert 0 < seconds(unit.get("TimeoutStartSec")) <= 30 * MINUTE


def test_every_job_of_the_clock_is_a_oneshot_among_the_jobs() -> None:
    assert sorted(ONESHOTS) == sorted([*JOB_SERVICES, ALERT, RESTART, ASKED])
    assert {SERVICES[name].get("Slice") for name in JOB_SERVICES} == {"trading-jobs.slice"}
    assert {SERVICES[name].get("Slice") for name in (ENGINE, API, ALERT)} == {"trading.slice"}


@pytest.mark.parametrize("name", BY_THE_CLOCK)
def test_a_timer_runs_when_it_was_promised_in_universal_time(name: str) -> None:
    timer = TIMERS[f"trading-{name}.timer"]
    assert timer.all("OnCalendar") == [CALENDAR[name]]
    assert timer.all("Unit") == []
    assert timer.all("AccuracySec") == ["1s"]


@pytest.mark.parametrize("name", BY_THE_CLOCK)
def test_what_runs_more_rarely_than_every_few_minutes_is_caught_up_after_a_time_off(name: str) -> None:
    assert TIMERS[f"trading-{name}.timer"].all("Persistent") == ([] if name in ("check", "archive") else ["yes"])


@pytest.mark.parametrize("name", BY_THE_CLOCK)
def test_no_timer_adds_a_new_chance_at_each_start_which_could_put_a_job_off_for_ever(name: str) -> None:
    timer = TIMERS[f"trading-{name}.timer"]
    assert not timer.all("RandomizedDelaySec") or timer.get("FixedRandomDelay") == "yes"


def test_an_alert_and_a_check_end_by_themselves_before_systemd_ends_them() -> None:
    """What may hang in each, one after the other. The rest is for a machine that is busy, and has to start Python."""
    remembering, telling = 3 * memory.BUSY, sending.BUDGET + sending.LONGEST
    alert = remembering + failure.ASKING + failure.READING + telling
    looking = max(check.seconds for check in CHECKS)
    asking = 3 * 10  # systemd: which processes run, whether units that failed are well again, what is published
    check = remembering + asking + looking + telling + heartbeat.SECONDS
    testing = errands.SECONDS + heartbeat.SECONDS  # of the alerts, of which the page gets one a minute
    rest = 20
    assert alert + rest < seconds(SERVICES[ALERT].get("TimeoutStartSec"))
    assert remembering + testing + rest < seconds(SERVICES[ASKED].get("TimeoutStartSec"))
    assert check + rest < seconds(SERVICES["trading-check.service"].get("TimeoutStartSec"))


def test_a_check_is_over_before_the_next_one() -> None:
    every = JOBS["check"].every
    assert every is not None
    assert seconds(SERVICES["trading-check.service"].get("TimeoutStartSec")) < every.total_seconds()


def test_a_drill_never_runs_beside_a_backup() -> None:
    backup, drill = SERVICES["trading-backup.service"], SERVICES["trading-drill.service"]
    at = int(CALENDAR["backup"].split(":")[1]) - 60  # minutes before the full hour in which the drill begins
    begins = int(CALENDAR["drill"].split(":")[1])
    assert at + seconds(backup.get("TimeoutStartSec")) / MINUTE <= begins
    assert begins + seconds(drill.get("TimeoutStartSec")) / MINUTE <= at + 60
    assert "trading-backup.service" in drill.words("After")


def test_a_check_of_the_repository_waits_for_a_backup_and_a_drill_and_is_over_before_the_next_backup_but_one() -> None:
    verify, drill = SERVICES["trading-verify.service"], SERVICES["trading-drill.service"]
    assert {"trading-backup.service", "trading-drill.service"} <= set(verify.words("After"))
    hour, minute = (int(part) for part in CALENDAR["verify"].split()[1].split(":")[:2])
    drilled = int(CALENDAR["drill"].split(":")[1]) + seconds(drill.get("TimeoutStartSec")) / MINUTE
    assert 60 * 3 + drilled < 60 * hour + minute
    assert minute + seconds(verify.get("TimeoutStartSec")) / MINUTE < int(CALENDAR["backup"].split(":")[1])


def test_what_the_ledger_grew_by_is_kept_within_a_minute_without_a_word_in_the_log_each_time() -> None:
    archive, timer = SERVICES["trading-archive.service"], TIMERS["trading-archive.timer"]
    assert timer.all("OnCalendar") == ["*-*-* *:*:20/30 UTC"]
    assert (archive.get("LogLevelMax"), archive.get("SyslogLevel")) == ("notice", "notice")
    assert "1" in archive.words("SuccessExitStatus"), "the check tells it, once, and not systemd twice a minute"


def test_only_the_backup_may_read_what_is_closed_to_its_user() -> None:
    able = {name for name, unit in SERVICES.items() if "CAP_DAC_READ_SEARCH" in unit.words("AmbientCapabilities")}
    assert able == {"trading-backup.service"}
    assert SERVICES["trading-backup.service"].words("CapabilityBoundingSet") == ["CAP_DAC_READ_SEARCH"]


def test_a_check_that_found_something_has_not_failed() -> None:
    assert "1" in SERVICES["trading-check.service"].words("SuccessExitStatus")


@pytest.mark.parametrize("name", JOB_SERVICES)
def test_a_job_that_was_stopped_has_not_failed(name: str) -> None:
    assert {"143", "SIGTERM"} <= set(SERVICES[name].words("SuccessExitStatus"))


# -- secrets and settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gets_the_secrets_that_it_needs_and_no_other(name: str) -> None:
    loaded = SERVICES[name].all("LoadCredential")
    assert {entry.partition(":")[0] for entry in loaded} == CREDENTIALS[name]
    assert [entry for entry in loaded if not SOURCES.fullmatch(entry)] == []


def test_engine_and_api_get_only_secrets_that_the_program_knows() -> None:
    assert CREDENTIALS[ENGINE] | CREDENTIALS[API] == set(SECRETS)


@pytest.mark.parametrize("unit", [*everything().values(), *DROP_INS.values()], ids=lambda unit: unit.name)
def test_no_secret_is_in_an_environment(unit: Unit) -> None:
    named = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)
    assert [value for value in unit.all("Environment") if named.search(value)] == []
    assert not unit.all("PassEnvironment") and not unit.all("SetCredential")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_reads_the_settings_and_those_of_the_ledger_that_one_is_expected(name: str) -> None:
    of_the_ledger = (ENGINE, *KEEPERS)
    expected = [SETTINGS, "-/var/lib/trading-deploy/ledger.env"] if name in of_the_ledger else [SETTINGS]
    if name in ("trading-check.service", *KEEPERS):
        expected = ["-/etc/trading/ops.env", *expected]  # what the deployment says; the operator's settings go before
    assert SERVICES[name].all("EnvironmentFile") == expected


# -- users and directories -------------------------------------------------------------------------------------------


def rows(path: str) -> list[list[str]]:
    lines = (SYSTEMD / path).read_text().splitlines()
    return [re.findall(r'"[^"]*"|\S+', line) for line in lines if line and not line.startswith("#")]


def test_the_users_may_use_redis_and_the_watcher_reads_the_journal() -> None:
    members = {(row[1], row[2]) for row in rows("sysusers.d/trading.conf") if row[0] == "m"}
    assert members == {("trading", "redis"), ("trading-ops", "redis"), ("trading-ops", "systemd-journal")}
    assert [row[1] for row in rows("sysusers.d/trading.conf") if row[0] == "u"] == ["trading", "trading-ops"]


def test_of_what_runs_as_the_engines_user_only_the_page_and_the_backup_read_the_journal() -> None:
    readers = [name for name, unit in SERVICES.items() if "systemd-journal" in unit.words("SupplementaryGroups")]
    assert sorted(readers) == ["trading-api.service", "trading-backup.service"]


def test_nothing_of_the_appliance_ever_ages_away() -> None:
    assert {(row[0], row[5]) for row in rows("tmpfiles.d/trading.conf")} == {("d", "-")}


def test_what_the_page_asks_for_is_seen_by_the_watcher_alone_and_lies_where_both_may_write() -> None:
    made = {row[1]: row[2:5] for row in rows("tmpfiles.d/trading.conf")}
    place = "/var/lib/trading-asked"
    assert made[place] == ["2770", "trading", "trading-ops"]
    assert own("path")["trading-asked.path"].all("DirectoryNotEmpty") == [place]
    writers = {name for name, unit in SERVICES.items() if place in unit.get("ReadWritePaths").removeprefix("-").split()}
    assert writers == {API, ASKED}
    assert all(f"OPS_ASKED_DIR={place}" in SERVICES[name].all("Environment") for name in writers)
    assert SERVICES[API].all("ReadWritePaths") == [f"-{place}"], "the API starts without it"


def test_what_a_path_unit_starts_is_a_service_of_the_same_name() -> None:
    paths = own("path")
    assert {name.removesuffix("path") + "service" for name in paths} == {RESTART, ASKED}
    assert not [name for name, unit in paths.items() if unit.all("Unit")]
    assert {unit.get("PartOf") for unit in paths.values()} == {"trading.target"}


def test_secrets_books_and_copies_are_closed_to_others() -> None:
    modes = {row[1]: (row[2], row[3]) for row in rows("tmpfiles.d/trading.conf")}
    assert modes["/etc/trading/credentials"] == ("0700", "root")
    assert modes["/var/lib/trading"] == modes["/var/backups/trading"] == ("0750", "trading")
    assert modes["/var/lib/trading-ops/stamps"] == ("2775", "trading-ops")


@pytest.mark.parametrize("name", SERVICES)
def test_a_state_directory_has_the_owner_and_mode_that_tmpfiles_gives_it(name: str) -> None:
    unit, made = SERVICES[name], {row[1]: row[2:4] for row in rows("tmpfiles.d/trading.conf")}
    for directory in unit.words("StateDirectory"):
        assert made[f"/var/lib/{directory}"] == [unit.get("StateDirectoryMode"), unit.get("User")]


def test_the_jobs_are_inside_the_slice_of_the_appliance_and_weigh_least() -> None:
    whole, jobs = SLICES["trading.slice"], SLICES["trading-jobs.slice"]
    assert int(jobs.get("CPUWeight")) < int(SERVICES[API].get("CPUWeight")) < int(SERVICES[ENGINE].get("CPUWeight"))
    assert int(jobs.get("MemoryMax").rstrip("%")) < int(whole.get("MemoryMax").rstrip("%"))
    assert all(unit.get("TasksMax") for unit in (whole, jobs))


def test_what_grows_is_killed_at_its_wall_and_nothing_is_slowed_or_swapped_before() -> None:
    assert SLICES["trading.slice"].get("MemorySwapMax") == "0"
    units = [*SLICES.values(), SERVICES[API], SERVICES[ENGINE]]
    assert all(unit.get("MemoryMax").endswith("%") for unit in units)
    assert [unit.name for unit in units if unit.words("MemoryHigh")] == []


def test_a_drop_in_is_read_under_the_name_of_its_unit() -> None:
    assert set(DROP_INS) == {"redis-server.service", "nginx.service", "certbot.service"}
    assert read(SYSTEMD / "nginx.service.d/trading.conf").name == "nginx.service"


def test_the_weekly_report_has_a_copy_made_before_it_and_that_is_over_before_the_next_one() -> None:
    weekly, backup = SERVICES["trading-weekly.service"], SERVICES["trading-backup.service"]
    assert weekly.words("Wants") == ["trading-backup.service", "certbot-trial.service"]
    assert set(weekly.words("Wants")) <= set(weekly.words("After"))
    assert not weekly.all("Requires")  # a backup that fails is told, not a reason for silence
    assert seconds(backup.get("TimeoutStartSec")) < 55 * MINUTE
