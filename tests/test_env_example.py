"""`.env.example` is the documentation of the settings; here it is held against the settings themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.config import FIELDS, Settings, load, public_settings

EXAMPLE = Path(__file__).resolve().parents[1] / ".env.example"
LINES = EXAMPLE.read_text().splitlines()
ASSIGNMENTS = dict(line.split("=", 1) for line in LINES if line and not line.startswith("#"))


def comment_above(key: str) -> str:
    """Return the comment of the block that a setting stands in."""
    at = next(number for number, line in enumerate(LINES) if line.startswith(f"{key}="))
    while LINES[at] and not LINES[at].startswith("#"):
        at -= 1
    return LINES[at] or LINES[at - 1]


def test_every_setting_is_listed_and_nothing_else() -> None:
    assert sorted(ASSIGNMENTS) == sorted(FIELDS)


def test_no_setting_is_listed_twice() -> None:
    assert len(ASSIGNMENTS) == sum("=" in line for line in LINES if line and not line.startswith("#"))


@pytest.mark.parametrize("key", FIELDS)
def test_every_setting_has_a_comment_above_it(key: str) -> None:
    assert comment_above(key).startswith("# ")


@pytest.mark.parametrize("key", FIELDS)
def test_the_value_beside_a_setting_is_its_default(key: str) -> None:
    default, listed = Settings(), load(ASSIGNMENTS, Path("no.env"))
    assert str(getattr(listed, FIELDS[key])) == str(getattr(default, FIELDS[key])) or getattr(
        listed, FIELDS[key]
    ) == getattr(default, FIELDS[key])


def test_a_copy_of_it_as_the_env_file_gives_the_defaults(tmp_path: Path) -> None:
    copy = shutil.copy(EXAMPLE, tmp_path / ".env")
    assert public_settings(load({}, Path(copy))) == public_settings(Settings()) | {"RISK_MAX_QUOTE_AGE": "60.0"}


def test_it_holds_for_systemd_too_which_knows_no_comment_after_a_value() -> None:
    assert not [key for key, value in ASSIGNMENTS.items() if "#" in value or value != value.strip()]
