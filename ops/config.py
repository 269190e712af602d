"""The watcher's settings, frozen: OPS_… of the environment, and where the appliance and its API are.

The comment beside each field is its documentation. A key OPS_… that is not known here refuses: a misspelt threshold is
no threshold. Only `alert` goes on with the default instead and says so, since a failure has to be told all the same.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ops.errors import ConfigurationError
from ops.jobs import BY_THE_CLOCK

PREFIX = "OPS_"
UNITS = (
    "trading.target trading-engine.service trading-api.socket trading-api.service trading-check.timer "
    "trading-morning.timer trading-morning.service trading-evening.timer trading-evening.service "
    "trading-weekly.timer trading-weekly.service trading-monthly.timer trading-monthly.service "
    "trading-backup.timer trading-backup.service trading-archive.timer trading-archive.service "
    "trading-verify.timer trading-verify.service trading-drill.timer trading-drill.service "
    "trading-asked.path trading-asked.service "
    "redis-server.service nginx.service nftables.service ssh.service certbot.timer"
)


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Every field is the environment variable of the same name in upper case."""

    # the appliance, as its own settings say
    data_dir: str = "data"  # of the account
    api_port: int = 8000
    ledger_expected: bool = False  # true: an account without its ledger is a fault, not a beginning

    # the watcher's own
    ops_data_dir: str = "/var/lib/trading-ops"  # ops.sqlite3 and stamps/
    ops_asked_dir: str = ""  # where the page leaves what it asks for; empty: <OPS_DATA_DIR>/asked
    ops_apprise: str = "/etc/trading/apprise.yml"  # whom to tell; the credential apprise.yml goes before it

    # alerts: when they are told
    ops_alert_pause: int = 14_400  # seconds in which a unit that fails again for the same reason is not told again
    ops_alert_days: float = 3.0  # for so long an alert that could not be sent is tried again
    ops_alert_critical_looks: int = 1  # looks in a row that have to be CRITICAL or UNKNOWN before it is told
    ops_alert_warn_looks: int = 2  # the same for WARN
    ops_alert_calm_looks: int = 2  # looks in a row that have to be better before that is told
    ops_alert_flaps: int = 4  # more changes than that within OPS_ALERT_FLAP_MINUTES are flapping
    ops_alert_flap_minutes: float = 60.0
    ops_alert_calm_minutes: float = 30.0  # without a change it flaps no more
    ops_alert_reminders: str = "1 4 12 24"  # hours after which what is CRITICAL is told again; then daily; empty: never
    ops_alert_escalate_minutes: float = 15.0  # CRITICAL that nobody acknowledged also goes to `escalation`; 0: never
    ops_alert_quiet: str = ""  # 22:00-07:00, UTC: only what is critical is told then; empty: no quiet hours
    ops_alert_hourly: int = 12  # more messages than that within an hour are told in one, every ten minutes
    heartbeat_url: str = ""  # of an outside listener, told after each check that the watcher lives
    ops_heartbeat_url: str = ""  # goes before it

    # where `tradectl run` keeps watch, and what readers are told
    ops_watch_minutes: float = 5.0  # between two looks; what is published is believed for three times as long

    # what is looked at
    ops_jobs: str = " ".join(BY_THE_CLOCK)  # the jobs that a timer has to start here, separated by blanks
    ops_units: str = UNITS  # units that have to be well, separated by blanks
    ops_api_url: str = ""  # empty: http://127.0.0.1:API_PORT
    ops_api_seconds: float = 5.0  # the API has so long to answer
    ops_redis_url: str = "unix:///run/redis/redis-server.sock"  # empty: there is no Redis to look at
    ops_redis_user: str = "trading-ops"  # with the credential REDIS_OPS_PASSWORD; without one nobody signs in
    ops_tls_name: str = ""  # the host name whose certificate is served
    ops_tls_address: str = "127.0.0.1:443"
    ops_tls_authority: str = ""  # a PEM file of authorities that are trusted beside the system's; empty: none
    ops_tls_file: str = "/etc/trading/tls/fullchain.pem"
    ops_tls_verdict: str = "/var/lib/trading-tls/verdict.json"  # what the renewal's hook wrote

    # thresholds, as fractions unless it says otherwise
    ops_disk_warn: float = 0.15  # free space of a file system, below it
    ops_disk_critical: float = 0.05
    ops_inodes_warn: float = 0.10  # free inodes, below it
    ops_inodes_critical: float = 0.03
    ops_memory_warn: float = 0.10  # available memory, below it
    ops_memory_critical: float = 0.05
    ops_swap_warn: float = 0.50  # used swap, above it
    ops_swap_critical: float = 0.90
    ops_load_warn: float = 2.0  # load of five minutes for each core, above it
    ops_load_critical: float = 4.0
    ops_tls_warn: float = 0.25  # what is left of the certificate's lifetime, below it; it is renewed at a third
    ops_tls_critical: float = 0.1
    ops_backup_warn: float = 2.0  # hours since the newest backup, above it
    ops_backup_critical: float = 6.0
    ops_boot_grace: int = 900  # seconds after a start of the machine in which late jobs may catch up

    # reports
    ops_reports_kept: int = 100  # of each job, in <OPS_DATA_DIR>/reports
    ops_weekly_selftest: bool = True  # the weekly report tries every channel of alerts

    # safety copies
    ops_backup_dir: str = "/var/backups/trading"
    ops_backup_repository: str = ""  # any repository of restic, such as s3:…; empty: <OPS_BACKUP_DIR>/repository
    ops_backup_keep: str = "hourly=48 daily=14 weekly=8 monthly=12"  # so many of each stay, and the newest always
    ops_backup_machine: str = ""  # /: the machine's own files are backed up too; empty: the account and ops alone
    ops_backup_whole_hours: float = (
        24.0  # a long ledger is verified whole so often, between only what is new; 0: always
    )
    ops_redis_dump: str = ""  # the file that Redis saves to; empty: Redis is asked
    ops_archive_warn: float = 2.0  # minutes since what was traded was archived elsewhere, above it
    ops_archive_critical: float = 10.0
    ops_reserve_mb: int = 100  # MiB that a backup or a drill leaves free on its disk
    ops_tradectl: str = ""  # the program that verifies a ledger; empty: beside this Python
    ops_verify_seconds: float = 900.0  # it has so long for it

    # checks: what is expected, and further thresholds
    ops_ports: str = ""  # ports on which others may call, as 22/tcp 68/udp; a TCP port has to listen; empty: not asked
    ops_redis_expected: str = ""  # what CONFIG GET has to say, as maxmemory 67108864; save 900 1; empty: not asked
    ops_sysctl: str = "/etc/sysctl.d/60-trading.conf"  # what the kernel has to be set to
    ops_dns_names: str = ""  # names that have to be known to the name servers; empty: not asked
    ops_dns_seconds: float = 5.0  # they have so long for each
    ops_event_hours: float = 1.0  # for so long after it an event, such as a process killed for memory, is told
    ops_full_warn: float = 14.0  # days until a disk is full as it fills now, below it
    ops_full_critical: float = 2.0
    ops_pressure_warn: float = 0.10  # part of a minute in which something waited for memory, above it
    ops_pressure_critical: float = 0.40
    ops_pressure_full_warn: float = 0.05  # part of a minute in which nothing went on for want of memory, above it
    ops_pressure_full_critical: float = 0.20
    ops_pressure_io_warn: float = 0.40  # part of five minutes in which nothing went on for waiting on disks, above it
    ops_pressure_io_critical: float = 0.80
    ops_pressure_cpu_warn: float = 0.80  # part of five minutes in which something waited for a processor, above it
    ops_descriptors_warn: float = 0.70  # open files of what is allowed, above it
    ops_descriptors_critical: float = 0.90
    ops_clock_warn: float = 0.25  # seconds that the clock is off, above it
    ops_clock_critical: float = 1.0
    ops_timers_warn: float = 15.0  # minutes that a timer is behind its time, above it
    ops_timers_critical: float = 120.0
    ops_updates_warn: float = 36.0  # hours that security updates wait, or that nobody asked for any, above it
    ops_updates_critical: float = 168.0
    ops_redis_memory_warn: float = 0.80  # memory used of maxmemory, above it
    ops_redis_memory_critical: float = 0.95
    ops_redis_save_warn: float = 2.0  # hours since the last snapshot while there are changes, above it
    ops_redis_save_critical: float = 24.0
    ops_redis_latency_warn: float = 0.02  # seconds that a PING takes, the middle one of several, above it
    ops_redis_latency_critical: float = 0.2
    ops_redis_slow_warn: float = 10.0  # commands of the slow log within OPS_EVENT_HOURS, above it
    ops_redis_slow_critical: float = 100.0
    ops_loop_warn: float = 3.0  # seconds since the engine's loop moved, above it
    ops_loop_critical: float = 10.0
    ops_lag_warn: float = 0.25  # seconds from an event's arrival to its turn, above it
    ops_lag_critical: float = 2.0
    ops_credits_warn: float = 0.10  # what is left of a provider's credits, below it
    ops_credits_critical: float = 0.0
    ops_unknown_seconds: float = 120.0  # after that an order of which the broker said nothing is critical
    ops_daily_loss: Decimal = Decimal(50)  # lost since 00:00 UTC, in the account's money, above it; 0: not asked
    ops_daily_loss_share: Decimal = Decimal(5)  # the same in percent of what there was; 0: not asked
    ops_no_trade_hours: float = 4.0  # without a trade while a market is open, above it; 0: not asked
    ops_ledger_warn: float = 6.0  # hours since the ledger's chain was verified, above it
    ops_ledger_critical: float = 26.0
    ops_drill_warn: float = 8.0  # days since a copy was restored on trial, above it
    ops_drill_critical: float = 15.0

    # leaks
    ops_leak_warmup: float = 60.0  # minutes after the start of a process in which its growth does not count
    ops_leak_warn: float = 8760.0  # hours until what grows without end is at its limit, below it
    ops_leak_critical: float = 24.0
    ops_leak_limit_mb: float = 0.0  # MiB at which memory is at its limit; 0: what systemd and the machine say
    ops_leak_pace: float = 1.0  # so many times faster than usual leaks are looked for; for trials alone
    ops_leak_evidence: int = 20  # files of evidence that are kept; 0: none is written
    ops_leak_restart: str = ""  # trading-engine trading-api: restarted when their leak is critical; empty: none is
    ops_leak_restarts: int = 2  # at the most within a day; each process once, the engine only while no order is open
    ops_restart_dir: str = "/var/lib/trading-restart"  # root's record of them
    ops_growth_warn: float = 500.0  # MiB that the ledger grows a day, above it
    ops_growth_critical: float = 5000.0

    # set by systemd
    credentials_directory: str = ""
    runtime_directory: str = ""

    @property
    def data(self) -> Path:
        return Path(self.data_dir).expanduser()

    @property
    def redis_place(self) -> str:
        """Where Redis is, for people: without user, password and query, which may hold a secret."""
        parts = urlsplit(self.ops_redis_url)
        where = parts.netloc.rpartition("@")[2] if parts.scheme != "unix" else parts.path
        return f"{parts.scheme}://{where}"

    @property
    def home(self) -> Path:
        return Path(self.ops_data_dir).expanduser()

    @property
    def asked(self) -> Path:
        return Path(self.ops_asked_dir).expanduser() if self.ops_asked_dir else self.home / "asked"

    @property
    def backups(self) -> Path:
        return Path(self.ops_backup_dir).expanduser()

    @property
    def repository(self) -> str:
        """The repository of the backups, as restic is told of it; it may hold a secret."""
        return self.ops_backup_repository or str(self.backups.absolute() / "repository")

    @property
    def heartbeat(self) -> str:
        return self.ops_heartbeat_url or self.heartbeat_url

    @property
    def reminders(self) -> tuple[float, ...]:
        """Hours after which something critical is told again."""
        return tuple(sorted(float(hours) for hours in self.ops_alert_reminders.split()))

    @property
    def quiet(self) -> tuple[int, int] | None:
        """Return the quiet hours as minutes of the day, None if there are none."""
        if not self.ops_alert_quiet:
            return None
        begin, end = (text.split(":") for text in self.ops_alert_quiet.split("-"))
        return int(begin[0]) * 60 + int(begin[1]), int(end[0]) * 60 + int(end[1])

    @property
    def restartable(self) -> tuple[str, ...]:
        """Units that may be restarted because they leak."""
        return tuple(f"{name.removesuffix('.service')}.service" for name in self.ops_leak_restart.split())

    @property
    def api(self) -> str:
        return (self.ops_api_url or f"http://127.0.0.1:{self.api_port}").rstrip("/")

    @property
    def tradectl(self) -> str:
        return self.ops_tradectl or str(Path(sys.executable).with_name("tradectl"))

    @property
    def apprise(self) -> Path:
        """The file that says whom to tell; it need not be there."""
        credential = Path(self.credentials_directory) / "apprise.yml"
        return credential if self.credentials_directory and credential.exists() else Path(self.ops_apprise)

    def credential(self, name: str) -> str:
        """Return a secret that systemd handed over, nothing if there is none. It is read where it is used."""
        path = Path(self.credentials_directory) / name
        return path.read_text().strip() if self.credentials_directory and path.exists() else ""


Range = tuple[float, float]
SHARE: Range = (0, 1)
RATIO: Range = (0, 10_000)
SECONDS: Range = (0.1, 86_400)
RANGES: dict[str, Range] = {
    "api_port": (1, 65_535),
    # alerts
    "ops_alert_pause": (0, 86_400),
    "ops_alert_days": (0, 365),
    "ops_alert_critical_looks": (1, 100),
    "ops_alert_warn_looks": (1, 100),
    "ops_alert_calm_looks": (1, 100),
    "ops_alert_flaps": (2, 100),
    "ops_alert_flap_minutes": (1, 1440),
    "ops_alert_calm_minutes": (1, 1440),
    "ops_alert_escalate_minutes": (0, 1440),
    "ops_alert_hourly": (1, 1000),
    # the rest
    "ops_api_seconds": (0.1, 50),
    "ops_load_warn": RATIO,
    "ops_load_critical": RATIO,
    "ops_backup_warn": RATIO,
    "ops_backup_critical": RATIO,
    "ops_boot_grace": (0, 86_400),
    "ops_backup_whole_hours": (0, 8_760),
    "ops_reserve_mb": (0, 10_000_000),
    "ops_verify_seconds": SECONDS,
    "ops_watch_minutes": (0.05, 1440),
} | {
    f"ops_{what}_{level}": SHARE
    for what in (
        *("disk", "inodes", "memory", "swap", "tls", "pressure", "pressure_full", "pressure_io"),
        *("descriptors", "redis_memory", "credits"),
    )
    for level in ("warn", "critical")
}
RANGES |= {
    # checks: further thresholds
    f"ops_{what}_{level}": RATIO
    for what in (
        *("full", "clock", "timers", "updates", "redis_save", "redis_latency", "redis_slow"),
        *("loop", "lag", "ledger", "drill", "archive"),
    )
    for level in ("warn", "critical")
}
RANGES |= {
    "ops_pressure_cpu_warn": SHARE,
    "ops_dns_seconds": (0.1, 10),
    "ops_event_hours": (0, 720),
    "ops_unknown_seconds": (0, 86_400),
    "ops_daily_loss": (0, 1e12),
    "ops_daily_loss_share": (0, 100),
    "ops_no_trade_hours": (0, 8_760),
}
RANGES |= {
    # leaks
    "ops_leak_warmup": (0, 1440),
    "ops_leak_warn": (0, 87_600),
    "ops_leak_critical": (0, 87_600),
    "ops_leak_limit_mb": (0, 10_000_000),
    "ops_leak_pace": (1, 1000),
    "ops_leak_evidence": (0, 1000),
    "ops_leak_restarts": (1, 24),
    "ops_growth_warn": (0, 1_000_000),
    "ops_growth_critical": (0, 1_000_000),
}
RANGES |= {
    # reports
    "ops_reports_kept": (1, 10_000),
}
LESS_IS_WORSE = ("disk", "inodes", "memory", "tls", "full", "credits", "leak")
MORE_IS_WORSE = (
    *(
        "swap",
        "load",
        "backup",
        "pressure",
        "pressure_full",
        "pressure_io",
        "descriptors",
        "clock",
        "timers",
        "updates",
        "redis_memory",
    ),
    *("redis_save", "redis_latency", "redis_slow", "loop", "lag", "ledger", "drill", "archive", "growth"),
)
PORT = re.compile(r"\d{1,5}/(tcp|udp)")
ADDRESS = re.compile(r"(https?://\S+)?")
FORMS: dict[str, tuple[re.Pattern[str], str]] = {  # how a text has to read, and an example; the text itself is not told
    "ops_alert_reminders": (re.compile(r"([1-9]\d{0,3}( +|$))*"), "hours, as 1 4 12 24"),
    "ops_alert_quiet": (re.compile(r"(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?"), "22:00-07:00"),
    "ops_leak_restart": (
        re.compile(r"(trading-(engine|api)(\.service)?( +|$))*"),
        "trading-engine, trading-api, or both",
    ),
    "heartbeat_url": (ADDRESS, "an address that begins with http:// or https://"),
    "ops_heartbeat_url": (ADDRESS, "an address that begins with http:// or https://"),
}
FORMS["ops_backup_keep"] = (
    re.compile(r"(?=.*[1-9])((hourly|daily|weekly|monthly)=\d{1,4}( +|$))+"),
    "how many of each are kept, as hourly=48 daily=14 weekly=8 monthly=12, and one at least",
)
REDIS_URLS = ("redis://", "rediss://", "unix://")
FIELDS = {field.upper(): field for field in Settings.__struct_fields__}
WORDS = {int: "a whole number", float: "a number", Decimal: "a number", bool: "true or false", str: "a text"}
_TYPES = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raise ConfigurationError naming the key, its value and what it should be."""
    settings, faults = read(environment)
    if faults:
        raise ConfigurationError("; ".join(faults))
    return settings


def read(environment: Mapping[str, str] = os.environ) -> tuple[Settings, list[str]]:
    """Read what can be read; return with it what is wrong. A setting that is wrong has its default."""
    values: dict[str, Any] = {}
    faults = [_unknown(key) for key in environment if key.startswith(PREFIX) and key not in FIELDS]
    for key in FIELDS.keys() & environment.keys():
        try:
            values[FIELDS[key]] = _value(key, environment[key].strip())
        except ConfigurationError as fault:
            faults.append(str(fault))
    settings = Settings(**values)
    return settings, sorted(faults) + _senseless(settings)


def _unknown(key: str) -> str:
    close = get_close_matches(key, FIELDS, n=1)
    hint = f"did you mean {close[0]}?" if close else "ops/config.py lists those that exist"
    return f"there is no setting {key}; {hint}"


def _value(key: str, text: str) -> Any:
    """Convert a text to the type of its field. Raise ConfigurationError if it cannot be, or is out of range."""
    kind = _TYPES[FIELDS[key]]
    try:
        value = msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise ConfigurationError(f"{key}={text!r} cannot be used; write {WORDS[kind]}") from fault
    form = FORMS.get(FIELDS[key])
    if form and not form[0].fullmatch(text):
        raise ConfigurationError(f"{key} cannot be used; write {form[1]}")
    least, most = RANGES.get(FIELDS[key], (None, None))
    if least is not None and most is not None and not (isfinite(value) and least <= value <= most):
        raise ConfigurationError(f"{key}={text!r} is out of range; use {least:g} to {most:g}")
    return value


def _senseless(settings: Settings) -> list[str]:
    """Return what is well-formed but makes no sense together."""
    faults = []
    for what in LESS_IS_WORSE + MORE_IS_WORSE:
        warn, critical = getattr(settings, f"ops_{what}_warn"), getattr(settings, f"ops_{what}_critical")
        if (critical > warn) if what in LESS_IS_WORSE else (critical < warn):
            side = "below" if what in LESS_IS_WORSE else "above"
            name = f"OPS_{what.upper()}"
            faults.append(f"{name}_CRITICAL={critical:g} has to be {side} {name}_WARN={warn:g}, or equal to it")
    for field in ("data_dir", "ops_data_dir", "ops_backup_dir", "ops_units"):
        if not getattr(settings, field):
            faults.append(f"{field.upper()} is empty; name one, or remove the line for the usual one")
    faults += [
        f"OPS_JOBS names {name!r}; there are {', '.join(BY_THE_CLOCK)}"
        for name in settings.ops_jobs.split()
        if name not in BY_THE_CLOCK
    ]
    if settings.ops_redis_url and not settings.ops_redis_url.startswith(REDIS_URLS):
        faults.append(f"OPS_REDIS_URL does not begin with one of {', '.join(REDIS_URLS)}")
    faults += [
        f"OPS_PORTS names {name!r}; write a port as 443/tcp or 68/udp"
        for name in settings.ops_ports.split()
        if not PORT.fullmatch(name)
    ]
    host, _, port = settings.ops_tls_address.rpartition(":")
    if not host or not port.isdigit():
        faults.append(f"OPS_TLS_ADDRESS={settings.ops_tls_address!r} does not read as host:port, as 127.0.0.1:443")
    return faults
