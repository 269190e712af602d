"""`tradectl token`: a token for a caller from outside this machine, made or revoked."""

from __future__ import annotations

from datetime import date, timedelta

import click
import msgspec

from app import config, tokens
from app.cli import tables
from app.cli.client import login_name
from app.cli.process import begin_change
from app.clock import LiveClock
from app.signins import Asker, SignIns
from app.tokens import SCOPES, Scope


@click.command()
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="What it may do.")
@click.option("--days", type=click.IntRange(1, 3650), help="For so many days, the last one whole; else without end.")
@click.option("--here", is_flag=True, help="Make it known on this machine at once, without API_TOKENS.")
@click.option("--revoke", is_flag=True, help="Revoke the token NAME that was made with --here, at once.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def token(*, name: str, scopes: tuple[Scope, ...], days: int | None, here: bool, revoke: bool, as_json: bool) -> None:
    """Make a token, NAME being who will use it; a caller from outside this machine shows it with each request.

    It is shown this once and kept nowhere. The API knows it by its line in API_TOKENS, which holds a hash of it, and
    reads that setting when it starts; with --here that line is kept on this machine. Repeat --scope for more; trade
    and ops include read.
    """
    if revoke:
        _revoke(name)
        return
    if not scopes:
        raise click.UsageError("say what it may do: --scope read, trade or ops")
    last = LiveClock().now().date() + timedelta(days=days) if days else None
    made, entry = (_make_here(name, scopes, last), None) if here else tokens.make(name, scopes, last)
    if as_json:
        told = {"name": name, "token": made, "entry": entry, "last": last}
        tables.emit(msgspec.json.encode({key: value for key, value in told.items() if value is not None}))
        return
    click.echo(f"token, shown this once:\n  {made}")
    if entry:
        click.echo(f"line to add to API_TOKENS (in the vault: trading_secrets.API_TOKENS):\n  {entry}")
        click.echo("the API knows it once it is started again, or deployed")
    else:
        click.echo(f"the API knows it now; to revoke it: tradectl token {name} --revoke")
    if last:
        click.echo(f"its last day is {last.isoformat()}, in UTC")


def _make_here(name: str, scopes: tuple[Scope, ...], last: date | None) -> str:
    sign_ins, asker = _door()
    try:
        return sign_ins.make_token(name, scopes, last, asker)
    finally:
        sign_ins.close()


def _revoke(name: str) -> None:
    sign_ins, asker = _door()
    try:
        sign_ins.revoke_token(name, asker)
    finally:
        sign_ins.close()
    click.echo(f"the token {name} is not known any more")


def _door() -> tuple[SignIns, Asker]:
    settings = config.load()
    begin_change("user", settings)
    return SignIns(settings.users), Asker("tradectl", login_name())
