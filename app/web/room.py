"""What all pages share: templates, files, what the watcher left, and the streams of those who look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.exceptions import HTTPException
from markupsafe import Markup, escape
from msgspec import Struct

from app import __version__, queries, watcher
from app.api.auth import is_call
from app.api.call import FRESH, Answer, Call, Shared
from app.api.problems import Busy, NotSignedIn, framework_problem, trading_problem
from app.errors import TradingError
from app.schemas import ProblemAnswer
from app.view import View
from app.watched import AlertAnswer, BackupAnswer, CheckAnswer
from app.web import glance
from app.web.assets import by_address, read_assets
from app.web.glance import Watch
from app.web.live import Live
from app.web.signing import Person, ask_to_sign_in, csrf_token
from app.web.tail import Log
from app.web.words import FILTERS, when

TEMPLATES = Path(__file__).parent / "templates"
WATCH_SECONDS = 3.0  # for which what the watcher left is not read again
SLOW_SECONDS = 5.0  # for which figures over all trades are not measured again
SLOW_TIMES = 50  # as long as measuring took: however long the ledger, it takes no more than a fiftieth of the time
SLOW_KEPT = 50  # answers
QUESTIONS = 20  # that are followed at once, each with what keeps its answer current
COMMON = ("state", "notice")  # parts that each page has
# What stands in a sheet in the place of what is somebody's own. Nobody can guess it, and so write it into a page.
NAME, WORD, KEY = (token_hex(16) for _ in range(3))
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HTML = "text/html"  # the framework adds the encoding
LED_ASTRAY = {
    404: "There is nothing at this address. It is mistyped, or of another release; the overview leads to every page.",
    405: "This address takes a form of a page, and shows nothing by itself.",
}
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser sends our own forms with "Origin: null"
}

Shown = dict[str, Any]
Look = Callable[["Room"], Awaitable[Shown]]


async def nothing_more(room: Room) -> Shown:
    """Look at nothing: the page shows what was asked for, or what each page does."""
    return {}


class Page(Struct, frozen=True):
    """A page: its place, its name, what it shows, the parts of it that are kept current, and the role that it takes."""

    name: str
    path: str
    title: str
    look: Look = nothing_more
    parts: tuple[str, ...] = ()
    role: str = "read"


class Sheet:
    """A page that is drawn for all of the same roles; `text` is what was drawn.

    It holds for the picture of the account from before it was drawn, and a moment at most.
    """

    def __init__(self, view: View) -> None:
        self.text = ""
        self._seq, self._snapshot, self._until = view.book.seq, view.snapshot, monotonic() + FRESH

    def holds(self, view: View) -> bool:
        return self._seq == view.book.seq and self._snapshot is view.snapshot and self._until > monotonic()

    def of(self, person: Person, word: str) -> str:
        """Return the page as somebody's own: their name, the word of their session, and a new key for its forms."""
        own = ((NAME, str(escape(person.name))), (WORD, word), (KEY, form_key()))
        text = self.text
        for place, value in own:
            text = text.replace(place, value)
        return text


class Room:
    """The place where pages are drawn. `served` are the files by their addresses."""

    def __init__(self, shared: Shared, pages: Mapping[str, Page]) -> None:
        self.shared = shared
        self.pages = pages
        self.assets = read_assets()
        self.served = by_address(self.assets)
        self.templates = environment(self)
        self._streams: dict[tuple[str, frozenset[str]], Live] = {}
        self._sheets: dict[tuple[str, frozenset[str], bool], Sheet] = {}
        self._slow: dict[str, tuple[float, Any]] = {}
        self._watch: tuple[float, Watch] | None = None
        self.log = Log(shared.settings)

    @property
    def view(self) -> View:
        return self.shared.view

    async def watch(self) -> Watch:
        """Return what the watcher left, read in a thread: it is files, and may be a slow disk."""
        if self._watch is None or monotonic() - self._watch[0] > WATCH_SECONDS:
            found = await asyncio.to_thread(self._read_watch)
            self._watch = (monotonic(), found)
        return self._watch[1]

    def look_again(self) -> None:
        """Read anew what the watcher left: somebody has just changed it."""
        self._watch = None

    def _read_watch(self) -> Watch:
        home, now = self.shared.settings.watched, self.view.wall()
        return Watch(
            watcher.read(home, "checks", CheckAnswer, now),
            watcher.read(home, "alerts", AlertAnswer, now),
            watcher.read(home, "backups", BackupAnswer, now),
        )

    def slow(self, name: str, ask: Callable[[], Any]) -> Any:
        """Return an answer that takes long on a long ledger, or None if there is none; the last one for a while."""
        begun = monotonic()
        until, answer = self._slow.pop(name, (0.0, None))
        if answer is None or begun > until:
            answer = or_why(ask)[0]
            took = monotonic() - begun
            until = begun + max(SLOW_SECONDS, SLOW_TIMES * took)
        while len(self._slow) >= SLOW_KEPT:
            del self._slow[next(iter(self._slow))]
        self._slow[name] = until, answer
        return answer

    async def common(self) -> Shown:
        """Return what each page shows: whether all is well, and how old what it shows is."""
        watch = await self.watch()
        answers = glance.tiles(self.view, self.shared.settings, watch)
        return {
            "tiles": answers,
            "verdict": glance.verdict(answers),
            "status": queries.status(self.view, self.shared.settings),
            "still": standstill(self.view),
            "marked_at": self.view.book.marked_at if self.view.book.seq else None,
        }

    def stream(self, page: Page, person: Person, asked: str = "") -> Live:
        """Return what keeps a page current, as it was asked: one for all who may do the same on it.

        Raise Busy where too many different questions are followed at once.
        """
        key = (f"{page.name}?{asked}" if asked else page.name, person.roles)
        if key not in self._streams:
            if asked:
                self._make_place()
            self._streams[key] = Live(self._drawing(page, person.roles))
        return self._streams[key]

    def _make_place(self) -> None:
        """Forget the questions that nobody follows, once there are many."""
        asked = [key for key in self._streams if "?" in key[0]]
        if len(asked) < QUESTIONS:
            return
        idle = [key for key in asked if not self._streams[key].clients]
        if not idle:
            raise Busy(f"{QUESTIONS} different questions are followed already; close one, or ask again later")
        for key in idle:
            del self._streams[key]

    @property
    def clients(self) -> int:
        """How many streams are open."""
        return sum(one.clients for one in self._streams.values())

    async def shown(self, page: Page) -> Shown:
        return {**await self.common(), **await page.look(self)}

    async def answer(self, request: Call, person: Person, page: Page, **more: Any) -> Response[str]:
        """Draw a whole page for somebody; one that takes no questions once a moment for all of the same roles."""
        if more:
            return self.draw(request, person, f"{page.name}.html", {**await self.shown(page), "page": page, **more})
        key = (page.name, person.roles, person.has_account)
        sheet = self._sheets.get(key)
        if sheet is None or not sheet.holds(self.view):
            sheet = Sheet(self.view)
            sheet.text = await self._drawn_for_all(page, person)
            self._sheets[key] = sheet
        return Response(sheet.of(person, csrf_token(request)), media_type=HTML, headers=HEADERS)

    async def _drawn_for_all(self, page: Page, person: Person) -> str:
        anyone = Person(NAME, person.roles, person.has_account)
        known = {"person": anyone, **rights(person.roles), "csrf_token": WORD, "form_key": KEY}
        return self.templates.get_template(f"{page.name}.html").render(
            {**known, **await self.shown(page), "page": page}
        )

    def draw(
        self,
        request: Call,
        person: Person | None,
        template: str,
        shown: Shown,
        status: int = 200,
        *,
        cookies: Sequence[Cookie] = (),
        wait: float = 0,
    ) -> Response[str]:
        """Draw a template with what it needs to know of who looks; `wait` is how many seconds not to ask again."""
        roles = person.roles if person else frozenset[str]()
        known = {"person": person, **rights(roles), "csrf_token": csrf_token(request), "form_key": form_key()}
        text = self.templates.get_template(template).render({**known, **shown})
        headers = {**HEADERS, "Retry-After": str(ceil(wait))} if wait else HEADERS
        return Response(text, status_code=status, media_type=HTML, headers=headers, cookies=list(cookies))

    def end(self) -> None:
        """Let all who look go; each browser comes back by itself."""
        for stream in self._streams.values():
            stream.end()

    def _drawing(self, page: Page, roles: frozenset[str]) -> Callable[[], Awaitable[dict[str, str]]]:
        async def draw() -> dict[str, str]:
            shown = {**await self.shown(page), **rights(roles)}
            named = {part: f"parts/{part}.html" for part in (*COMMON, *page.parts)}
            return {part: self.templates.get_template(name).render(shown) for part, name in named.items()}

        return draw


def standstill(view: View) -> Markup | str | None:
    """Say why no engine would act on anything now, None if one would.

    Of a loop that hangs it says since when, not for how long: a screen reader reads each change of it out.
    """
    since = None if view.fault else queries.stuck_since(view)
    if since is not None:
        return Markup("the engine's loop has not moved since {}").format(when(since, "full"))
    return view.fault or queries.standstill(view)


def form_key() -> str:
    """Return the key of a form that is shown now: sent twice, it is one command."""
    return f"page-{token_hex(16)}"


def rights(roles: frozenset[str]) -> Shown:
    """Return what somebody may do: each is a button, or none."""
    return {"may_trade": "trade" in roles, "may_ops": "ops" in roles}


def environment(room: Room) -> Environment:
    """Return the templates: everything that is written into them is escaped, and a misspelt name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    places = {page.path for page in room.pages.values()}
    made.globals.update(
        has_page=lambda path: path in places,
        asset=lambda name: room.assets[name].address,
        pages=list(room.pages.values()),
        version=__version__,
    )
    return made


def told(request: Request[Any, Any, Any], error: TradingError) -> Response[Any]:
    """Say what is wrong to who asked for a page: on one, or where the answer of a form is shown."""
    if isinstance(error, NotSignedIn):
        return ask_to_sign_in(request, error)
    return on_page(request, trading_problem(request, error), str(error))


def strayed(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Say to who asked for what is no page, or for a page as it cannot be asked for: on a page, to a browser."""
    problem = framework_problem(request, error)
    if is_call(request.scope["path"]):
        return problem
    return on_page(request, problem, LED_ASTRAY.get(error.status_code, problem.content.detail))


def on_page(request: Request[Any, Any, Any], problem: Answer[ProblemAnswer], said: str) -> Response[Any]:
    """Return what is wrong as a page, or as a part of one; as it is to a program."""
    if "text/html" not in request.headers.get("accept", ""):
        return problem
    room: Room = request.app.state.page
    part = "hx-request" in request.headers
    text = room.templates.get_template("parts/said.html" if part else "fault.html").render(
        {"fault": said, "code": problem.content.code}
    )
    headers = {**problem.headers, **HEADERS}
    return Response(text, status_code=problem.status_code, media_type=HTML, headers=headers)


def or_why(ask: Callable[[], Any]) -> tuple[Any, str]:
    """Return an answer and "", or None and why there is none."""
    try:
        return ask(), ""
    except TradingError as fault:
        return None, str(fault)
