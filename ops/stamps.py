"""A stamp is what a job leaves after its work: when, and whether it went well. It is judged, not the schedule."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ops import moment
from ops.config import Settings
from ops.errors import OpsError

FOLDER = "stamps"


class Done(Struct, frozen=True):
    """What came of a job; `found` is for the checks that read its stamp."""

    ok: bool
    what: str
    found: Mapping[str, object] = {}


class Stamp(Struct, frozen=True):
    """A stamp as it is in its file."""

    job: str
    began: datetime
    ended: datetime
    ok: bool
    what: str
    found: Mapping[str, object] = {}


def stamped(job: str, settings: Settings, work: Callable[[], Done]) -> Done:
    """Do the work of a job and write its stamp, also when it failed. A fault of ours is stamped and goes on upwards."""
    began = moment.now()
    done = Done(False, "it ended before its work was done")
    try:
        done = work()
    except (OpsError, OSError) as fault:
        done = Done(False, words(fault))
    finally:
        if unforeseen := sys.exception():  # it goes on upwards, and is stamped on its way
            done = Done(False, f"{type(unforeseen).__name__}: {unforeseen}")
        done = _leave(settings.home / FOLDER, Stamp(job, began, moment.now(), done.ok, done.what, done.found))
    return done


def _leave(folder: Path, stamp: Stamp) -> Done:
    """Write the stamp; without one, the work does not count as done."""
    try:
        write(folder, stamp)
    except OSError as fault:
        return Done(False, f"{stamp.what}; its stamp cannot be written: {words(fault)}", stamp.found)
    return Done(stamp.ok, stamp.what, stamp.found)


def write(folder: Path, stamp: Stamp) -> None:
    """Put a stamp in its place, whole or not at all; every user may read it.

    Users share the folder: what stands where the draft goes may be another's link, which is not written through.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{stamp.job}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    try:
        with draft.open("xb") as file:
            file.write(msgspec.json.encode(stamp))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        draft.replace(folder / f"{stamp.job}.json")
    finally:
        draft.unlink(missing_ok=True)


def read(settings: Settings, job: str) -> Stamp | None:
    """Return the last stamp of a job, None if it never left one. Raise OpsError if it cannot be read."""
    path = settings.home / FOLDER / f"{job}.json"
    try:
        return _stamps.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, OSError) as fault:
        raise OpsError(f"the stamp {path} cannot be read ({fault})") from fault


def words(fault: BaseException) -> str:
    """Say what went wrong in one line."""
    if isinstance(fault, OSError) and fault.strerror:
        return f"{fault.filename}: {fault.strerror}" if fault.filename else fault.strerror
    return str(fault)


_stamps = msgspec.json.Decoder(Stamp)
