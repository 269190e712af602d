"""`tradectl doctor settings`: what a start would use, or why it would not start; a secret is never shown."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest
from support.tradectl import Said, tradectl

from app.cli.doctor import refuse_unusable
from app.config import FIELDS, load
from app.errors import ConfigurationError

PLANTED = "do-not-show-me"
ENTRY = f"laptop:trade:{sha256(b'ta_one').hexdigest()}"
FILE = f"""# as the deployment writes it
TARGET_SYMBOLS="AAPL,BTC/USD"
STRATEGIES="sma_cross:fast=5:slow=9,momentum"
DATA_DIR="/var/lib/trading"
REDIS_URL="unix://trading@/run/redis/redis-server.sock"
HEARTBEAT_URL="https://ann:{PLANTED}@beat.example.com:8443/{PLANTED}?key={PLANTED}"
FINNHUB_API_KEY="{PLANTED}"
API_TOKENS="{ENTRY}"
OPS_DISK_WARN="80"
"""


def doctor(place: Path, text: str | None = None, *words: str, **settings: str) -> Said:
    if text is not None:
        (place / "trading.env").write_text(text)
    file = [] if text is None else ["trading.env"]
    return tradectl("doctor", "settings", *file, *words, cwd=place, **settings)


def test_a_file_is_read_as_a_start_would_and_everything_but_secrets_is_shown(tmp_path: Path) -> None:
    said = doctor(tmp_path, FILE, "--json")
    assert said.code == 0, said.err
    shown = said.json
    assert list(shown) == list(FIELDS)
    assert shown["STRATEGIES"] == "sma_cross:fast=5:slow=9,momentum"
    assert shown["DATA_DIR"] == "/var/lib/trading"
    assert shown["MARKET_DATA"] == "live"
    assert shown["REDIS_URL"] == "unix:///run/redis/redis-server.sock"
    assert shown["HEARTBEAT_URL"] == "https://beat.example.com:8443"
    assert (shown["FINNHUB_API_KEY"], shown["TWELVEDATA_API_KEY"]) == ("set", "not set")
    assert (shown["API_TOKENS"], shown["REDIS_PASSWORD"]) == ("laptop (read+trade)", "not set")
    assert PLANTED not in said.out + said.err
    assert not list(tmp_path.glob("data*"))


def test_a_person_gets_a_line_for_each_setting(tmp_path: Path) -> None:
    said = doctor(tmp_path, FILE)
    lines = [line.split() for line in said.out.splitlines()]
    assert ["TARGET_SYMBOLS", "AAPL,BTC/USD"] in lines
    assert ["FINNHUB_API_KEY", "set"] in lines
    assert PLANTED not in said.out


def test_beside_a_file_the_environment_does_not_count_but_credentials_do(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "REDIS_PASSWORD").write_text(PLANTED)
    (credentials / "TWELVEDATA_API_KEY").write_text("\n")
    given = {"CREDENTIALS_DIRECTORY": str(credentials), "API_PORT": "1234", "RISK_NONSENSE": "1"}
    (tmp_path / ".env").write_text("NONSENSE=1\n")
    said = doctor(tmp_path, FILE, "--json", **given)
    assert said.code == 0, said.err
    assert (said.json["API_PORT"], said.json["REDIS_PASSWORD"]) == ("8000", "set")
    assert said.json["TWELVEDATA_API_KEY"] == "not set"


def test_without_a_file_environment_and_env_file_count_as_usual(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ALLOCATION=0.2\n")
    said = doctor(tmp_path, None, "--json", API_PORT="1234")
    assert (said.json["API_PORT"], said.json["ALLOCATION"], said.json["MARKET_DATA"]) == ("1234", "0.2", "simulated")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ALLOCATON=1", "there is no setting ALLOCATON; did you mean ALLOCATION?"),
        ("ALLOCATION=7", "ALLOCATION=7 is out of range"),
        ("TRADING_MODE=live", "no venue for real money is part of this release"),
        ("STRATEGIES=sma_corss", "STRATEGIES: there is no strategy 'sma_corss' (did you mean 'sma_cross'?)"),
        ("STRATEGIES=sma_cross:fats=3", "STRATEGIES: sma_cross has no parameter 'fats'"),
        ("STRATEGIES=sma_cross:fast=9:slow=3", "STRATEGIES: "),
        ("FEED_ROUTES=BTC/USD=finhub", "FEED_ROUTES of BTC/USD: there is no provider 'finhub'"),
        ("FEED_ROUTES=MSFT=finnhub", "FEED_ROUTES: MSFT is not among TARGET_SYMBOLS"),
        ("FINNHUB_API_KEY=\nMARKET_DATA=live", "MARKET_DATA=live needs a provider's key"),
        ("FINNHUB_LIMITS=fast", "FINNHUB_LIMITS: "),
        (f"API_TOKENS=ann:root:{PLANTED}", "API_TOKENS, entry 1: does not read as name:scope+scope:hash"),
        (f"REDIS_PASSWORD={PLANTED}\nREDIS_URL=redis://a:{PLANTED}@h", "REDIS_URL has a password in it and REDIS_PASS"),
        ("just words", "does not read as KEY=value"),
    ],
)
def test_what_would_not_start_is_told(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "trading.env"
    file.write_text(FILE + line + "\n")
    with pytest.raises(ConfigurationError, match=re.escape(told)) as refused:
        refuse_unusable(load({}, file))
    assert "\n" not in str(refused.value)
    assert PLANTED not in str(refused.value)


def test_what_would_not_start_is_one_line_and_exit_code_4(tmp_path: Path) -> None:
    said = doctor(tmp_path, FILE + "STRATEGIES=sma_corss\n")
    assert (said.code, said.out) == (4, "")
    assert said.err.startswith("tradectl: STRATEGIES: there is no strategy 'sma_corss'")
    assert said.err.count("\n") == 1


def test_a_file_that_is_not_there_is_no_file_of_defaults(tmp_path: Path) -> None:
    said = tradectl("doctor", "settings", "nowhere.env", cwd=tmp_path)
    assert (said.code, said.err) == (4, "tradectl: nowhere.env does not exist; name a file of KEY=value lines\n")


def test_a_credential_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "API_TOKENS").mkdir()
    said = doctor(tmp_path, FILE, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert said.code == 4
    assert "API_TOKENS cannot be read: Is a directory; mend or remove it" in said.err
