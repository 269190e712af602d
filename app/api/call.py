"""What a handler is given and what it gives back: the request with the account's view, and an answer in our JSON."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from litestar import Litestar, Request, Response
from litestar.datastructures import FormMultiDict, State
from litestar.enums import RequestEncodingType
from litestar.exceptions import InternalServerException
from litestar.params import QueryParameter
from litestar.response.base import ASGIResponse
from litestar.types import Empty

from app import schemas
from app.config import Settings
from app.errors import InputError
from app.view import View

ONE_LINE = "it is one line of text, without control characters"  # the only pattern that our bodies have
FRESH = 0.1  # seconds for which an answer is given again, as long as nothing is known that would change it
MOST_FIELDS = 20  # of a form; no page has one of so many
FIRST_BYTES = 60  # of a body that cannot be read, shown to who sent it
ORIGIN = "origin"  # where a request came from, in its state; the door says it
HIGHEST = 2**53  # the largest whole number that every JSON reader keeps exactly

T = TypeVar("T")
Number = Annotated[int, QueryParameter(ge=0, le=HIGHEST)]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]


class Answer(Response[T]):
    """An answer whose numbers are plain JSON numbers; bytes are sent as they are."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        return content if isinstance(content, bytes) else schemas.encode(content)


class Kept(Answer[T]):
    """An answer that is written once and may be sent many times: it holds for one picture of the account."""

    def __init__(self, content: T, status_code: int, view: View) -> None:
        super().__init__(content, status_code=status_code)
        self._seq, self._snapshot, self._until = view.book.seq, view.snapshot, monotonic() + FRESH
        self._written: ASGIResponse | None = None

    def holds(self, view: View) -> bool:
        """Say whether neither the ledger nor the snapshot has moved since, and no more than a moment has passed."""
        return self._seq == view.book.seq and self._snapshot is view.snapshot and self._until > monotonic()

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **others: Any) -> ASGIResponse:
        if self._written is None:
            self._written = super().to_asgi_response(app, request, **others)
        return self._written


class Shared:
    """What all handlers of this process share: the view, the settings, and the answers that were given just now."""

    def __init__(self, view: View, settings: Settings) -> None:
        self.view = view
        self.settings = settings
        self._kept: dict[str, Kept[Any]] = {}

    def keep(self, name: str, make: Callable[[], T], status: Callable[[T], int] = lambda _: 200) -> Answer[T]:
        """Return the answer of this name, the last one if it still holds."""
        kept = self._kept.get(name)
        if kept is None or not kept.holds(self.view):
            made = make()
            kept = self._kept[name] = Kept(made, status(made), self.view)
        return kept


class Call(Request[Any, Any, State]):
    """A request to this API."""

    @property
    def shared(self) -> Shared:
        return cast(Shared, self.app.state.shared)

    @property
    def view(self) -> View:
        return self.shared.view

    @property
    def settings(self) -> Settings:
        return self.shared.settings

    @property
    def origin(self) -> str:
        """Where it comes from, as the audit shows it: an address, or `token@address` from outside this machine."""
        return cast(str, self.scope["state"][ORIGIN])

    async def body(self) -> bytes:
        """Read the body. Raise InputError if the caller hung up in the middle of it: that is no fault of ours."""
        try:
            return await super().body()
        except InternalServerException as fault:
            raise InputError("the connection ended before the body did; send it again") from fault

    async def form(self) -> FormMultiDict:
        """Read the body as what a form of a page sends; anything else has no fields. Raise InputError for too many.

        The framework's own keeps the last thousand bodies for as long as the process runs, passwords too, and takes
        as many fields as fit in.
        """
        if self._form is Empty:
            kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            text = (await self.body()).decode(errors="replace") if kind == RequestEncodingType.URL_ENCODED else ""
            try:
                fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
            except ValueError as fault:
                raise InputError(f"a form has {MOST_FIELDS} fields at most; load the page again") from fault
            self._form = FormMultiDict(fields)
        return self._form

    async def json(self) -> Any:
        """Read the body as JSON, whatever its content type says: `curl -d` sends a form's."""
        field = self.route_handler.parsed_data_field
        body = (await self.body()).strip()
        return read_body(body, field.annotation) if body and field else None


def read_body(body: bytes, kind: Any) -> Any:
    """Read JSON as a value of a type. Raise InputError saying what is wrong where, and how to mend it."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as fault:
        what, _, where = str(fault).partition(" - at ")
        place = where.strip("`").removeprefix("$.") or "it"
        said = ONE_LINE if "matching regex" in what else f"{what[:1].lower()}{what[1:]}"
        raise InputError(f"the body is JSON, but {place} does not fit: {said}") from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        start = body[:FIRST_BYTES].decode(errors="replace")
        raise InputError(
            f'the body is not JSON ({fault}): it begins {start!r}; send JSON such as {{"reason": "maintenance"}}, '
            "or no body at all"
        ) from fault
