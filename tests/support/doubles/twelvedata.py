"""A stand-in for Twelve Data: numbers are strings over REST, bars come newest first with the running one among them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.clock import EPOCH

from .core import Double
from .market import DAY, NEW_YORK, Instrument, Market, Prices, Trade, floored
from .meter import Window
from .wire import Answer, Frame, Session, compact, unix

LIMITS: dict[Window, int] = {"clock minute": 8, "day": 800}
UTC = EPOCH.tzinfo
STEPS = {"1min": 1, "5min": 5, "15min": 15, "30min": 30, "45min": 45, "1h": 60, "2h": 120, "4h": 240,
         "1day": 1440, "1week": 7 * 1440}  # fmt: skip
MOST_BARS = 5000
PATIENCE = timedelta(seconds=30)  # with a client that sends no heartbeat
TYPES = {"stock": "Common Stock", "crypto": "Digital Currency", "forex": "Physical Currency"}
SOCKET_TYPES = {**TYPES, "forex": "PHYSICAL_CURRENCY"}
NEED_PLAN = ("VOD:LSE", "RY:TSX", "DJI")
PRICING = "https://twelvedata.com/pricing"
ERRORS = {
    "no data": (400, "No data is available on the specified dates. Try setting different start/end dates."),
    "401": (
        401,
        "**apikey** parameter is incorrect or not specified. You can get your free API key instantly following this "
        f"link: {PRICING}. If you believe that everything is correct, you can contact us at "
        "https://twelvedata.com/contact/customer",
    ),
    "403": (
        403,
        "/{endpoint} is available exclusively with grow or pro or ultra or venture or enterprise plans. Consider "
        f"upgrading your API Key now at {PRICING}",
    ),
    "404": (
        404,
        "**symbol** or **figi** parameter is missing or invalid. Please provide a valid symbol according to API "
        "documentation: https://twelvedata.com/docs#reference-data",
    ),
    "needs plan": (
        404,
        f"This symbol is available starting with the Grow or Venture plan. Consider upgrading now at {PRICING}",
    ),
    "500": (500, "Internal server error"),
    "503": (503, "Service unavailable"),
}
OUT_OF_CREDITS = (
    "You have run out of API credits for the {span}. {used} API credits were used, with the current limit being "
    "{most}. Wait for the next {next} or consider switching to a higher tier plan at " + PRICING
)
GARBAGE: tuple[Frame, ...] = (
    "", "not json", "{", "[]", "null", "7", b"\xff\xfe\x00", b'{"event":"price"', "[" * 5000,
    '{"event":"unheard-of","status":"ok"}', '{"event":"price"}', '{"event":"price","symbol":null,"price":1}',
    '{"event":"price","symbol":"AAPL","price":"1","timestamp":"x"}',
    '{"event":"price","symbol":"AAPL","price":null,"timestamp":1700000000}',
    '{"event":"price","symbol":"NEVER","price":1,"timestamp":1700000000}',
    '{"event":"price","symbol":"AAPL","price":-5,"timestamp":1700000000}',
    '{"event":"price","symbol":"AAPL","price":0,"timestamp":1700000000}',
    '{"event":"price","symbol":"AAPL","price":1e400,"timestamp":1700000000}',
    '{"event":"price","symbol":"AAPL","price":NaN,"timestamp":1700000000}',
    '{"event":"price","symbol":"AAPL","price":1,"timestamp":1e300}',
    '{"event":"price","symbol":"BTC/USD","price":1,"timestamp":-9,"bid":null,"ask":"","day_volume":null}',
    '{"event":"subscribe-status","status":"error","success":null,"fails":null}',
    '{"event":"subscribe-status","status":"error","success":7,"fails":[null]}',
)  # fmt: skip


class TwelveDataDouble(Double):
    """Twelve Data as of a free key, unless `entitled`: one socket of 8 symbols."""

    name = "twelvedata"
    socket_path = "/v1/quotes/price"

    def __init__(
        self,
        market: Market,
        key: str = "twelvedata-key",
        limits: Mapping[Window, int] = LIMITS,
        *,
        enforce: bool = True,
        entitled: bool = False,
    ) -> None:
        super().__init__(market, key, limits, enforce=enforce, entitled=entitled)
        self.symbols_allowed = 1000 if entitled else 8
        self.sockets_allowed = 3 if entitled else 1
        self.patience = PATIENCE
        self._day_volume: dict[str, float] = {}

    # -- requests --

    def key_of(self, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        kind, _, key = headers.get("authorization", "").partition(" ")
        return query.get("apikey") or (key if kind == "apikey" else headers.get("x-td-apikey", ""))

    def cost(self, endpoint: str, query: Mapping[str, str]) -> int:
        return 0 if endpoint in ("api_usage", "market_state") else len(_asked(query))

    def headers_for(self, key: str) -> dict[str, str]:
        if key not in self.keys or "clock minute" not in self.limits:
            return {}
        used, most = self.meter(key).used("clock minute", self.market.clock.now()), self.limits["clock minute"]
        return {"api-credits-used": str(used), "api-credits-left": str(max(most - used, 0))}

    def refusal(self, kind: str, window: Window | None = None, key: str = "") -> Answer:
        if kind.startswith("429"):
            return self._out_of_credits("day" if kind == "429 day" else "clock minute", forced=window is None, key=key)
        code, text = ERRORS["401" if kind == "no key" else kind]
        return _error(code, text.format(endpoint="dividends"))

    def _out_of_credits(self, window: Window, forced: bool, key: str) -> Answer:
        span, following = ("day", "day") if window == "day" else ("current minute", "minute")
        most = self.limits.get(window, 0)
        used = most if window == "day" else most + 1
        if not forced:
            used = self.meter(key).used(window, self.market.clock.now()) + (window != "day")
        said = _error(429, OUT_OF_CREDITS.format(span=span, used=used, most=most, next=following))
        return said._replace(headers={"api-credits-used": str(used), "api-credits-left": "0"} if span != "day" else {})

    def reply(self, endpoint: str, query: dict[str, str]) -> Answer:
        match endpoint:
            case "quote" | "price" | "time_series":
                return self._each(endpoint, query)
            case "market_state":
                return _good([self._state()])
            case "api_usage":
                return _good(self._usage())
        return self.refusal("403") if not self.entitled else _error(404, "Not found.")

    def _each(self, endpoint: str, query: dict[str, str]) -> Answer:
        """Answer for one symbol as it is, for several in one object under the names that were asked for."""
        names = _asked(query)
        answers = {name: self._one(endpoint, name, query) for name in names}
        if len(names) == 1:
            return answers[names[0]]
        return _good({name: said.json if said.status != 404 else _lost(name) for name, said in answers.items()})

    def _one(self, endpoint: str, name: str, query: dict[str, str]) -> Answer:
        one = self.market.instruments.get(name)
        if one is None:
            return self.refusal("needs plan" if name in NEED_PLAN else "404")
        if endpoint == "time_series":
            return self._series(one, query)
        quote = self._quote(one)
        return _good(quote if endpoint == "quote" else {"price": quote["close"]})

    def _quote(self, one: Instrument) -> dict[str, Any]:
        now = self.now()
        day, before, begin = self.market.day(one.name, now)
        price, traded = self.market.price(one.name, now) * self.print_factor, self.traded_at(one.name)
        stock, change = one.kind == "stock", price - before
        zone = NEW_YORK if stock else UTC
        return {
            "symbol": one.name,
            "name": one.title,
            "exchange": one.exchange,
            **({"mic_code": "XNGS", "currency": "USD"} if stock else {}),
            "datetime": f"{begin.astimezone(zone):%Y-%m-%d}",
            "timestamp": int(unix(begin if stock else traded)),
            **({"last_quote_at": int(unix(floored(traded, timedelta(minutes=1))))} if stock else {}),
            "open": _text(day.open),
            "high": _text(max(day.high, price)),
            "low": _text(min(day.low, price)),
            "close": _text(price),
            **({"volume": str(int(day.volume))} if stock else {}),
            "previous_close": _text(before),
            "change": _text(change),
            "percent_change": _text(change / before * 100),
            **({"average_volume": "50953600"} if stock else {}),
            **(dict.fromkeys(ROLLING, _text(change / before * 100)) if one.kind == "crypto" else {}),
            "is_market_open": self.market.is_open(one.name, now),
            "fifty_two_week": _year(price, price * 0.71, price * 1.09),
        }

    def _series(self, one: Instrument, query: dict[str, str]) -> Answer:
        minutes = STEPS.get(query.get("interval", ""))
        zone = self._zone(one, query.get("timezone", "Exchange"))
        if minutes is None or zone is None:
            wrong = "interval" if minutes is None else "timezone"
            return _error(400, f"**{wrong}** parameter is missing or invalid: {query.get(wrong, '')}.")
        step = timedelta(minutes=minutes)
        # Daily bars have the exchange's date, whatever zone is asked for.
        shown = zone if step < DAY else _exchange_zone(one)
        values = self._values(one, step, shown, query)
        if not values:
            return self.refusal("no data")
        if query.get("order", "desc").lower() == "asc":
            values.reverse()
        return _good({"meta": _meta(one, query["interval"]), "values": values, "status": "ok"})

    def _values(self, one: Instrument, step: timedelta, zone: tzinfo, query: dict[str, str]) -> list[dict[str, str]]:
        begin, end = (_moment(query.get(name), zone) for name in ("start_date", "end_date"))
        count = int(query.get("outputsize") or (MOST_BARS if begin or end else 30))
        values: list[dict[str, str]] = []
        now = self.now()
        for at in self.market.openings(one.name, step, min(end or now, now)):
            if len(values) >= min(count, MOST_BARS) or (begin and at < begin):
                break
            values.append(self._value(one, at, self.market.bar(one.name, at, at + step, now), zone, step))
        return values

    def _value(self, one: Instrument, at: datetime, bar: Prices, zone: tzinfo, step: timedelta) -> dict[str, str]:
        form = "%Y-%m-%d %H:%M:%S" if step < DAY else "%Y-%m-%d"
        prices = {name: _text(getattr(bar, name) * self.print_factor) for name in ("open", "high", "low", "close")}
        volume = {"volume": str(int(bar.volume))} if one.kind == "stock" else {}
        return {"datetime": at.astimezone(zone).strftime(form), **prices, **volume}

    def _zone(self, one: Instrument, name: str) -> tzinfo | None:
        if name.lower() == "exchange":
            return _exchange_zone(one)
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            return None

    def _state(self) -> dict[str, Any]:
        is_open = self.market.is_open("AAPL", self.now())
        return {"name": "NASDAQ", "code": "XNGS", "country": "United States", "is_market_open": is_open,
                "time_to_open": "00:00:00", "time_to_close": "00:00:00", "time_after_open": "00:00:00"}  # fmt: skip

    def _usage(self) -> dict[str, Any]:
        now, meter = self.market.clock.now(), self.meter()
        return {
            "timestamp": f"{self.now():%Y-%m-%d %H:%M:%S}",
            "current_usage": meter.used("clock minute", now),
            "plan_limit": self.limits.get("clock minute", 0),
            "daily_usage": meter.used("day", now),
            "plan_daily_limit": self.limits.get("day", 0),
            "plan_category": "basic",
        }

    # -- the socket --

    def hear(self, session: Session, text: str) -> list[Frame]:
        try:
            message = json.loads(text)
            action = message["action"]
        except (ValueError, KeyError, TypeError):
            return [compact({"event": "message-processing", "status": "error", "messages": ["Invalid message"]})]
        match action:
            case "heartbeat":
                return [compact({"event": "heartbeat", "status": "ok"})]
            case "reset":
                session.subscribed.clear()
            case "subscribe":
                return [self._subscribe(session, _wanted(message))]
            case "unsubscribe":
                gone = _wanted(message)
                session.subscribed = [name for name in session.subscribed if name not in gone]
        return []

    def _subscribe(self, session: Session, names: list[str]) -> Frame:
        fails: list[dict[str, str]] = []
        success: list[dict[str, str]] = []
        for name in names:
            one = self.market.instruments.get(name)
            full = name not in session.subscribed and len(session.subscribed) >= self.symbols_allowed
            if one is None or full:
                fails.append({"symbol": name})
                continue
            if name not in session.subscribed:
                session.subscribed.append(name)
            mic = {"mic_code": "XNGS", "country": "United States"} if one.kind == "stock" else {}
            success.append({"symbol": name, "exchange": one.exchange, **mic, "type": SOCKET_TYPES[one.kind]})
        status = "ok" if success else "error"
        return compact(
            {"event": "subscribe-status", "status": status, "success": success or None, "fails": fails or None}
        )

    def frames(self, session: Session, trades: Sequence[Trade]) -> list[Frame]:
        return [compact(self._told(trade)) for trade in trades if trade.symbol in session.subscribed]

    def _told(self, trade: Trade) -> dict[str, Any]:
        one = self.market.instruments[trade.symbol]
        volume = self._day_volume[one.name] = self._day_volume.get(one.name, 0.0) + trade.volume
        stock = {"currency": "USD", "exchange": one.exchange, "mic_code": "XNGS"}
        pair = {"currency_base": one.names[0], "currency_quote": one.names[1], "exchange": one.exchange}
        return {
            "event": "price",
            "symbol": one.name,
            **(stock if one.kind == "stock" else pair),
            "type": TYPES[one.kind],
            "timestamp": int(unix(trade.at)),
            "price": trade.price,
            **({} if one.kind == "stock" else {"bid": trade.price, "ask": trade.price}),
            **({} if one.kind == "forex" else {"day_volume": int(volume)}),
        }

    def wait(self, session: Session) -> datetime:
        return session.last_heard + self.patience

    def overdue(self, session: Session) -> bool:
        return self.market.clock.now() >= session.last_heard + self.patience

    def garbage(self) -> Sequence[Frame]:
        return GARBAGE


ROLLING = ("rolling_1d_change", "rolling_7d_change", "rolling_change")


def _asked(query: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in query.get("symbol", "").split(",") if name.strip()] or [""]


def _wanted(message: Mapping[str, Any]) -> list[str]:
    symbols = (message.get("params") or {}).get("symbols", "")
    if isinstance(symbols, str):
        return [name.strip() for name in symbols.split(",") if name.strip()]
    return [str(one.get("symbol", "")) if isinstance(one, dict) else str(one) for one in symbols]


def _meta(one: Instrument, interval: str) -> dict[str, str]:
    begin, end = {"symbol": one.name, "interval": interval}, {"type": TYPES[one.kind]}
    if one.kind == "stock":
        zone = {"exchange_timezone": "America/New_York"}
        return {**begin, "currency": "USD", **zone, "exchange": one.exchange, "mic_code": "XNGS", **end}
    pair = {"currency_base": one.names[0], "currency_quote": one.names[1]}
    return {**begin, **pair, **({"exchange": one.exchange} if one.kind == "crypto" else {}), **end}


def _year(price: float, low: float, high: float) -> dict[str, str]:
    return {
        "low": _text(low),
        "high": _text(high),
        "low_change": _text(price - low),
        "high_change": _text(price - high),
        "low_change_percent": _text((price / low - 1) * 100),
        "high_change_percent": _text((price / high - 1) * 100),
        "range": f"{low:.6f} - {high:.6f}",
    }


def _exchange_zone(one: Instrument) -> tzinfo:
    return NEW_YORK if one.kind == "stock" else ZoneInfo("UTC")


def _moment(text: str | None, zone: tzinfo) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=zone) if text else None


def _lost(name: str) -> Any:
    """Return what stands for an unknown symbol among several."""
    text = f"**symbol** not found: {name}. Please specify it correctly according to API Documentation."
    return _error(400, text).json


def _text(number: float) -> str:
    return f"{number:.5f}"


def _good(value: Any) -> Answer:
    return Answer(200, compact(value).encode())


def _error(code: int, text: str) -> Answer:
    return Answer(code, compact({"code": code, "message": text, "status": "error"}).encode())
