"""The watcher's settings: a misspelt threshold is refused, and only an alert goes on without it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops import config
from ops.config import FIELDS, Settings, load, read
from ops.errors import ConfigurationError


def test_without_an_environment_everything_has_its_default() -> None:
    assert load({}) == Settings()


def test_settings_of_others_are_not_looked_at() -> None:
    assert load({"RISK_MAX_POSITION": "x", "FINNHUB_API_KEY": "y"}) == Settings()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("OPS_DISC_WARN", "0.1", "did you mean OPS_DISK_WARN"),
        ("OPS_ZZZZZZZZ", "1", "ops/config.py lists"),
        ("OPS_DISK_WARN", "many", "write a number"),
        ("OPS_DISK_WARN", "15", "out of range; use 0 to 1"),
        ("OPS_DISK_WARN", "nan", "out of range"),
        ("OPS_REPORTS_KEPT", "0", "use 1 to"),
        ("OPS_REPORTS_KEPT", "2.5", "write a whole number"),
        ("OPS_BACKUP_KEEP", "hourly=0 daily=0", "and one at least"),
        ("OPS_BACKUP_KEEP", "yearly=4", "as hourly=48 daily=14"),
        ("OPS_BACKUPS_KEPT", "48", "there is no setting OPS_BACKUPS_KEPT"),
        ("OPS_DISK_CRITICAL", "0.5", "has to be below OPS_DISK_WARN=0.15"),
        ("OPS_LOAD_CRITICAL", "1", "has to be above OPS_LOAD_WARN=2"),
        ("OPS_UNITS", "", "OPS_UNITS is empty"),
        ("OPS_REDIS_URL", "localhost", "does not begin with one of"),
        ("OPS_TLS_ADDRESS", "localhost", "does not read as host:port"),
        ("API_PORT", "0", "use 1 to 65535"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_write(key: str, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(key)) as refused:
        load({key: value})
    assert told in str(refused.value)
    assert refused.value.exit_code == 2


def test_an_alert_reads_the_rest_and_is_told_what_is_wrong() -> None:
    settings, faults = read({"OPS_DISC_WARN": "1", "OPS_DISK_WARN": "x", "OPS_ALERT_PAUSE": "5"})
    assert (settings.ops_disk_warn, settings.ops_alert_pause) == (Settings().ops_disk_warn, 5)
    assert len(faults) == 2


def test_the_credential_goes_before_the_file(tmp_path: Path) -> None:
    settings = load({"CREDENTIALS_DIRECTORY": str(tmp_path), "OPS_APPRISE": "/elsewhere"})
    assert settings.apprise == Path("/elsewhere")
    (tmp_path / "apprise.yml").write_text("urls: []")
    (tmp_path / "REDIS_OPS_PASSWORD").write_text("secret\n")
    assert settings.apprise == tmp_path / "apprise.yml"
    assert settings.credential("REDIS_OPS_PASSWORD") == "secret"
    assert settings.credential("NOTHING") == ""


@pytest.mark.parametrize("key", [key for key in FIELDS if key.startswith("OPS_")])
def test_every_setting_has_its_comment_or_stands_below_one(key: str) -> None:
    source = Path(config.__file__).read_text().splitlines()
    at = next(number for number, line in enumerate(source) if line.startswith(f"    {FIELDS[key]}:"))
    while "#" not in source[at]:
        at -= 1
        assert source[at].strip(), f"{key} has no comment"
