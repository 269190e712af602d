from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import (
    FIELDS,
    RANGES,
    SECRETS,
    Settings,
    StrategyPlan,
    load,
    of_others,
    place_of,
    public_settings,
    secrets_of,
    strategy_plans,
)
from app.errors import ConfigurationError
from app.log import starred
from app.secret import Secret

PLANTED = "planted-secret-4711"
NUMBERS = sorted(RANGES)


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def loaded(environment: Mapping[str, str]) -> Settings:
    return load(environment, Path("no.env"))


def refusal(environment: Mapping[str, str], env_file: Path = Path("no.env")) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load(environment, env_file)
    return str(raised.value)


# -- faulty values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("API_PORT", "eighty", "write a whole number"),
        ("API_PORT", "8000.5", "write a whole number"),
        ("API_PORT", "", "write a whole number"),
        ("API_PORT", "0", "use 1 to 65535"),
        ("API_PORT", "65536", "use 1 to 65535"),
        ("API_WORKERS", "0", "use 1 to 64"),
        ("BAR_SECONDS", "-1", "use 0 to 86400"),
        ("INITIAL_CAPITAL", "1,000", "write a number"),
        ("INITIAL_CAPITAL", "nan", "write a number"),
        ("INITIAL_CAPITAL", "0", "use 0.01 to 1000000000000"),
        ("ALLOCATION", "10", "use 0.0001 to 1"),
        ("TRADING_MODE", "real", "write one of paper, live"),
        ("TRADING_MODE", "", "write one of paper, live"),
        ("MARKET_DATA", "yes", "write one of nothing, live, simulated"),
        ("LOG_LEVEL", "loud", "write one of debug, info, warning, error"),
        ("LEDGER_EXPECTED", "perhaps", "write true or false"),
        ("PAPER_FEE", "0.6", "use 0 to 0.5"),
        ("RISK_DAILY_LOSS", "5", "use 0 to 1, or leave it empty to turn it off"),
        ("RISK_DAILY_LOSS", "-0.1", "use 0 to 1, or leave it empty to turn it off"),
        ("RISK_DAILY_LOSS", "sNaN", "write a number, or leave it empty to turn it off"),
        ("RISK_MAX_POSITION", "30", "use 0 to 2, or leave it empty to turn it off"),
        ("RISK_MAX_QUOTE_AGE", "inf", "write a number, or leave it empty to turn it off"),
        ("RISK_MAX_QUOTE_AGE", "1e400", "write a number, or leave it empty to turn it off"),
        ("RISK_COOLDOWN_MINUTES", "", "write a whole number"),
        ("DATA_DIR", "", "name one, or remove the line"),
        ("API_HOST", " ", "name one, or remove the line"),
        ("TARGET_SYMBOLS", " , ", "name at least one, as AAPL or BTC/USD"),
        ("TARGET_SYMBOLS", "AAPL,B$D", "write a stock as AAPL, a pair as BTC/USD or EUR/USD"),
        ("TARGET_SYMBOLS", "AAPL,MSFT,aapl", "once is enough"),
        ("STRATEGIES", "sma_cross:fast", "name:key=value:key=value"),
        ("STRATEGIES", "momentum,momentum:window=3", "twice"),
    ],
)
def test_a_faulty_value_is_refused_with_its_key_and_what_to_write(key: str, value: str, remedy: str) -> None:
    said = refusal({key: value})
    assert said.startswith(key)
    assert remedy in said


@pytest.mark.parametrize("value", ["B$D", "70000", "-1", "1.5", "perhaps"])
def test_the_refusal_shows_the_value_that_was_given(value: str) -> None:
    key = "TARGET_SYMBOLS" if value == "B$D" else "API_PORT"
    assert value in refusal({key: value})


@given(field=st.sampled_from(NUMBERS), text=st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8))
def test_whatever_is_written_a_number_is_in_its_range_or_refused(field: str, text: str) -> None:
    least, most = RANGES[field]
    try:
        value = getattr(loaded({field.upper(): text}), field)
    except ConfigurationError as refused:
        assert str(refused).startswith(field.upper())
    else:
        assert value is None or least <= value <= most


def test_an_address_of_redis_that_no_client_understands_is_refused_without_showing_it() -> None:
    said = refusal({"REDIS_URL": f"foo://{PLANTED}"})
    assert "REDIS_URL" in said
    assert "unix://" in said
    assert PLANTED not in said


@pytest.mark.parametrize("key", ["FINNHUB_URL", "FINNHUB_WS_URL", "TWELVEDATA_URL", "TWELVEDATA_WS_URL"])
@pytest.mark.parametrize("rest", ["", "://", "://host:port", "://host:0", "://[::1", "://..com", "://host/#part"])
def test_an_address_of_a_provider_that_nobody_can_ask_is_refused_without_showing_it(key: str, rest: str) -> None:
    scheme = "wss" if "_WS_" in key else "https"
    said = refusal({key: f"{scheme}{rest}?{PLANTED}" if rest else f"other://{PLANTED}"})
    assert said.startswith(f"{key} does not read as {scheme}://host or {scheme[:-1]}://host:port")
    assert PLANTED not in said


def test_a_provider_may_be_a_stand_in_on_this_machine() -> None:
    assert loaded({"FINNHUB_URL": "http://127.0.0.1:8080/api", "FINNHUB_WS_URL": "ws://[::1]:8081"}).finnhub_ws_url


def test_every_number_has_a_range() -> None:
    settings = Settings()
    numbers = {name for name in FIELDS.values() if isinstance(getattr(settings, name), int | float | Decimal)}
    assert numbers - RANGES.keys() == {"ledger_expected", "simulation_seed"}


def test_the_defaults_are_within_their_ranges() -> None:
    assert loaded({}) == loaded({key: text for key, text in public_settings(Settings()).items() if text})


# -- where a value comes from -------------------------------------------------------------------------------------


def test_nothing_given_gives_the_defaults() -> None:
    settings = loaded({"PATH": "/bin", "HOME": "/"})
    assert (settings.trading_mode, settings.api_host, settings.api_port) == ("paper", "127.0.0.1", 8000)
    assert settings.initial_capital == 1000


def test_the_environment_wins_over_the_file_and_a_credential_over_both(tmp_path: Path, env_file: Path) -> None:
    env_file.write_text("FINNHUB_API_KEY=file\nTWELVEDATA_API_KEY=file\nAPI_PORT=1\nAPI_WORKERS=2\n")
    (tmp_path / "FINNHUB_API_KEY").write_text("credential\n")
    environment = {"FINNHUB_API_KEY": "environment", "API_PORT": "3", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    settings = load(environment, env_file)
    assert settings.finnhub_api_key.reveal() == "credential"
    assert settings.twelvedata_api_key.reveal() == "file"
    assert (settings.api_port, settings.api_workers) == (3, 2)


def test_only_secrets_are_read_from_the_credentials(tmp_path: Path) -> None:
    (tmp_path / "API_PORT").write_text("9")
    assert loaded({"CREDENTIALS_DIRECTORY": str(tmp_path)}).api_port == 8000


def test_an_empty_credential_says_nothing(tmp_path: Path) -> None:
    for name in SECRETS:
        (tmp_path / name).write_text("\n")
    settings = loaded({"CREDENTIALS_DIRECTORY": str(tmp_path), "REDIS_PASSWORD": PLANTED})
    assert [name for name in SECRETS if getattr(settings, FIELDS[name])] == ["REDIS_PASSWORD"]
    assert settings.simulated


def test_a_credential_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "API_TOKENS").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"credential .*API_TOKENS cannot be read: it is no text"):
        loaded({"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_every_secret_is_named_in_the_table_and_starred_out_in_the_log() -> None:
    assert {key for key, field in FIELDS.items() if isinstance(getattr(Settings(), field), Secret)} == set(SECRETS)
    hidden = secrets_of(loaded({"REDIS_PASSWORD": PLANTED, "API_TOKENS": "a:read:b"}))
    assert starred(f"{PLANTED} and a:read:b", [one.reveal() for one in hidden if one]) == "*** and ***"


def test_one_password_of_redis_is_enough() -> None:
    for url in (f"redis://a:{PLANTED}@h", f"unix://a@/s?password={PLANTED}"):
        assert loaded({"REDIS_URL": url}).redis_url == url
        with pytest.raises(ConfigurationError, match="REDIS_URL has a password in it") as refused:
            loaded({"REDIS_URL": url, "REDIS_PASSWORD": PLANTED})
        assert PLANTED not in str(refused.value)


def test_a_file_may_have_comments_quotes_blank_lines_exports_and_a_byte_order_mark(env_file: Path) -> None:
    env_file.write_text(
        "\ufeffDATA_DIR='my data' # where it is\n\n# a comment\nexport API_PORT=81\r\n  API_WORKERS = 3\n",
        encoding="utf-8",
    )
    settings = load({}, env_file)
    assert (settings.directory, settings.api_port, settings.api_workers) == (Path("my data"), 81, 3)


def test_a_value_in_the_file_is_taken_as_it_is_written(env_file: Path) -> None:
    env_file.write_text("RECORD=${HOME}/$USER\n")
    assert load({"HOME": "/home/anna"}, env_file).record == "${HOME}/$USER"


def test_an_unknown_key_in_the_file_is_refused_with_the_one_that_was_meant(env_file: Path) -> None:
    env_file.write_text("API_PORT=80\nRISK_MAX_POSITON=0.1\n")
    said = refusal({}, env_file)
    assert "line 2" in said
    assert "RISK_MAX_POSITON; did you mean RISK_MAX_POSITION?" in said


def test_an_unknown_key_that_is_like_none_points_to_the_list(env_file: Path) -> None:
    env_file.write_text("WHATEVER_ELSE_1234=1\n")
    assert "see .env.example" in refusal({}, env_file)


def test_a_misspelt_limit_in_the_environment_is_refused_as_well() -> None:
    assert "did you mean RISK_DAILY_LOSS?" in refusal({"RISK_DAYLY_LOSS": "0.02"})


def test_other_variables_of_the_environment_do_not_matter() -> None:
    assert loaded({"API_PROT": "1", "RISKY": "yes"}) == Settings()


def test_settings_of_the_operations_module_may_stand_in_the_same_file(env_file: Path) -> None:
    env_file.write_text("OPS_DISK_LIMIT=90\nAPI_PORT=80\n")
    assert load({}, env_file).api_port == 80


@pytest.mark.parametrize("line", ["RISK_DAILY_LOSS", "RISK_DAILY_LOSS 0.02", "RISK_DAILY_LOSS='0.02", "=0.02"])
def test_a_line_that_is_no_assignment_is_refused_by_its_number(env_file: Path, line: str) -> None:
    env_file.write_text(f"API_PORT=80\n{line}\n")
    assert "line 2: does not read as KEY=value" in refusal({}, env_file)


def test_a_file_that_is_no_text_is_refused(env_file: Path) -> None:
    env_file.write_bytes(b"API_PORT=\xff\xfe80\n")
    assert "make it a text file" in refusal({}, env_file)


def test_a_directory_in_place_of_the_file_is_refused(env_file: Path) -> None:
    env_file.mkdir()
    assert "cannot be read" in refusal({}, env_file)


def test_the_settings_of_this_process_are_the_default_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "API_PORT", "4711")
    (tmp_path / ".env").write_text("API_WORKERS=3")
    assert (load().api_port, load().api_workers) == (4711, 3)


# -- what the values mean -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", [name for name in NUMBERS if name.startswith("risk_") and name != "risk_cooldown_minutes"]
)
def test_an_empty_text_turns_a_limit_off(field: str) -> None:
    assert getattr(loaded({field.upper(): " "}), field) is None


def test_a_limit_reaches_the_rules_under_its_own_name() -> None:
    given = {
        "RISK_MAX_POSITION": "0.2",
        "RISK_MAX_QUOTE_AGE": "1.5",
        "RISK_COOLDOWN_MINUTES": "3",
        "RISK_STOP_LOSS": "",
    }
    limits = loaded(given).limits
    assert (limits.max_position, limits.stop_loss) == (Decimal("0.2"), None)
    assert (limits.max_quote_age, limits.cooldown) == (timedelta(seconds=1.5), timedelta(minutes=3))


def test_every_limit_can_be_set() -> None:
    settings = Settings()
    named = {name.removeprefix("risk_").removesuffix("_minutes") for name in NUMBERS if name.startswith("risk_")}
    assert named == set(settings.limits.__struct_fields__)


def test_symbols_are_a_list_of_any_kind_in_the_order_given() -> None:
    symbols = loaded({"TARGET_SYMBOLS": " spy, BTC/USD ,EUR/USD,"}).symbols
    assert [(symbol.name, symbol.kind) for symbol in symbols] == [
        ("SPY", "stock"),
        ("BTC/USD", "crypto"),
        ("EUR/USD", "forex"),
    ]


def test_strategies_are_a_list_with_parameters() -> None:
    assert strategy_plans("sma_cross:fast=5:slow=20, momentum,") == [
        StrategyPlan("sma_cross", {"fast": "5", "slow": "20"}),
        StrategyPlan("momentum", {}),
    ]


@pytest.mark.parametrize(
    ("environment", "simulated"),
    [
        ({}, True),
        ({"FINNHUB_API_KEY": "k"}, False),
        ({"TWELVEDATA_API_KEY": "k"}, False),
        ({"FINNHUB_API_KEY": "k", "MARKET_DATA": "simulated"}, True),
        ({"MARKET_DATA": "live"}, False),
        ({"FINNHUB_API_KEY": " "}, True),
    ],
)
def test_the_market_is_live_where_a_key_is_set_unless_told_otherwise(
    environment: dict[str, str], simulated: bool
) -> None:
    assert loaded(environment).simulated is simulated


def test_a_bar_is_shorter_on_the_simulated_market_unless_told_otherwise() -> None:
    assert loaded({}).bar_interval == timedelta(seconds=15)
    assert loaded({"MARKET_DATA": "live"}).bar_interval == timedelta(minutes=1)
    assert loaded({"BAR_SECONDS": "5"}).bar_interval == timedelta(seconds=5)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().api_port = 1  # type: ignore[misc]


# -- secrets ------------------------------------------------------------------------------------------------------


def test_a_secret_never_shows_in_any_form_of_text() -> None:
    secret = Secret(PLANTED)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        f"{secret!s}",
        repr([secret]),
        repr({secret: 1}),
    ]
    assert not [text for text in shown if PLANTED in text]
    assert secret.reveal() == PLANTED


def test_settings_with_a_secret_do_not_show_it() -> None:
    settings = loaded(dict.fromkeys(SECRETS, PLANTED))
    assert PLANTED not in f"{settings} {settings!r} {public_settings(settings)}"
    assert all(getattr(settings, FIELDS[key]).reveal() == PLANTED for key in SECRETS)


def test_a_secret_does_not_go_into_json() -> None:
    settings = loaded({"FINNHUB_API_KEY": PLANTED})
    with pytest.raises(TypeError):
        msgspec.json.encode(settings)
    with pytest.raises(TypeError):
        json.dumps({"key": settings.finnhub_api_key})


def test_an_address_with_a_password_in_it_is_not_public() -> None:
    settings = loaded({"REDIS_URL": f"redis://:{PLANTED}@127.0.0.1", "HEARTBEAT_URL": f"https://example.org/{PLANTED}"})
    assert PLANTED not in str(public_settings(settings))


def test_a_faulty_line_does_not_repeat_the_secret_in_it(env_file: Path) -> None:
    env_file.write_text(f"FINNHUB_API_KEY='{PLANTED}\n")
    assert PLANTED not in refusal({}, env_file)


def test_what_is_public_reads_back_to_the_same_settings() -> None:
    settings = loaded({"RISK_STOP_LOSS": "", "API_PORT": "81", "PAPER_FEE": "0.001", "LEDGER_EXPECTED": "true"})
    assert loaded(public_settings(settings)) == settings


def test_another_file_or_none_takes_the_place_of_the_one_in_this_directory(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("API_PORT=8123\nOPS_DISK_WARN=0.2\n")
    named = {"ENV_FILE": str(tmp_path / "other")}
    assert load(named).api_port == 8123
    assert of_others(named) == {"OPS_DISK_WARN": "0.2"}
    assert load({"ENV_FILE": "/dev/null"}).api_port == 8000


def test_an_address_is_shown_without_what_may_be_a_secret_in_it() -> None:
    assert place_of("redis://user:hush@10.0.0.1:6379/0?password=hush") == "redis://10.0.0.1:6379"
    assert place_of("unix://user:hush@/run/redis.sock?password=hush") == "unix:///run/redis.sock"
