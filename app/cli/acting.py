"""The commands that change something: each is a command to the engine, with who and why, written in the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from app import config, lease, schemas
from app.address import api_address
from app.cli import tables
from app.cli.client import Client, login_name, remote
from app.cli.words import number
from app.control import lay_halt
from app.errors import NotRunning, StoreError, TimedOut
from app.store import Store, has_ledger

FILE_SECONDS = 5.0  # how long the engine may take to see the halt file; it looks ten times a second


def steering(reason_required: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command what every change needs: who asks, why, and where to send it."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @click.option("--reason", required=reason_required, help="Why; it is kept in the ledger.")
        @click.option("--who", default=login_name, show_default="login name", help="Who asks for it.")
        @remote
        @wraps(function)
        def command(client: Client, **options: Any) -> None:
            function(client, **options)

        return command

    return decorate


@click.command()
@click.option("--initial-capital", type=number, help="Cash of a new account; an existing one keeps its own.")
@steering()
def start(client: Client, as_json: bool, who: str, reason: str | None, initial_capital: Decimal | None) -> None:
    """Resume trading after a stop. A halt has to be released first (exit code 7)."""
    capital = None if initial_capital is None else float(initial_capital)
    _ask(client, "start", as_json, who=who, reason=reason, initial_capital=capital)


@click.command()
@steering()
def stop(client: Client, as_json: bool, who: str, reason: str | None) -> None:
    """Stop trading: no order leaves, not even a protective one; positions are kept. A halt keeps them guarded."""
    _ask(client, "stop", as_json, who=who, reason=reason)


@click.command()
@steering()
def halt(client: Client, as_json: bool, who: str, reason: str | None) -> None:
    """Halt trading until it is released: the kill switch.

    Where the API does not answer, a file in the data directory does the same; the engine sees it at once, or when it
    starts.
    """
    try:
        _ask(client, "halt", as_json, who=who, reason=reason)
    except (NotRunning, TimedOut, StoreError) as dead:
        settings = config.load()
        if client.url != api_address(settings) or not settings.directory.is_dir():
            raise
        click.echo(f"tradectl: {dead}", err=True)
        _tell(_halt_by_file(settings.directory, f"{who}: {reason or 'no reason given'}"), as_json)


@click.command()
@steering(reason_required=True)
def release(client: Client, as_json: bool, who: str, reason: str) -> None:
    """Release a halt, saying why it is safe to trade again."""
    _ask(client, "release", as_json, who=who, reason=reason)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@steering()
def flatten(client: Client, as_json: bool, who: str, reason: str | None, yes: bool) -> None:
    """Stop trading and close every position at the market."""
    if not yes:
        click.confirm("Close every position at the market's price?", abort=True, err=True)
    _ask(client, "flatten", as_json, who=who, reason=reason)


@click.command()
@click.argument("amount", type=number)
@steering()
def deposit(client: Client, as_json: bool, who: str, reason: str | None, amount: Decimal) -> None:
    """Pay cash into a paper account; it counts as no profit."""
    _ask(client, "deposit", as_json, who=who, reason=reason, amount=float(amount))


@click.command()
@click.argument("amount", type=number)
@steering()
def withdraw(client: Client, as_json: bool, who: str, reason: str | None, amount: Decimal) -> None:
    """Take cash out of a paper account; it counts as no loss."""
    _ask(client, "withdraw", as_json, who=who, reason=reason, amount=float(amount))


@click.command()
@click.argument("name")
@steering()
def enable(client: Client, as_json: bool, who: str, reason: str | None, name: str) -> None:
    """Let the strategy NAME trade again."""
    _ask(client, f"strategies/{quote(name, safe='')}/enable", as_json, who=who, reason=reason)


@click.command()
@click.argument("name")
@steering()
def disable(client: Client, as_json: bool, who: str, reason: str | None, name: str) -> None:
    """Let the strategy NAME enter no more positions; it may still leave those it has."""
    _ask(client, f"strategies/{quote(name, safe='')}/disable", as_json, who=who, reason=reason)


def _ask(client: Client, what: str, as_json: bool, **body: Any) -> None:
    _tell(client.post(f"/api/v1/trading/{what}", body), as_json)


def _tell(answer: bytes, as_json: bool) -> None:
    """Show what came of a command; a refusal was raised before it could become an answer."""
    tables.emit(answer) if as_json else tables.say(tables.decode(answer)["message"])


def _halt_by_file(directory: Path, text: str) -> bytes:
    """Lay the halt file, and wait until the ledger says that a running engine obeyed."""
    path = lay_halt(directory, text)
    engine = lease.holder(directory)
    if engine is None:
        return _answer(f"no engine runs; the next one to start is halted by {path}")
    until = time.monotonic() + FILE_SECONDS
    while not _halted(directory):
        if time.monotonic() > until:
            raise TimedOut(f"{path} is laid, but the engine says nothing of it yet; end it: kill {engine}")
        time.sleep(0.1)
    return _answer(f"trading is halted by {path} until it is released; exits stay possible")


def _halted(directory: Path) -> bool:
    if not has_ledger(directory):
        return False
    store = Store.read(directory)
    try:
        return store.recover().halted is not None
    finally:
        store.close()


def _answer(message: str) -> bytes:
    return schemas.encode(schemas.CommandAnswer(0, "halt", True, message, "halted"))
