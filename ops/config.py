"""The watcher's settings, frozen: OPS_… of the environment, and where the appliance and its API are.

The comment beside each field is its documentation. A key OPS_… that is not known here refuses: a misspelt threshold is
no threshold. Only `alert` goes on with the default instead and says so, since a failure has to be told all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ops.errors import ConfigurationError

PREFIX = "OPS_"
UNITS = (
    "trading.target trading-engine.service trading-api.socket trading-api.service trading-check.timer "
    "trading-morning.timer trading-morning.service trading-evening.timer trading-evening.service "
    "trading-weekly.timer trading-weekly.service trading-monthly.timer trading-monthly.service "
    "trading-backup.timer trading-backup.service trading-drill.timer trading-drill.service "
    "redis-server.service nginx.service"
)


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Every field is the environment variable of the same name in upper case."""

    # the appliance, as its own settings say
    data_dir: str = "data"  # of the account
    api_port: int = 8000
    ledger_expected: bool = False  # true: an account without its ledger is a fault, not a beginning

    # the watcher's own
    ops_data_dir: str = "/var/lib/trading-ops"  # ops.sqlite3 and stamps/
    ops_apprise: str = "/etc/trading/apprise.yml"  # whom to tell; the credential apprise.yml goes before it
    ops_alert_pause: int = 600  # seconds in which a unit that fails again for the same reason is not told again
    ops_alert_days: float = 3.0  # for so long an alert that could not be sent is tried again

    # what is looked at
    ops_units: str = UNITS  # units that have to be well, separated by blanks
    ops_api_url: str = ""  # empty: http://127.0.0.1:API_PORT
    ops_api_seconds: float = 5.0  # the API has so long to answer
    ops_redis_url: str = "unix:///run/redis/redis-server.sock"
    ops_redis_user: str = "trading-ops"  # with the credential REDIS_OPS_PASSWORD; without one nobody signs in
    ops_tls_name: str = ""  # the host name whose certificate is served
    ops_tls_address: str = "127.0.0.1:443"
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
    ops_tls_warn: float = 1 / 3  # what is left of the certificate's lifetime, below it
    ops_tls_critical: float = 0.1
    ops_backup_warn: float = 2.0  # hours since the newest backup, above it
    ops_backup_critical: float = 6.0
    ops_boot_grace: int = 900  # seconds after a start of the machine in which late jobs may catch up

    # safety copies
    ops_backup_dir: str = "/var/backups/trading"
    ops_backups_kept: int = 48
    ops_reserve_mb: int = 100  # MiB that a backup or a drill leaves free on its disk
    ops_tradectl: str = ""  # the program that verifies a ledger; empty: beside this Python
    ops_verify_seconds: float = 900.0  # it has so long for it

    # set by systemd
    credentials_directory: str = ""
    runtime_directory: str = ""

    @property
    def data(self) -> Path:
        return Path(self.data_dir).expanduser()

    @property
    def home(self) -> Path:
        return Path(self.ops_data_dir).expanduser()

    @property
    def backups(self) -> Path:
        return Path(self.ops_backup_dir).expanduser()

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


SHARE, RATIO, SECONDS = (0, 1), (0, 10_000), (0.1, 86_400)
RANGES: Mapping[str, tuple[float, float]] = {
    "api_port": (1, 65_535),
    "ops_alert_pause": (0, 86_400),
    "ops_alert_days": (0, 365),
    "ops_api_seconds": (0.1, 50),
    "ops_load_warn": RATIO,
    "ops_load_critical": RATIO,
    "ops_backup_warn": RATIO,
    "ops_backup_critical": RATIO,
    "ops_boot_grace": (0, 86_400),
    "ops_backups_kept": (1, 100_000),
    "ops_reserve_mb": (0, 10_000_000),
    "ops_verify_seconds": SECONDS,
} | {
    f"ops_{what}_{level}": SHARE
    for what in ("disk", "inodes", "memory", "swap", "tls")
    for level in ("warn", "critical")
}
LESS_IS_WORSE = ("disk", "inodes", "memory", "tls")
MORE_IS_WORSE = ("swap", "load", "backup")
REDIS_URLS = ("redis://", "rediss://", "unix://")
FIELDS = {field.upper(): field for field in Settings.__struct_fields__}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
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
    if not settings.ops_redis_url.startswith(REDIS_URLS):
        faults.append(f"OPS_REDIS_URL does not begin with one of {', '.join(REDIS_URLS)}")
    host, _, port = settings.ops_tls_address.rpartition(":")
    if not host or not port.isdigit():
        faults.append(f"OPS_TLS_ADDRESS={settings.ops_tls_address!r} does not read as host:port, as 127.0.0.1:443")
    return faults
