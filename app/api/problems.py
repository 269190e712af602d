"""Every error as a problem document (RFC 9457), from one table: what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal, get_args, get_origin

from litestar import Request
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap

from app.api.call import Answer
from app.errors import (
    BrokerError,
    ConfigurationError,
    FeedError,
    Fenced,
    Halted,
    InputError,
    LeaseHeld,
    NotRunning,
    Refused,
    StoreError,
    TimedOut,
    TooManyTries,
    TradingError,
    WrongPassword,
)
from app.log import get_logger
from app.schemas import ProblemAnswer

MEDIA_TYPE = "application/problem+json"
MADE_BY_FRAMEWORK = {400: "bad_input", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
BODY = "data"  # a handler's name for the body; what is wrong inside one, `read_body` says
NO_BODY = 'the body is missing; send JSON such as {"amount": 100}'
ADVICE = {
    404: "there is nothing at this path; GET /schema lists what there is",
    405: "this path does not take this method; the Allow header names those it takes",
    413: "the body is larger than 64 kB; no call of this API needs so much",
}


class NotSignedIn(TradingError):
    """The caller is not on this machine and has shown no token, or one that is not known."""

    code = "not_signed_in"


class OutOfScope(TradingError):
    """The caller's token is known, but not for this."""

    code = "out_of_scope"


class StaleForm(TradingError):
    """A change by a browser that is signed in came without the word of the page that it was shown."""

    code = "stale_form"


class ForeignOrigin(TradingError):
    """A page of another site sent this request."""

    code = "foreign_origin"


class ForeignHost(TradingError):
    """The request was sent to a name that is not ours."""

    code = "foreign_host"


class NotFound(TradingError):
    """There is nothing of this number or name."""

    code = "not_found"


class Busy(TradingError):
    """More is asked for at once than this process serves."""

    code = "busy"


STATUS: Mapping[type[TradingError], int] = {
    InputError: 400,
    NotSignedIn: 401,
    OutOfScope: 403,
    WrongPassword: 403,
    StaleForm: 403,
    ForeignOrigin: 403,
    NotFound: 404,
    Refused: 409,
    Halted: 409,
    LeaseHeld: 409,
    Fenced: 409,
    ForeignHost: 421,
    TooManyTries: 429,
    NotRunning: 503,
    ConfigurationError: 503,
    StoreError: 503,
    FeedError: 503,
    BrokerError: 503,
    Busy: 503,
    TimedOut: 504,
    TradingError: 500,
}


def status_of(error: TradingError) -> int:
    """Return the HTTP status of an error: that of its kind, or of the nearest kind that its own belongs to."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the description of these errors, and of those that any call can meet, for the OpenAPI document."""
    return {
        status: ResponseSpec(
            ProblemAnswer, generate_examples=False, media_type=MEDIA_TYPE, description=HTTPStatus(status).phrase
        )
        for status in sorted({400, 401, 403, 421, 500, 503, *statuses})
    }


def trading_problem(request: Request[Any, Any, Any], error: TradingError) -> Answer[ProblemAnswer]:
    status = status_of(error)
    if status == 500:
        get_logger().error("request failed", path=request.url.path, exc_info=error)
    return problem(request, status, error.code, str(error))


def framework_problem(request: Request[Any, Any, Any], error: HTTPException) -> Answer[ProblemAnswer]:
    status = error.status_code
    if status >= 500:
        return unforeseen(request, error)
    detail = _places(request, error) if isinstance(error, ValidationException) else ADVICE.get(status, error.detail)
    return problem(request, status, MADE_BY_FRAMEWORK.get(status, "bad_input"), detail, error.headers)


def unforeseen(request: Request[Any, Any, Any], error: Exception) -> Answer[ProblemAnswer]:
    """Answer to a fault of ours: it goes to the log in full, and to the caller not at all."""
    get_logger().error("request failed", path=request.url.path, exc_info=error)
    return problem(request, 500, "internal", "the request met a fault of this program; its log says more")


def problem(
    request: Request[Any, Any, Any], status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> Answer[ProblemAnswer]:
    title = HTTPStatus(status).phrase
    said = ProblemAnswer(f"urn:trading:problem:{code}", title, status, detail, code, request.url.path)
    return Answer(said, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


HANDLERS: ExceptionHandlersMap = {
    TradingError: trading_problem,
    HTTPException: framework_problem,
    Exception: unforeseen,
}


def _places(request: Request[Any, Any, Any], error: ValidationException) -> str:
    """Say of each parameter what is wrong with it; of one that is a choice, what there is to choose from."""
    found: Any = error.extra if isinstance(error.extra, list) else []
    places = [_place(request, one) for one in found if one.get("key") != BODY]
    return "; ".join(places) or (NO_BODY if found else error.detail)


def _place(request: Request[Any, Any, Any], found: Mapping[str, str]) -> str:
    key, message = found.get("key", ""), found["message"]
    parameter = request.route_handler.parsed_fn_signature.parameters.get(key)
    kinds = (parameter.annotation, *get_args(parameter.annotation)) if parameter else ()
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    hint = f"; use one of {', '.join(map(str, choices))}" if choices else ""
    given = getattr(parameter.kwarg_definition, "name", None) if parameter else None
    return f"{given or key or 'the request'}: {message[:1].lower()}{message[1:]}{hint}"
