"""tradectl fence: which of two machines may trade on an account that was copied from one to the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from app import fence as fences
from app import lease, marker, schemas
from app.cli import tables
from app.cli.client import login_name
from app.cli.ledger import local
from app.cli.process import keep_from_others
from app.cli.tables import Column, count, moment, text, words
from app.clock import LiveClock
from app.errors import StoreError, TimedOut
from app.fence import Ask
from app.store import Store, has_ledger

STOP_SECONDS = 20.0  # how long an engine may take to stop; it looks ten times a second and closes its books
SHOWN = (
    Column("account", "account", text),
    Column("generation", "generation", count),
    Column("highest known", "known", count),
    Column("fenced", "fenced", words),
    Column("why", "why", text),
    Column("by", "who", text),
    Column("since", "since", moment),
    Column("may be lifted", "may", text),
    Column("trouble", "trouble", text),
)
TURNS = (
    Column("at", "at", moment),
    Column("what", "what", text),
    Column("by", "who", text),
    Column("generation", "generation", count),
    Column("why", "why", text),
)
TURNS_SHOWN = 10

above = click.option(
    "--above",
    "--generation",
    "above",
    type=click.IntRange(0),
    default=0,
    help="A generation that is known elsewhere, as by a newer backup.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def fence() -> None:
    """Show, lay or lift the fence that keeps engines from trading here, or take an account over."""


def signed(who_required: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command who asks and why; both are kept."""
    name: dict[str, Any] = {"required": True} if who_required else {"default": login_name, "show_default": "login name"}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @click.option("--why", required=True, help="Why; it is kept.")
        @click.option("--who", help="Who asks for it.", **name)
        @local
        @wraps(function)
        def command(directory: Path, *, who: str, why: str, **options: Any) -> None:
            keep_from_others()
            function(directory, ask=Ask(who, why, LiveClock().now()), **options)

        return command

    return decorate


@fence.command()
@local
def show(directory: Path, as_json: bool) -> None:
    """Show the account's generation, whether the machine is fenced, and what was done to its fence."""
    _tell(directory, as_json)


@fence.command()
@above
@signed()
def lay(directory: Path, as_json: bool, ask: Ask, above: int) -> None:
    """Keep engines from trading here; one that runs closes its books and stops, which is waited for."""
    laid = fences.lay(directory, ask, above)
    if fences.read(directory) != laid:
        said = f" nor that the account goes on in generation {above};" if above else ""
        click.echo(
            f"tradectl: only an empty fence could be laid: it stands, but does not say why;{said} make room (df -h "
            f"{directory}) and lay it again",
            err=True,
        )
    until = time.monotonic() + STOP_SECONDS
    while engine := lease.holder(directory):
        if time.monotonic() > until:
            raise TimedOut(
                f"{directory} is fenced, but its engine (process {engine}) does not stop; end it: kill {engine}"
            )
        time.sleep(0.1)
    _tell(directory, as_json)


@fence.command()
@signed(who_required=True)
def lift(directory: Path, as_json: bool, ask: Ask) -> None:
    """Let engines trade here again; refused where the account is known to live on elsewhere."""
    fences.lift(directory, ask)
    _tell(directory, as_json)


@fence.command()
@above
@signed()
def take(directory: Path, as_json: bool, ask: Ask, above: int) -> None:
    """Make this the machine that has the account, in the generation after every one that is known."""
    held = lease.Lease(directory) if directory.is_dir() else None  # no engine trades while its account changes hands
    try:
        fences.take(directory, ask, above, _recorded(directory))
    finally:
        if held:
            held.release()
    _tell(directory, as_json)


def _recorded(directory: Path) -> str:
    """Return the account's name by its ledger, nothing where the marker says it or there is no ledger."""
    if marker.read(directory) or not has_ledger(directory):
        return ""
    store = Store.read(directory)
    try:
        return store.recover().account
    finally:
        store.close()


def _tell(directory: Path, as_json: bool) -> None:
    """Show how things stand."""
    shown = to_json(directory)
    if as_json:
        tables.emit(shown)
        return
    found = tables.decode(shown)
    tables.facts(found | {"may": _said(found)}, SHOWN)
    if found["history"]:
        tables.say("")
        tables.rows(found["history"][-TURNS_SHOWN:], TURNS, "")


def _said(found: dict[str, Any]) -> str | None:
    """Say whether the fence may be lifted: that nobody said a higher generation is not that there is none."""
    if found["liftable"]:
        return "nobody said a higher generation; only if no other machine has the account"
    return None if found["liftable"] is None else "no"


def to_json(directory: Path) -> bytes:
    """Write down how things stand: the account, its generation, the fence and what was done to it.

    Of a marker that does not read it is told, since a fence stands beside that as well.
    """
    stands, found, own, highest, trouble = fences.stands(directory), None, 0, 0, fences.trouble(directory)
    try:
        found = marker.read(directory)
        own, highest = fences.generation(directory), fences.known(directory)
    except StoreError as fault:
        trouble = trouble or str(fault)
    return schemas.encode(
        {
            "account": found.account if found else None,
            "generation": own if found else None,
            "known": highest or None if found or stands else None,
            "fenced": stands is not None,
            "why": stands.why if stands else None,
            "who": stands.who or None if stands else None,
            "since": stands.at if stands else None,
            "liftable": highest <= own and not trouble if stands else None,
            "trouble": trouble or None,
            "history": fences.history(directory),
        }
    )
