"""Six answers at a glance: unknown is never well, and the worst of them is the headline."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.house import House, Puppet
from support.running import NOBODY

from app import queries, watcher
from app.cache import Cache
from app.config import Settings
from app.feed import SymbolStatus
from app.holdings import OpenOrder
from app.model import Order
from app.portfolio import Portfolio
from app.risk import Headroom
from app.schemas import StatusAnswer
from app.snapshot import LastQuote, Snapshot
from app.view import View
from app.watched import AlertAnswer, BackupAnswer, CheckAnswer, Status
from app.watcher import Known
from app.web import glance, words
from app.web.glance import Tile, Watch

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)


def known(*items: Any, doubt: str | None = None) -> Known[Any]:
    return Known(doubt, NOW, 1.0, list(items))


def check(name: str, status: Status = "OK") -> CheckAnswer:
    return CheckAnswer(name, status, f"{name} is {status}", NOW, NOW)


def watch(*checks: CheckAnswer, alerts: Known[Any] | None = None, backups: Known[Any] | None = None) -> Watch:
    return Watch(known(*checks), alerts or known(), backups or known())


def tile(name: str, level: Any) -> Tile:
    return Tile(name, level, level, f"{name} is {level}")


def viewed(directory: Path, book: Portfolio, shown: Snapshot | None = None) -> View:
    """Return a reader's picture of an account, and of what its engine shows."""
    view = View(directory, Cache(NOBODY))
    view.book, view.snapshot = book, shown
    return view


def moving(view: View) -> StatusAnswer:
    """Return the status of an account whose engine's loop moves."""
    return replace(queries.status(view, Settings()), engine_running=True, state=view.book.state)


def showing(*symbols: SymbolStatus, headroom: tuple[Headroom, ...] = ()) -> Snapshot:
    """Return what an engine shows of itself, with a price of each symbol that is live."""
    live = [one.symbol for one in symbols if one.state == "live"]
    quotes = [LastQuote(name, 99.0, 99.0, 99.0, NOW, NOW, "test") for name in live]
    return Snapshot(
        published_at=NOW, now=NOW, started_at=NOW, seq=0, events=0, lag_ms=0.0, marks=dict.fromkeys(live, 99.0),
        quotes=quotes, gates=[], headroom=list(headroom), providers=[], metrics="", symbols=list(symbols),
    )  # fmt: skip


def fed(symbol: str, state: Any = "live", **others: Any) -> SymbolStatus:
    return SymbolStatus(symbol, state, "test", "test", 1.0, **others)


# -- what the watcher knows ---------------------------------------------------------------------------------------


def test_levels_have_the_order_of_the_watchers_statuses() -> None:
    assert [words.LEVELS[status] for status in watcher.RANKS] == [one for one in words.RANKS if one != "none"]


def test_a_watcher_that_does_not_look_makes_host_backup_and_alerts_unknown() -> None:
    silent = Watch(*(known(doubt="it has not looked for 20 min") for _ in range(3)))
    found = [glance.host(silent), glance.backup(silent), glance.alerts(silent)]
    assert {one.level for one in found} == {"unknown"}
    assert {one.why for one in found} == {"it has not looked for 20 min"}


def test_no_check_of_the_host_is_no_good_news() -> None:
    assert glance.host(watch(check("storage"))).level == "unknown"


def test_checks_of_backups_and_of_trading_are_not_the_hosts() -> None:
    found = glance.host(watch(check("disk"), check("storage", "CRITICAL"), check("loop", "CRITICAL")))
    assert (found.level, found.why) == ("ok", "1 checks are well")


def test_the_worst_check_is_named_with_the_number_of_others() -> None:
    found = glance.host(watch(check("disk"), check("memory", "WARN"), check("load", "WARN")))
    assert (found.level, found.why) == ("warn", "memory: memory is WARN; 1 more")


def test_what_warns_is_named_beside_what_nobody_knows() -> None:
    found = glance.host(watch(check("memory", "WARN"), check("load", "WARN"), check("updates", "UNKNOWN")))
    assert found.level == "unknown"
    assert found.why == "updates: updates is UNKNOWN; memory: memory is WARN; 1 more"


def test_a_machine_without_backups_says_so_and_is_neither_well_nor_ill() -> None:
    assert glance.backup(watch(check("disk"))).level == "none"


def test_checks_of_backups_without_a_verified_backup_are_not_believed() -> None:
    assert glance.backup(watch(check("storage"))).level == "unknown"


def test_a_verified_backup_with_its_checks_well_is_well() -> None:
    copy = BackupAnswer("b1", NOW, 10, verified=True, ledger_head=7)
    assert glance.backup(watch(check("storage"), backups=known(copy))).level == "ok"


def test_open_alerts_are_counted_with_who_took_them_on() -> None:
    open_one = AlertAnswer(1, "disk", "firing", "WARN", NOW, "90 % full")
    ended = AlertAnswer(2, "load", "ended", "CRITICAL", NOW, "high", ended=NOW)
    found = glance.alerts(watch(alerts=known(open_one, ended)))
    assert (found.level, found.word, found.why) == ("warn", "1 open", "disk")


def test_the_worst_alert_is_named_first() -> None:
    found = [AlertAnswer(n, s, "firing", s, NOW, "") for n, s in enumerate(("WARN", "CRITICAL", "UNKNOWN"))]  # type: ignore[arg-type]
    assert glance.alerts(watch(alerts=known(*found))).why == "CRITICAL, UNKNOWN, WARN"


# -- trading ------------------------------------------------------------------------------------------------------


def test_an_account_that_trades_is_well(tmp_path: Path) -> None:
    view = viewed(tmp_path, House(Puppet()).account)
    found = glance.trading(view, moving(view), watch(check("orders")))
    assert (found.level, found.word, found.page) == ("ok", "active", "/trading")


def test_without_an_engine_nothing_trades_whatever_the_books_say(tmp_path: Path) -> None:
    view = viewed(tmp_path, House(Puppet()).account)
    found = glance.trading(view, queries.status(view, Settings()), watch())
    assert (found.level, found.word, found.why) == ("critical", "down", "the engine is not running")


def test_a_halt_is_told_with_its_reason_and_leads_to_its_release(tmp_path: Path) -> None:
    house = House(Puppet())
    house.ask("halt", "it looked odd")
    view = viewed(tmp_path, house.account)
    found = glance.trading(view, moving(view), watch())
    assert (found.level, found.word, found.page) == ("critical", "halted", "/risk")
    assert found.why == "trading is halted: it looked odd"


def test_an_order_whose_fate_is_unknown_is_told_as_the_health_answer_does(tmp_path: Path) -> None:
    view = viewed(tmp_path, House(Puppet()).account)
    order = Order("o-1", "ACME", "buy", "trend", NOW, 1, "enter", quantity=Decimal(1))
    view.book.orders["o-1"] = OpenOrder(order, status="unknown")
    found = glance.trading(view, moving(view), watch())
    assert (found.level, found.word) == ("warn", "active")
    assert found.why == "the broker did not say what became of o-1"
    assert found.why in queries.weakened(view)


def test_all_that_is_wrong_with_trading_is_told_the_worst_first(tmp_path: Path) -> None:
    house = House(trend := Puppet())
    trend.fault = ValueError("odd")
    house.bars(100)
    house.ask("halt", "by hand")
    view = viewed(tmp_path, house.account)
    found = glance.trading(view, moving(view), watch(check("orders", "UNKNOWN"), check("loss", "WARN")))
    assert found.level == "critical"
    assert found.why == (
        "trading is halted: by hand; orders: orders is UNKNOWN; in quarantine: trend; loss: loss is WARN"
    )


@pytest.mark.parametrize(("name", "level"), [("no_trade", "critical"), ("trading", "ok"), ("disk", "ok")])
def test_of_the_checks_those_count_for_trading_that_know_more_than_the_page(
    tmp_path: Path, name: str, level: str
) -> None:
    view = viewed(tmp_path, House(Puppet()).account)
    assert glance.trading(view, moving(view), watch(check(name, "CRITICAL"))).level == level


def test_of_checks_that_are_old_the_host_tells_alone(tmp_path: Path) -> None:
    view = viewed(tmp_path, House(Puppet()).account)
    old = Watch(known(check("orders", "CRITICAL"), doubt="it has not looked"), known(), known())
    assert (glance.trading(view, moving(view), old).level, glance.host(old).level) == ("ok", "unknown")


# -- feed ---------------------------------------------------------------------------------------------------------


def test_prices_that_nobody_shows_are_unknown(tmp_path: Path) -> None:
    found = glance.feed(viewed(tmp_path, House(Puppet()).account), watch())
    assert (found.level, found.why) == ("unknown", "the engine shows no prices now")


def test_no_price_of_any_symbol_is_critical(tmp_path: Path) -> None:
    shown = replace(showing(fed("ACME", "stale"), fed("ZED", "stale")), marks={"ACME": 99.0})
    found = glance.feed(viewed(tmp_path, House(Puppet()).account, shown), watch())
    assert (found.level, found.why) == ("critical", "no provider gives a price of ACME, ZED")


def test_some_symbols_that_are_fed_badly_are_a_warning(tmp_path: Path) -> None:
    shown = showing(fed("ACME"), fed("ZED", doubt="a spike"), fed("IBM", "stale"))
    found = glance.feed(viewed(tmp_path, House(Puppet()).account, shown), watch(check("providers", "WARN")))
    assert (found.level, found.word) == ("warn", "impaired")
    assert found.why == "the price of ZED is in doubt: a spike; 1 more; providers: providers is WARN"


def test_prices_of_all_symbols_are_well(tmp_path: Path) -> None:
    found = glance.feed(viewed(tmp_path, House(Puppet()).account, showing(fed("ACME"), fed("ZED"))), watch())
    assert (found.level, found.word) == ("ok", "live")


# -- risk ---------------------------------------------------------------------------------------------------------


def risk_of(directory: Path, *headroom: Headroom) -> Tile:
    return glance.risk(viewed(directory, House(Puppet()).account, showing(headroom=headroom)))


def test_limits_that_nobody_shows_are_unknown(tmp_path: Path) -> None:
    assert glance.risk(viewed(tmp_path, House(Puppet()).account)).level == "unknown"


def test_a_halt_is_told_even_where_no_limit_is_known(tmp_path: Path) -> None:
    house = House(Puppet())
    house.ask("halt", "it looked odd")
    found = glance.risk(viewed(tmp_path, house.account))
    assert (found.level, found.word, found.why) == ("critical", "halted", "it looked odd")


@pytest.mark.parametrize(
    ("limit", "level", "word"),
    [
        (Headroom("daily_loss", 0.01, 0.05), "ok", "within limits"),
        (Headroom("daily_loss", 0.045, 0.05), "warn", "close"),
        (Headroom("daily_loss_amount", 50.0, 50.0), "critical", "at its limit"),
        (Headroom("max_drawdown", 0.3, 0.2), "critical", "at its limit"),
        (Headroom("max_drawdown", None, 0.2), "unknown", "unknown"),
        (Headroom("max_orders_per_minute", 48.0, 60.0), "warn", "close"),
        (Headroom("max_orders_per_minute", 60.0, 60.0), "warn", "at its limit"),
        (Headroom("max_position", 0.31, 0.3), "ok", "within limits"),
        (Headroom("max_gross_exposure", 0.95, 1.0), "ok", "within limits"),
        (Headroom("of_another_release", 1.0, 1.0), "critical", "at its limit"),
    ],
)
def test_a_limit_is_as_bad_as_what_comes_of_it(tmp_path: Path, limit: Headroom, level: str, word: str) -> None:
    found = risk_of(tmp_path, limit)
    assert (found.level, found.word) == (level, word)


def test_a_cap_that_is_full_is_told_of_and_not_warned_of(tmp_path: Path) -> None:
    found = risk_of(tmp_path, Headroom("max_position", 0.3, 0.3), Headroom("daily_loss", 0.005, 0.05))
    assert (found.level, found.why) == ("ok", "the closest: daily loss is used to 10%; max position is full")


def test_what_is_not_known_of_one_limit_hides_no_other(tmp_path: Path) -> None:
    found = risk_of(tmp_path, Headroom("daily_loss", 0.045, 0.05), Headroom("max_position", None, 0.3))
    assert (found.level, found.why) == ("unknown", "max position is not known; the closest: daily loss is used to 90%")


def test_an_account_without_a_limit_is_warned_of(tmp_path: Path) -> None:
    assert (risk_of(tmp_path).level, risk_of(tmp_path).word) == ("warn", "no limits")


# -- all of it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "worst"),
    [
        (("ok", "ok"), "ok"),
        (("ok", "none"), "ok"),
        (("none",), "none"),
        (("ok", "unknown"), "unknown"),
        (("unknown", "warn"), "unknown"),
        (("warn", "critical", "unknown"), "critical"),
        ((), "unknown"),
    ],
)
def test_the_headline_is_as_bad_as_the_worst_answer(levels: tuple[str, ...], worst: str) -> None:
    assert glance.verdict([tile(f"t{number}", level) for number, level in enumerate(levels)]).level == worst


def test_reasons_come_with_the_worst_first_and_leave_out_what_is_well() -> None:
    found = glance.verdict([tile("Feed", "unknown"), tile("Host", "critical"), tile("Risk", "ok")])
    assert found.reasons == ["Host: Host is critical", "Feed: Feed is unknown"]


@pytest.mark.parametrize(
    ("levels", "headline"),
    [
        (("ok", "none"), "Everything is all right"),
        (("warn", "unknown"), "Something wants a look, and not everything is known"),
        (("unknown", "ok"), "Not everything is known"),
        (("critical", "warn", "unknown"), "Something is wrong"),
    ],
)
def test_the_headline_hides_no_warning_behind_what_is_unknown(levels: tuple[str, ...], headline: str) -> None:
    assert glance.verdict([tile("Host", level) for level in levels]).headline == headline
