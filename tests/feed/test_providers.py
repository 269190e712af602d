"""How settings become a feed of providers; what cannot be is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import log
from app.clock import LiveClock
from app.config import Settings, load
from app.errors import ConfigurationError
from app.feed.providers import PROVIDERS, live_feed, setup_of
from app.feed.setup import Setup
from app.model import parse_symbol

KEYS = {"FINNHUB_API_KEY": "first-key", "TWELVEDATA_API_KEY": "second-key"}


def settings(**given: str) -> Settings:
    return load(given, Path("/no/env"))


def setup(**given: str) -> Setup:
    chosen = settings(**given)
    return setup_of(chosen, chosen.symbols, LiveClock())


def feed(tmp_path: Path, **given: str) -> object:
    chosen = settings(DATA_DIR=str(tmp_path), **given)
    return live_feed(chosen, chosen.symbols, LiveClock(), tmp_path)


def test_with_both_keys_finnhub_is_first_and_twelve_data_its_backup() -> None:
    made = setup(**KEYS, TARGET_SYMBOLS="AAPL,BTC/USD")
    assert made.order == {"AAPL": ("finnhub", "twelvedata"), "BTC/USD": ("finnhub", "twelvedata")}
    assert [plan.provider for plan in made.plans] == ["finnhub", "twelvedata"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_one_key_is_enough(name: str, tmp_path: Path) -> None:
    key = {f"{name.upper()}_API_KEY": "a-key"}
    assert setup(**key, TARGET_SYMBOLS="AAPL").order == {"AAPL": (name,)}
    assert feed(tmp_path, **key, TARGET_SYMBOLS="AAPL,BTC/USD")


def test_single_symbols_may_have_an_order_of_their_own() -> None:
    made = setup(**KEYS, TARGET_SYMBOLS="AAPL,EUR/USD", FEED_ROUTES=" eur/usd = twelvedata : finnhub ")
    assert made.order == {"AAPL": ("finnhub", "twelvedata"), "EUR/USD": ("twelvedata", "finnhub")}
    assert [one.name for one in made.led_by("twelvedata")] == ["EUR/USD"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"MARKET_DATA": "live"},
            r"MARKET_DATA=live needs a provider's key: set FINNHUB_API_KEY or TWELVEDATA_API_KEY",
        ),
        ({**KEYS, "FEED_PROVIDERS": "finhub"}, r"FEED_PROVIDERS: there is no provider 'finhub'; there are finnhub, tw"),
        ({**KEYS, "FEED_PROVIDERS": "finnhub,finnhub"}, r"names a provider twice"),
        ({**KEYS, "FEED_PROVIDERS": ""}, r"no provider with a key feeds AAPL"),
        ({**KEYS, "FEED_ROUTES": "AAPL"}, r"FEED_ROUTES: 'AAPL' does not read as SYMBOL=provider:provider"),
        ({**KEYS, "FEED_ROUTES": "MSFT=finnhub"}, r"FEED_ROUTES: MSFT is not among TARGET_SYMBOLS"),
        ({**KEYS, "FEED_ROUTES": "AAPL=any"}, r"FEED_ROUTES of AAPL: there is no provider 'any'"),
        ({**KEYS, "FINNHUB_LIMITS": "many"}, r"FINNHUB_LIMITS: .*write limits as"),
        ({"FINNHUB_API_KEY": "k", "FEED_PROVIDERS": "twelvedata"}, r"name none that has one"),
    ],
)
def test_what_cannot_be_fed_is_refused_with_what_to_write(given: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        feed(tmp_path, **{"TARGET_SYMBOLS": "AAPL", **given})


def test_more_than_a_plan_can_give_is_refused_with_the_sum(tmp_path: Path) -> None:
    many = ",".join(f"C{number}/USD" for number in range(10))
    with pytest.raises(
        ConfigurationError, match=r"2 symbols beyond the 8 that its socket carries \(C8/USD, C9/USD\).*d"
    ):
        feed(tmp_path, TWELVEDATA_API_KEY="a-key", TARGET_SYMBOLS=many)


def test_the_keys_are_in_no_text_of_the_feed(tmp_path: Path) -> None:
    made = feed(tmp_path, **KEYS, TARGET_SYMBOLS="AAPL", FEED_TAPE=str(tmp_path / "tape"))
    shown = repr(vars(made)) + repr([vars(one.provider) for one in made._join.sources.values()])  # type: ignore[attr-defined]
    assert made
    assert "Secret('***')" in shown
    named = "".join(path.name for path in tmp_path.rglob("*"))
    assert "first-key" not in named


def test_a_misspelt_feed_setting_of_the_environment_is_noticed() -> None:
    with pytest.raises(ConfigurationError, match=r"FEED_SPYKE.*did you mean FEED_SPIKE"):
        settings(FEED_SPYKE="0.1")


def test_the_setup_says_all_that_a_tape_needs() -> None:
    made = setup(**KEYS, TARGET_SYMBOLS="AAPL", FEED_SPIKE="", FEED_SILENCE="7", BAR_SECONDS="300", WARMUP_BARS="9")
    assert made.symbols == (parse_symbol("AAPL"),)
    assert made.tolerance.spike is None
    assert made.tolerance.silence.total_seconds() == 7
    assert (made.interval.total_seconds(), made.warmup_bars) == (300, 9)


def test_a_key_that_would_leave_this_machine_unencrypted_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("engine")
    feed(
        tmp_path,
        FINNHUB_API_KEY="k",
        TARGET_SYMBOLS="AAPL",
        FINNHUB_URL="http://127.0.0.1:1",
        FINNHUB_WS_URL="ws://[::1]:1",
    )
    assert not capsys.readouterr().err
    feed(tmp_path, FINNHUB_API_KEY="k", TARGET_SYMBOLS="AAPL", FINNHUB_WS_URL="ws://prices.example")
    said = capsys.readouterr().err
    assert "WARNING the key goes unencrypted  setting=FINNHUB_WS_URL" in said
