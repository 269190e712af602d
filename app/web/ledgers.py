"""The pages of the books, their files, and the candles of a symbol with what was bought and sold on it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream
from msgspec import Struct

from app import queries
from app.api.call import HIGHEST, Answer, Call
from app.errors import InputError, TradingError
from app.schemas import BarAnswer, FillAnswer, TradeAnswer
from app.view import View
from app.web.achieved import span_of
from app.web.books import AUDIT, BOOKS, STATUSES, Book, Question, as_csv, book_of, find, moment_of
from app.web.room import Page, Room
from app.web.signing import Person
from app.web.stops import courses

BARS = 400  # that are drawn
MARKS = 500  # fills, and trades, that are drawn on them, the newest ones
VERDICTS = ("approved", "denied")
SPAN = ("from", "to")
Before = Annotated[int, QueryParameter(ge=0, le=HIGHEST)]
Choice = Annotated[str, QueryParameter(max_length=80)]

TRADING = Page("trading", "/trading", "Trading")
AUDITED = Page("audit", "/audit", "Audit")
CHART = Page("chart", "/chart", "Chart")


class Traded(Struct, frozen=True):
    """What was traded of a symbol, the newest first; `since` is from when on it is all, None: in the whole time."""

    fills: list[FillAnswer]
    trades: list[TradeAnswer]
    since: datetime | None


def traded(
    *,
    symbol: Choice = "",
    strategy: Choice = "",
    status: Choice = "",
    verdict: Choice = "",
    rule: Choice = "",
    who: Choice = "",
    name: Choice = "",
    opens: Annotated[str, QueryParameter(name="from", max_length=40)] = "",
    closes: Annotated[str, QueryParameter(name="to", max_length=40)] = "",
) -> dict[str, str]:
    """Read what rows are asked for, as it stands in the address."""
    given = {"symbol": symbol, "strategy": strategy, "status": status, "verdict": verdict, "rule": rule}
    given |= {"who": who, "name": name, "from": opens, "to": closes}
    return {field: value for field, value in given.items() if value}


def question(book: Book, given: dict[str, str], before: int = 0) -> Question:
    """Return what is asked of a book. Raise InputError for what is no date or time."""
    start, end = span_of(given.get("from", ""), given.get("to", ""))
    return Question(book, {name: given[name] for name in book.chosen_by if name in given}, before, start, end)


@get("/trading", include_in_schema=False)
async def trading(
    request: Call,
    person: NamedDependency[Person],
    wanted: NamedDependency[dict[str, str]],
    book: Choice = "trades",
    before: Before = 0,
) -> Response[str]:
    """Show a book, chosen by what its rows say and when they were written."""
    chosen = BOOKS.get(book) or book_of(book)
    return await show(request, person, TRADING, question(chosen, wanted, before), wanted)


@get("/audit", include_in_schema=False)
async def audit(
    request: Call, person: NamedDependency[Person], wanted: NamedDependency[dict[str, str]], before: Before = 0
) -> Response[str]:
    """Show what operators asked for."""
    return await show(request, person, AUDITED, question(AUDIT, wanted, before), wanted)


async def show(request: Call, person: Person, page: Page, asked: Question, wanted: dict[str, str]) -> Response[str]:
    """Show rows. What was chosen that is no choice of this book, as when another one is chosen, is left out."""
    room: Room = request.app.state.page
    found = await find(request.view, asked) if request.view.book.seq else None
    given = {name: value for name, value in wanted.items() if name in (*asked.book.chosen_by, *SPAN)}
    here = {"book": asked.book.name} if page is TRADING else {}
    known = {"book": asked.book, "given": given, "here": {**here, **given}, "before": asked.before}
    return await room.answer(
        request, person, page, found=found, books=BOOKS.values(), choices=choices(request), **known
    )


def choices(request: Call) -> dict[str, list[str]]:
    """Return what one may choose from: what is traded, and what has been."""
    view = request.view
    tried = {gate.strategy for gate in view.snapshot.gates} if view.snapshot else set()
    quoted = {quote.symbol for quote in view.snapshot.quotes} if view.snapshot else set()
    return {
        "symbol": sorted(quoted | set(view.book.traded)),
        "strategy": sorted(tried | set(view.book.tallies)),
        "status": list(STATUSES),
        "verdict": list(VERDICTS),
    }


@get("/files/{called:str}", include_in_schema=False, sync_to_thread=False)
def file(request: Call, wanted: NamedDependency[dict[str, str]], called: FromPath[str]) -> Stream:
    """Give the rows that were chosen of a book as a file.

    Raise InputError for what it cannot be chosen by, NotRunning while there is no account.
    """
    queries.account(request.view)
    book = book_of(called.removesuffix(".csv"))
    allowed = (*book.chosen_by, *SPAN)
    if foreign := [one for one in wanted if one not in allowed]:
        raise InputError(f"{book.name} cannot be chosen by {foreign[0]!r}; by {', '.join(allowed)}")
    headers = {"Content-Disposition": f'attachment; filename="{book.name}.csv"'}
    return Stream(as_csv(request.view, question(book, wanted)), media_type="text/csv", headers=headers)


@get("/chart", include_in_schema=False)
async def chart(request: Call, person: NamedDependency[Person], symbol: Choice = "") -> Response[str]:
    """Show the candles of a symbol."""
    room: Room = request.app.state.page
    known = choices(request)["symbol"]
    drawn = symbol or next(iter(known), "")
    try:
        bars = await queries.bars(request.view, drawn, BARS)
    except TradingError:  # the page's script says that no candles are known
        bars = []
    since = (await traded_on(request.view, drawn, bars)).since
    return await room.answer(request, person, CHART, symbol=drawn, symbols_known=known, since=since)


@get("/data/candles", include_in_schema=False)
async def candles(request: Call, symbol: FromQuery[str]) -> Answer[dict[str, Any]]:
    """Give the newest bars of a symbol, what was bought and sold in their time, and where our stops lay.

    `since` is from when on all of that is here, in seconds, null if it is so for all bars.
    """
    view = request.view
    bars = await queries.bars(view, symbol, BARS)
    known = await traded_on(view, symbol, bars)
    stops = courses(symbol, bars, known.trades, view.book.positions.values(), request.settings.limits)
    shown = [[int(bar.time.timestamp()), bar.open, bar.high, bar.low, bar.close] for bar in bars]
    fills = [mark(fill) for fill in reversed(known.fills)]
    since = int(known.since.timestamp()) if known.since else None
    return Answer({"bars": shown, "fills": fills, "stops": stops, "since": since})


async def traded_on(view: View, symbol: str, bars: list[BarAnswer]) -> Traded:
    """Return what was traded in the time of some bars, as far back as is looked for it."""
    if not bars:
        return Traded([], [], None)
    start = bars[0].time
    fills, trades = [
        await find(view, Question(BOOKS[name], {"symbol": symbol}, start=start), MARKS) for name in ("fills", "trades")
    ]
    reached = max(fills.before or 0, trades.before or 0)
    within = [one for one in fills.rows if one.at >= start]
    return Traded(within, trades.rows, moment_of(view, reached) if reached else None)


def mark(fill: FillAnswer) -> list[Any]:
    return [int(fill.at.timestamp()), fill.side, float(fill.price), fill.strategy]


LEDGERS = [trading, audit, chart, file, candles]
LEDGER_PAGES = (TRADING, AUDITED, CHART)
