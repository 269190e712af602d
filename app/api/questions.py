"""Query parameters that are nearly right: a misspelt one is refused, since the answer would be to another question."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition

from app.errors import InputError

ALIKE = 0.7  # of 1; below that it is taken for something that was not meant for us


async def refuse_misspelt(request: Request[Any, Any, Any]) -> None:
    """Raise InputError for a query parameter that is one of the handler's but for a slip."""
    if not request.scope["query_string"]:
        return
    known = set(parameters_of(request.route_handler))
    for given in request.query_params:
        close = [] if given in known else get_close_matches(given, known, n=1, cutoff=ALIKE)
        if close:
            raise InputError(f"there is no parameter {given!r}; did you mean {close[0]!r}?")


def parameters_of(handler: HTTPRouteHandler) -> Iterator[str]:
    """Yield the names of what a handler, or what it depends on, reads from the query."""
    yield from names(handler.parsed_fn_signature.parameters)
    for provided in handler.resolve_dependencies().values():
        yield from names(provided.parsed_fn_signature.parameters)


def names(parameters: dict[str, FieldDefinition]) -> Iterator[str]:
    for name, parameter in parameters.items():
        if isinstance(parameter.kwarg_definition, QueryParameter):
            yield parameter.kwarg_definition.name or name
