"""A stand-in for Finnhub: numbers are numbers, an unknown symbol is a quote of zeros, trades come in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from app.clock import EPOCH

from .core import Double
from .market import NEW_YORK, Market, Trade
from .meter import Window
from .wire import Answer, Frame, Session, compact, millis, unix

LIMITS: dict[Window, int] = {"second": 30, "minute": 60}
STEPS = {"1": 1, "5": 5, "15": 15, "30": 30, "60": 60, "D": 1440, "W": 7 * 1440}
PING_EVERY = timedelta(seconds=60)
UNKNOWN = {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}
ERRORS = {
    "no key": (401, "Please use an API key."),
    "401": (401, "Invalid API key"),
    "403": (403, "You don't have access to this resource."),
    "404": (422, "Symbol not supported"),
    "429 minute": (429, "API limit reached. Please try again later. Remaining Limit: 0"),
    "429 day": (429, "API limit reached. Please try again later. Remaining Limit: 0"),
    "500": (500, "Internal server error"),
    "503": (503, "Service unavailable"),
}
GARBAGE: tuple[Frame, ...] = (
    "", "not json", "{", "[]", "null", "7", '"trade"', b"\xff\xfe\x00", b'{"type":"trade"', "[" * 5000,
    '{"type":"news","data":[]}', '{"type":"trade"}', '{"type":"trade","data":null}', '{"type":"trade","data":[null]}',
    '{"type":"trade","data":{"s":"AAPL"}}', '{"type":"trade","data":[{"s":"AAPL","p":"1","t":"x","v":1}]}',
    '{"type":"trade","data":[{"s":null,"p":1,"t":1700000000000,"v":1}]}',
    '{"type":"trade","data":[{"s":"NEVER","p":1,"t":1700000000000,"v":1}]}',
    '{"type":"trade","data":[{"s":"AAPL","p":-5,"t":1700000000000,"v":1}]}',
    '{"type":"trade","data":[{"s":"AAPL","p":0,"t":1700000000000,"v":1}]}',
    '{"type":"trade","data":[{"s":"AAPL","p":1e400,"t":1700000000000,"v":1}]}',
    '{"type":"trade","data":[{"s":"AAPL","p":NaN,"t":1700000000000,"v":1}]}',
    '{"type":"trade","data":[{"s":"AAPL","p":1,"t":1e300,"v":1}]}',
    '{"type":"trade","data":[{"s":"AAPL","p":1,"t":-99999999999999999,"v":null}]}',
)  # fmt: skip


class FinnhubDouble(Double):
    """Finnhub as of a free key, unless `entitled`: no candles, 50 symbols on the one socket.

    `rate_headers` adds the headers that many believe in and no source shows.
    """

    name = "finnhub"
    prefix = "/api/v1"

    def __init__(
        self,
        market: Market,
        key: str = "finnhub-key",
        limits: Mapping[Window, int] = LIMITS,
        *,
        enforce: bool = True,
        entitled: bool = False,
    ) -> None:
        super().__init__(market, key, limits, enforce=enforce, entitled=entitled)
        self.rate_headers = False
        self._names = {one.finnhub: one.name for one in market.instruments.values()}

    # -- requests --

    def key_of(self, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        return query.get("token") or headers.get("x-finnhub-token", "")

    def headers_for(self, key: str) -> dict[str, str]:
        if not self.rate_headers:
            return {}
        now = self.market.clock.now()
        most, used = self.limits.get("minute", 0), self.meter(key).used("minute", now)
        return {
            "x-ratelimit-limit": str(most),
            "x-ratelimit-remaining": str(max(most - used, 0)),
            "x-ratelimit-reset": str(int(unix(self.now())) + 60),
        }

    def refusal(self, kind: str, window: Window | None = None, key: str = "") -> Answer:
        status, text = ERRORS[kind]
        return Answer(status, compact({"error": text}).encode())

    def reply(self, endpoint: str, query: dict[str, str]) -> Answer:
        match endpoint:
            case "quote":
                return _good(self._quote(self._names.get(query.get("symbol", ""))))
            case "stock/candle" | "crypto/candle" | "forex/candle":
                return self._candles(query) if self.entitled else self.refusal("403")
            case "search":
                return _good(self._search(query.get("q", "")))
            case "stock/market-status":
                return _good(self._market_status(query.get("exchange", "US")))
            case "crypto/symbol" | "forex/symbol" | "stock/symbol":
                return _good(self._list(endpoint.partition("/")[0]))
        return Answer(404, compact({"error": "Not found."}).encode())

    def _quote(self, symbol: str | None) -> dict[str, Any]:
        if symbol is None:
            return UNKNOWN
        now = self.now()
        day, before, _ = self.market.day(symbol, now)
        price = self.market.price(symbol, now) * self.print_factor
        change = price - before
        return {
            "c": price,
            "d": round(change, 5),
            "dp": round(change / before * 100, 4),
            "h": max(day.high, price),
            "l": min(day.low, price),
            "o": day.open,
            "pc": before,
            "t": int(unix(self.traded_at(symbol))),
        }

    def _candles(self, query: dict[str, str]) -> Answer:
        symbol, step = self._names.get(query.get("symbol", "")), STEPS.get(query.get("resolution", ""))
        if symbol is None or step is None:
            return _good({"s": "no_data"}) if step else self.refusal("404")
        begin, end = (EPOCH + timedelta(seconds=int(query.get(name, "0"))) for name in ("from", "to"))
        times = self._times(symbol, timedelta(minutes=step), begin, end)
        if not times:
            return _good({"s": "no_data"})
        bars = [self.market.bar(symbol, at, at + timedelta(minutes=step), self.now()) for at in times]
        columns = {name: [getattr(bar, field) for bar in bars] for name, field in COLUMNS.items()}
        return _good({**columns, "s": "ok", "t": [int(unix(at)) for at in times]})

    def _times(self, symbol: str, step: timedelta, begin: datetime, end: datetime) -> list[datetime]:
        times: list[datetime] = []
        for at in self.market.openings(symbol, step, min(end, self.now())):
            if at < begin:
                break
            times.append(at)
        return times[::-1]

    def _search(self, text: str) -> dict[str, Any]:
        found = [one for one in self.market.instruments.values() if text.lower() in (one.title + one.name).lower()]
        rows = [
            {
                "description": one.title.upper(),
                "displaySymbol": one.name,
                "symbol": one.finnhub,
                "type": KINDS[one.kind],
            }
            for one in found
        ]
        return {"count": len(rows), "result": rows}

    def _market_status(self, exchange: str) -> dict[str, Any]:
        now = self.now()
        is_open = next(self.market.is_open(one.name, now) for one in self._of("stock"))
        holiday = "Holiday" if now.astimezone(NEW_YORK).date() in self.market.holidays else None
        session = "regular" if is_open else None
        return {"exchange": exchange, "holiday": holiday, "isOpen": is_open, "session": session,
                "t": int(unix(now)), "timezone": "America/New_York"}  # fmt: skip

    def _list(self, kind: str) -> list[dict[str, str]]:
        rows = [{"description": one.title, "displaySymbol": one.name, "symbol": one.finnhub} for one in self._of(kind)]
        if kind != "stock":
            return rows
        return [{"currency": "USD", **row, "figi": "", "mic": "XNGS", "type": "Common Stock"} for row in rows]

    def _of(self, kind: str) -> list[Any]:
        return [one for one in self.market.instruments.values() if one.kind == kind]

    # -- the socket --

    def hear(self, session: Session, text: str) -> list[Frame]:
        try:
            message = json.loads(text)
        except ValueError:
            return [_error("Invalid message")]
        symbol = message.get("symbol", "") if isinstance(message, dict) else ""
        if message.get("type") == "unsubscribe":
            session.subscribed = [name for name in session.subscribed if name != symbol]
            return []
        if symbol not in self._names:
            return [_error(f"Invalid symbol {symbol}")]
        if symbol not in session.subscribed:
            if len(session.subscribed) >= self.symbols_allowed:
                return [_error("Subscribing to too many symbols")]
            session.subscribed.append(symbol)
        return []

    def frames(self, session: Session, trades: Sequence[Trade]) -> list[Frame]:
        told = [trade for trade in trades if self._name(trade) in session.subscribed]
        return [compact({"data": [self._told(trade) for trade in told], "type": "trade"})] if told else []

    def _name(self, trade: Trade) -> str:
        return self.market.instruments[trade.symbol].finnhub

    def _told(self, trade: Trade) -> dict[str, Any]:
        stock = self.market.instruments[trade.symbol].kind == "stock"
        return {
            "c": ["1", "12"] if stock else None,
            "p": trade.price,
            "s": self._name(trade),
            "t": millis(trade.at),
            "v": int(trade.volume) if stock else trade.volume,
        }

    def life_sign(self, session: Session) -> Frame:
        return '{"type":"ping"}'

    def wait(self, session: Session) -> datetime:
        return session.last_sent + PING_EVERY

    def garbage(self) -> Sequence[Frame]:
        return GARBAGE


COLUMNS = {"c": "close", "h": "high", "l": "low", "o": "open", "v": "volume"}
KINDS = {"stock": "Common Stock", "crypto": "Crypto", "forex": "Forex"}


def _good(value: Any) -> Answer:
    return Answer(200, compact(value).encode())


def _error(text: str) -> str:
    return compact({"msg": text, "type": "error"})
