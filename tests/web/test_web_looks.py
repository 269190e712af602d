"""What holds trading back, how far each limit is used, who is fed how, and what strategies wait for."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace
from support.house import House, Puppet
from support.running import NOBODY, Appliance, appliance
from support.visitors import Visitor, add_people, opened, wait_for_words, words_on

from app import queries
from app.cache import Cache
from app.config import Settings
from app.desk import Gate
from app.feed import SymbolStatus
from app.history import Span
from app.ledger import OrderDenied
from app.limits import Limits
from app.model import ENTER, TradingState
from app.risk import headroom
from app.schemas import LimitAnswer, ProviderAnswer, RateLimit, StatusAnswer
from app.snapshot import LastQuote, Snapshot
from app.store import Store
from app.view import View
from app.web import halts, looks, rules, words

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
LIMITED = {  # orders are denied within a second
    "STRATEGIES": "sma_cross:fast=1:slow=2,momentum:period=2",
    "PAPER_FEE": "0",
    "RISK_LOSSES_IN_A_ROW": "",
    "RISK_DAILY_LOSS_AMOUNT": "5000",
    "RISK_MAX_ORDERS_PER_MINUTE": "2",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("looks"), **LIMITED) as one:
        add_people(one.directory)
        one.wait_for_entry("OrderDenied")
        yield one


@contextmanager
def written(directory: Path, house: House) -> Iterator[View]:
    """Keep what an engine wrote in a ledger, and read it."""
    with closing(Store.create(directory, house.account.account)) as store:
        store.take_over()
        store.append(house.entries)
    with closing(View(directory, Cache(NOBODY))) as view:
        view.look()
        assert view.fault is None
        yield view


def viewed(directory: Path, house: House) -> View:
    view = View(directory, Cache(NOBODY))
    view.book = house.account
    return view


def moving(view: View) -> StatusAnswer:
    """Return the status of an account whose engine's loop moves."""
    return replace(queries.status(view, Settings()), engine_running=True, state=view.book.state)


# -- what holds trading back --------------------------------------------------------------------------------------


def test_each_state_of_trading_says_what_it_means_and_positions_can_be_closed_in_all_that_act() -> None:
    assert set(looks.STANDS) == set(get_args(TradingState)) == set(words.WORKS)
    closing_all = {state for state, stand in looks.STANDS.items() if "flatten" in stand.acts}
    assert closing_all == set(looks.STANDS) - {"reconciling"}
    assert all(stand.means for stand in looks.STANDS.values())


@pytest.mark.parametrize(
    ("command", "state", "acts"),
    [("halt", "halted", ["release", "flatten"]), ("stop", "stopped", ["start", "flatten"])],
)
def test_what_holds_trading_back_is_told_with_since_when_and_why(
    tmp_path: Path, command: str, state: str, acts: list[str]
) -> None:
    house = House(Puppet())
    house.ask(command, "it looked odd")
    view = viewed(tmp_path, house)
    found = looks.held(view, moving(view))
    assert (found.state, found.reason, found.latched) == (state, "it looked odd", "")
    assert found.since == view.book.why.since if view.book.why else None
    assert [act.name for act in found.acts] == acts


def test_of_a_dead_engine_both_are_told_that_it_is_dead_and_what_holds_afterwards(tmp_path: Path) -> None:
    house = House(Puppet())
    house.ask("halt", "it looked odd")
    view = viewed(tmp_path, house)
    found = looks.held(view, queries.status(view, Settings()))
    assert (found.state, found.level, found.acts) == ("down", "critical", [])
    assert found.reason == "the engine is not running"
    assert found.latched == "halted: it looked odd"


def test_trading_that_is_active_is_held_back_by_nothing(tmp_path: Path) -> None:
    view = viewed(tmp_path, House(Puppet()))
    found = looks.held(view, moving(view))
    assert (found.level, found.reason, found.latched) == ("ok", "", "")


def test_a_halt_is_on_the_page_with_its_release_and_positions_can_still_be_closed(
    running: Appliance, tina: Visitor
) -> None:
    running.post("/api/v1/trading/halt", {"reason": "<i>looked odd</i>", "who": "test"})
    running.wait_for_state("halted")
    page = tina.get("/risk")
    assert page.text.count("&lt;i&gt;looked odd&lt;/i&gt;") >= 2, "at the top, and in the history"
    assert set(re.findall(r'class="button" href="/act/(\w+)"', page.text)) == {"release", "flatten"}
    told = words_on(page.text)
    assert "No new positions until it is released" in told
    assert "halted test kill switch" in told
    running.post("/api/v1/trading/release", {"reason": "it was a test", "who": "test"})
    running.wait_for_state("active")


# -- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "used", "most", "left"),
    [
        (LimitAnswer("daily_loss", 0.0024, 0.05, 0.0476), "0.24 %", "5.00 %", "4.76 %"),
        (LimitAnswer("daily_loss_amount", 46.2, 1250.0, 1203.8), "46.20", "1,250.00", "1,203.80"),
        (LimitAnswer("max_orders_per_minute", 46.0, 60.0, 14.0), "46", "60", "14"),
        (LimitAnswer("max_position", 0.31, 0.3, -0.01), "31.00 %", "30.00 %", "\N{MINUS SIGN}1.00 %"),
        (LimitAnswer("max_drawdown", None, 0.2, None), words.UNKNOWN, "20.00 %", words.UNKNOWN),
    ],
)
def test_a_limit_is_written_in_its_own_unit(limit: LimitAnswer, used: str, most: str, left: str) -> None:
    found = rules.use(limit)
    assert (found.used, found.limit, found.left) == (used, most, left)


@pytest.mark.parametrize(
    ("rule", "share", "word"),
    [
        ("daily_loss", 0.5, "within"),
        ("daily_loss", 0.85, "close"),
        ("daily_loss", 1.02, "reached"),
        ("max_position", 0.85, "nearly full"),
        ("max_position", 1.02, "full"),
    ],
)
def test_a_limit_has_a_word_for_how_it_is(rule: str, share: float, word: str) -> None:
    assert rules.use(LimitAnswer(rule, share * 0.2, 0.2, (1 - share) * 0.2)).word == word


def test_a_limit_of_nothing_is_reached() -> None:
    assert rules.use(LimitAnswer("max_orders_per_minute", 0.0, 0.0, 0.0)).word == "reached"


def test_every_limit_that_an_account_can_have_is_known_in_words() -> None:
    every = Limits(
        max_position=Decimal(1), max_gross_exposure=Decimal(1), max_orders_per_minute=9, daily_loss=Decimal(1),
        daily_loss_amount=Decimal(9), max_drawdown=Decimal(1),
    )  # fmt: skip
    shown = headroom(House(Puppet(), limits=every).account, every, {}, NOW)
    assert {one.rule for one in shown} == set(rules.RULES)


def test_a_page_has_of_each_limit_what_the_api_has_and_a_way_to_its_history(running: Appliance, tina: Visitor) -> None:
    told = {one["rule"]: one for one in running.get("/api/v1/trading/limits")}
    page = tina.get("/risk").text
    rows = dict(re.findall(r'<tr id="limit-(\w+)">(.*?)</tr>', page, re.DOTALL))
    assert set(rows) == set(told) == set(rules.RULES)
    for rule, row in rows.items():
        most = rules.written(told[rule]["limit"], rules.RULES[rule])
        assert f"of {most}" in words_on(row)
        history = re.findall(r'href="(/trading[^"]+)"', row)
        assert len(history) == 1
        assert tina.get(history[0].replace("&amp;", "&")).status_code == 200


# -- history ------------------------------------------------------------------------------------------------------


def test_what_was_halted_and_what_was_denied_are_told_apart_with_whose_it_was_and_why(tmp_path: Path) -> None:
    house = House(trend := Puppet(), limits=Limits(max_orders_per_minute=0))
    house.ask("halt", "it looked odd")
    house.ask("release", "it was nothing")
    house.ask("flatten", "the week is over")
    house.ask("start")
    trend.wish = ENTER
    house.bars(100, 101)
    trend.fault = ValueError("odd")
    house.bars(102)
    with written(tmp_path, house) as view:
        rows = halts.halts(view, Span(newest=True)).items
        denied = halts.denials(view, Span(newest=True)).items
    assert [(one.what, one.rule, one.who, one.reason) for one in reversed(rows)][:4] == [
        ("halted", "kill_switch", "ann", "it looked odd"),
        ("released", None, "ann", "it was nothing"),
        ("stopped and closed all", None, "ann", "the week is over"),
        ("started", None, "ann", ""),
    ]
    assert (rows[0].what, rows[0].strategy) == ("quarantined", "trend")
    assert "odd" in rows[0].reason
    said = house.bodies(OrderDenied)[-1]
    assert (denied[0].rule, denied[0].strategy, denied[0].symbol) == ("order_rate", "trend", "ACME")
    assert denied[0].reason == f"{said.value} (limit {said.limit})"


def test_books_that_differ_say_in_what() -> None:
    differs = {
        "differences": [{"subject": "cash", "ours": "10", "theirs": "9"}, {"subject": "x", "ours": "", "theirs": ""}]
    }
    assert halts.why(differs) == "cash: here 10, there 9; x: here , there "


def test_decisions_are_chosen_by_verdict_and_rule(tina: Visitor) -> None:
    rows = list(csv.DictReader(StringIO(tina.get("/files/decisions.csv", {"rule": "order_rate"}).text)))
    assert rows
    assert {(row["verdict"], row["rule"]) for row in rows} == {("denied", "order_rate")}
    said = words_on(tina.get("/trading", {"book": "decisions", "verdict": "denied"}).text)
    assert "order rate" in said


def test_halts_are_a_book_that_is_chosen_by_rule_and_taken_along(running: Appliance, tina: Visitor) -> None:
    running.post("/api/v1/trading/halt", {"reason": "for the book", "who": "test"})
    running.post("/api/v1/trading/release", {"reason": "was for the book", "who": "test"})
    rows = list(csv.DictReader(StringIO(tina.get("/files/halts.csv").text)))
    assert [(row["what"], row["who"], row["reason"]) for row in rows][-2:] == [
        ("halted", "test", "for the book"),
        ("released", "test", "was for the book"),
    ]
    assert "for the book" in tina.get("/trading", {"book": "halts", "rule": "kill_switch"}).text
    assert "for the book" not in tina.get("/trading", {"book": "halts", "rule": "max_drawdown"}).text


def test_what_another_book_was_chosen_by_does_not_count_for_this_one(tina: Visitor) -> None:
    assert tina.get("/trading", {"book": "halts", "symbol": "BTC/USD"}).status_code == 200
    assert tina.get("/trading", {"book": "fills", "rule": "order_rate"}).status_code == 200


# -- prices -------------------------------------------------------------------------------------------------------


def test_a_symbol_without_a_price_is_shown_with_why_and_first(tmp_path: Path) -> None:
    house = House(trend := Puppet(ENTER))
    house.bars(100, 101)
    trend.wish = None
    view = viewed(tmp_path, house)
    assert list(view.book.holdings()) == ["ACME"]
    view.snapshot = Snapshot(
        published_at=NOW, now=NOW, started_at=NOW, seq=0, events=0, lag_ms=0.0, marks={}, headroom=[], providers=[],
        metrics="", quotes=[LastQuote("IBM", 99.0, 98.0, 99.5, NOW, NOW, "b")],
        gates=[Gate("trend", "NEW", "stale", "no price")],
        symbols=[
            SymbolStatus("IBM", "live", "b", "a", 1.0),
            SymbolStatus("GONE", "stale", "a", "a", None, refused="not in the plan"),
            SymbolStatus("ODD", "live", "a", "a", 1.0, doubt="a spike", hole="2 bars"),
            SymbolStatus("WELL", "live", "a", "a", 1.0),
        ],
    )  # fmt: skip
    found = {one.symbol: one for one in looks.all_fed(view)}
    assert list(found) == ["GONE", "ACME", "NEW", "IBM", "ODD", "WELL"]
    assert (found["GONE"].level, found["GONE"].state, found["GONE"].wrong) == ("critical", "refused", "not in the plan")
    assert (found["NEW"].level, found["NEW"].state, found["NEW"].quote) == ("unknown", "no price", None)
    assert (found["ODD"].state, found["ODD"].wrong) == ("in doubt", "a spike; 2 bars")
    assert (found["IBM"].level, found["IBM"].state, found["IBM"].wrong) == ("warn", "live", "from b, not a")
    assert (found["WELL"].level, found["WELL"].wrong) == ("ok", "")
    assert found["IBM"].quote is not None


@pytest.mark.parametrize(("connected", "level"), [((True, False), "warn"), ((False, False), "critical")])
def test_a_provider_that_is_away_is_as_bad_as_it_is_alone(connected: tuple[bool, ...], level: str) -> None:
    assert looks.lost([provider(one) for one in connected]) == level


def provider(connected: bool) -> ProviderAnswer:
    return ProviderAnswer(
        name="a", connected=connected, role="primary", symbols=[], last_message_age_seconds=None, latency_ms=None,
        messages=0, rate_limit=RateLimit(), entitlements={}, failovers=0, errors=0, detail="", clock_offset_ms=None,
    )  # fmt: skip


def test_the_page_shows_every_symbol_that_is_traded(running: Appliance, tina: Visitor) -> None:
    page = tina.get("/feed").text
    assert set(re.findall(r'<tr id="quote-([^"]+)">', page)) == set(running.settings_given["TARGET_SYMBOLS"].split(","))


# -- strategies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "state", "level", "word"),
    [
        (True, "active", "ok", "runs"),
        (True, "halted", "warn", "exits only"),
        (True, "stopped", "warn", "waits"),
        (True, "down", "unknown", "waits"),
        (False, "active", "warn", "off"),
        (False, "down", "warn", "off"),
    ],
)
def test_a_strategy_does_no_more_than_trading_allows(on: bool, state: str, level: str, word: str) -> None:
    assert words.standing(on, state) == words.Standing(level, word)  # type: ignore[arg-type]


def test_each_strategy_has_its_signals_and_leads_to_why_it_trades_or_not(running: Appliance, tina: Visitor) -> None:
    gates = running.get("/api/v1/trading/explain")
    page, why = tina.get("/strategies").text, tina.get("/explain").text
    for name in {gate["strategy"] for gate in gates}:
        card = re.findall(rf'id="card-{name}".*?</section>', page, re.DOTALL)[0]
        assert {gate["symbol"] for gate in gates if gate["strategy"] == name} <= set(
            re.findall(r">([A-Z/]+)</a>", card)
        )
        assert f'href="/explain#gates-{name}"' in card
        assert f'id="gates-{name}"' in why


def test_no_strategy_runs_while_no_engine_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    with appliance(tmp_path_factory.mktemp("dead"), **LIMITED) as dying:
        add_people(dying.directory)
        with opened(dying, "tina") as one:
            assert "runs" in words_on(one.get("/strategies").text)
            dying.engine.kill()
            wait_for_words(one, "/strategies", "waits")
            for path in ("/strategies", "/"):
                assert '<span class="dot" aria-hidden="true"></span>runs' not in one.get(path).text
                assert not re.search(r"<td>runs\b", one.get(path).text)
            assert "No orders at all, not even protective ones" in words_on(one.get("/risk").text)
