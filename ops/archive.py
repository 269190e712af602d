"""The reports that were made, kept in files: `<OPS_DATA_DIR>/reports/JOB-DATE.{json,txt,html,png}`.

A report of the same job and day takes the place of the one before. `index.json` names those that there are, so that a
reader need not open them all; it is made from the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ops.config import Settings
from ops.errors import OpsError

FOLDER, INDEX = "reports", "index.json"
NAME = re.compile(r"(?P<job>[a-z]+)-(?P<date>\d{4}-\d\d-\d\d)")
KINDS = (".json", ".txt", ".html", ".png")


class Item(Struct, frozen=True):
    """A report that is kept; `files` are names below the folder."""

    job: str
    at: datetime
    title: str
    files: tuple[str, ...]


class _Head(Struct, frozen=True):
    """What is read of a report's own file."""

    job: str
    at: datetime
    title: str


def name_of(job: str, at: datetime) -> str:
    return f"{job}-{at.astimezone(UTC):%Y-%m-%d}"


def archive(settings: Settings) -> list[Item]:
    """Return the reports that there are, the newest first. Raise OpsError if that cannot be read."""
    folder = settings.home / FOLDER
    try:
        return _items.decode((folder / INDEX).read_bytes())
    except FileNotFoundError:
        return _listing(folder)
    except (OSError, msgspec.MsgspecError) as fault:
        raise OpsError(
            f"{folder / INDEX} cannot be read ({fault}); remove it, the next report makes it anew"
        ) from fault


def decode(data: bytes) -> dict[str, Any]:
    """Read a report as it is kept for programs, its numbers exact. Raise MsgspecError for anything else."""
    return msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(data)


def last(settings: Settings, job: str) -> dict[str, Any] | None:
    """Return the newest report of a job, None if none is kept. Raise OpsError if it cannot be read."""
    item = next((one for one in archive(settings) if one.job == job), None)
    if item is None:
        return None
    path = settings.home / FOLDER / f"{name_of(job, item.at)}.json"
    try:
        return decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError) as fault:
        raise OpsError(f"{path} cannot be read ({fault})") from fault


def put(settings: Settings, name: str, contents: Mapping[str, bytes]) -> Path:
    """Keep a report, by the endings of its files, each written whole or not at all; the oldest beyond the limit go.

    Raise OSError if it cannot be kept. Every user may read them: the API does.
    """
    folder = settings.home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for kind in KINDS:
        if kind in contents:
            _write(folder, f"{name}{kind}", contents[kind])
        else:
            (folder / f"{name}{kind}").unlink(missing_ok=True)
    _prune(folder, settings.ops_reports_kept)
    _write(folder, INDEX, msgspec.json.encode(_listing(folder)))
    return folder / name


def find(settings: Settings, name: str) -> Path:
    """Return a report's path without an ending: by its whole name, or the newest of a job; none given, of all.

    Raise OpsError if there is none.
    """
    kept = archive(settings)
    names = [Path(one.files[0]).stem for one in kept if one.files]
    fitting = [one for one in names if not name or one == name or one.partition("-")[0] == name]
    if not fitting:
        there = (
            f"there are {', '.join(names[:8])}"
            if names
            else "none was made yet; make one: sudo tradectl report --new morning"
        )
        raise OpsError(f"there is no report {name!r}; {there}" if name else f"there is no report: {there}")
    return settings.home / FOLDER / fitting[0]


def _listing(folder: Path) -> list[Item]:
    """Read the heads of all reports. One that cannot be read is left out: its page may be there all the same."""
    items = []
    for path in folder.glob("*.json"):
        if not NAME.fullmatch(path.stem):
            continue
        try:
            head = _head.decode(path.read_bytes())
        except (OSError, msgspec.MsgspecError):
            continue
        files = tuple(f"{path.stem}{kind}" for kind in KINDS if path.with_suffix(kind).exists())
        items.append(Item(head.job, head.at, head.title, files))
    return sorted(items, key=lambda one: one.at, reverse=True)


def _prune(folder: Path, kept: int) -> None:
    """Remove the oldest reports of each job beyond so many."""
    names: dict[str, list[str]] = {}
    for path in folder.iterdir():
        match = NAME.fullmatch(path.stem)
        if match and path.suffix in KINDS:
            names.setdefault(match["job"], []).append(path.stem)
    for found in names.values():
        for old in sorted(set(found))[:-kept]:
            _remove(folder, old, KINDS)


def _remove(folder: Path, name: str, kinds: Sequence[str]) -> None:
    for kind in kinds:
        (folder / f"{name}{kind}").unlink(missing_ok=True)


def _write(folder: Path, name: str, data: bytes) -> None:
    draft = folder / f".{name}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        draft.replace(folder / name)
    finally:
        draft.unlink(missing_ok=True)


_items, _head = msgspec.json.Decoder(list[Item]), msgspec.json.Decoder(_Head)
