"""What the watcher knows of the machine and of us: what can be read under /api/v1/ops.

It comes from the files that the watcher left, never from this process: each answer says how old it is, and that nothing
is known where the watcher is dead.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, TypeVar

from litestar import Response, Router, get
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Struct

from app import watched, watcher
from app.api.call import HIGHEST, Call, Limit
from app.api.problems import NotFound, documented
from app.watched import Watched, WatchedChecks

Item = TypeVar("Item", bound=Struct)
ERRORS = documented()
After = Annotated[int, QueryParameter(ge=0, le=HIGHEST, description="Leave out so many from the beginning.")]
KINDS = {".json": "application/json", ".html": "text/html", ".png": "image/png"}
DRAWN = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:"}
PLAIN = "text/plain"


@get("/checks", responses=ERRORS, sync_to_thread=True)
def checks(request: Call) -> WatchedChecks:
    """Each check: how it is, since when, with values and limits, and the last 24 hours; the verdict on all."""
    return watcher.checks(request.settings.watched, request.view.wall())


@get("/flips", responses=ERRORS, sync_to_thread=True)
def flips(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.FlipAnswer]:
    """Changes of status, the newest first."""
    return told(request, "flips", watched.FlipAnswer, after, limit)


@get("/alerts", responses=ERRORS, sync_to_thread=True)
def alerts(
    request: Call, after: After = 0, limit: Limit = 100, active: FromQuery[bool] = False
) -> Watched[watched.AlertAnswer]:
    """Alerts: their state, who took them on, who was told; `active` leaves out those that have ended."""
    known = watcher.read(request.settings.watched, "alerts", watched.AlertAnswer, request.view.wall())
    chosen = [one for one in known.items if one.ended is None or not active]
    return watcher.paged(watcher.Known(known.doubt, known.at, known.age, chosen), after, limit)


@get("/leaks", responses=ERRORS, sync_to_thread=True)
def leaks(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.LeakAnswer]:
    """What grows without end in each process, and when it would be at its limit."""
    return told(request, "leaks", watched.LeakAnswer, after, limit)


@get("/units", responses=ERRORS, sync_to_thread=True)
def units(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.UnitAnswer]:
    """Units that have to be well, as systemd sees them; none on a machine that is no appliance."""
    return told(request, "units", watched.UnitAnswer, after, limit)


@get("/backups", responses=ERRORS, sync_to_thread=True)
def backups(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.BackupAnswer]:
    """Verified copies of the account, the newest first."""
    return told(request, "backups", watched.BackupAnswer, after, limit)


@get("/reports", responses=ERRORS, sync_to_thread=True)
def reports(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.ReportAnswer]:
    """Reports that were made, the newest first, with the names of their files."""
    return told(request, "reports", watched.ReportAnswer, after, limit)


@get("/silences", responses=ERRORS, sync_to_thread=True)
def silences(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.SilenceAnswer]:
    """Silences that hold now: of what nothing is told, until when, by whom and why."""
    return told(request, "silences", watched.SilenceAnswer, after, limit)


@get("/errands", responses=ERRORS, sync_to_thread=True)
def errands(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.ErrandAnswer]:
    """What was done about alerts, the newest first: by whom, when, why, and what came of it."""
    return told(request, "errands", watched.ErrandAnswer, after, limit)


@get("/disks", responses=ERRORS, sync_to_thread=True)
def disks(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.DiskAnswer]:
    """Each file system that matters: what is free, and when it is full as it fills now."""
    return told(request, "disks", watched.DiskAnswer, after, limit)


@get("/jobs", responses=ERRORS, sync_to_thread=True)
def jobs(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.JobAnswer]:
    """Jobs that a clock starts, with what came of their last runs: of the drill, what it restored and how fast."""
    return told(request, "jobs", watched.JobAnswer, after, limit)


@get("/certificate", responses=ERRORS, sync_to_thread=True)
def certificate(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.CertificateAnswer]:
    """The certificate that is served and its last renewal; none on a machine that serves none."""
    return told(request, "certificate", watched.CertificateAnswer, after, limit)


@get("/machine", responses=ERRORS, sync_to_thread=True)
def machine(request: Call, after: After = 0, limit: Limit = 100) -> Watched[watched.MachineAnswer]:
    """What the machine is: system, kernel, processor, memory, its last start, the release."""
    return told(request, "machine", watched.MachineAnswer, after, limit)


@get("/reports/{name:str}", responses=documented(404), media_type=PLAIN, sync_to_thread=True)
def report(request: Call, name: FromPath[str]) -> Response[bytes]:
    """A file of a report by its name; without an ending it is the text."""
    home = request.settings.watched
    known = watcher.read(home, "reports", watched.ReportAnswer, request.view.wall())
    chosen = name if PurePath(name).suffix else f"{name}.txt"
    text = watcher.report(home, chosen, [one.files for one in known.items])
    if text is None:
        raise NotFound(f"there is no report {name[:80]!r}; GET /api/v1/ops/reports lists those that there are")
    kind = KINDS.get(PurePath(chosen).suffix, PLAIN)
    return Response(text, media_type=kind, headers=DRAWN if kind in KINDS.values() else {})


def told(request: Call, topic: str, kind: type[Item], after: int, limit: int) -> Watched[Item]:
    return watcher.paged(watcher.read(request.settings.watched, topic, kind, request.view.wall()), after, limit)


OPS = Router(
    "/api/v1/ops",
    route_handlers=[
        *(checks, flips, alerts, silences, errands, leaks, units, disks, jobs, backups, certificate, machine),
        *(reports, report),
    ],
    tags=["ops"],
)
