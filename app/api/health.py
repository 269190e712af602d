"""Is it well? Asked by operators, checks and load balancers; judged by work done, never a constant."""

from __future__ import annotations

from litestar import Response, get, head
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from app import queries
from app.api.call import Answer, Call
from app.api.problems import documented
from app.schemas import HealthAnswer, LiveAnswer, ReadyAnswer

UNWELL = 503


def or_unwell(answer: type[Struct]) -> dict[int, ResponseSpec]:
    """Return what can be answered besides 200: a no is the same document as a yes."""
    return documented() | {UNWELL: ResponseSpec(answer, generate_examples=False, description="No, and why.")}


@get("/health", responses=or_unwell(HealthAnswer), tags=["health"], sync_to_thread=False)
def health(request: Call) -> Answer[HealthAnswer]:
    """Say whether the appliance is healthy, degraded or unhealthy (503), and why."""
    view = request.view
    return request.shared.keep(
        "health", lambda: queries.health(view), lambda found: UNWELL if found.status == "unhealthy" else 200
    )


@get("/health/live", responses=documented(), tags=["health"], sync_to_thread=False)
def live(request: Call) -> LiveAnswer:
    """Say that this web process answers; nothing else is looked at."""
    return LiveAnswer("alive", request.view.wall())


@get("/health/ready", responses=or_unwell(ReadyAnswer), tags=["health"], sync_to_thread=False)
def ready(request: Call) -> Answer[ReadyAnswer]:
    """Say whether engine, books and market are ready for work (else 503), and what is missing."""
    found = queries.ready(request.view)
    return Answer(found, status_code=200 if found.ready else UNWELL)


@head("/health", tags=["health"], sync_to_thread=False, include_in_schema=False)
def health_head(request: Call) -> Response[None]:
    """Say by the status alone whether it is well; uptime monitors ask this way."""
    return Response(None, status_code=UNWELL if queries.broken(request.view) else 200)


HEALTH = [health, health_head, live, ready]
