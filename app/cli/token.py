"""`tradectl token`: a new token for a caller from outside this machine."""

from __future__ import annotations

import click
import msgspec

from app import tokens
from app.cli import tables
from app.tokens import SCOPES, Scope


@click.command()
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="What it may do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def token(name: str, scopes: tuple[Scope, ...], as_json: bool) -> None:
    """Make a token, NAME being who will use it; a caller from outside this machine shows it with each request.

    It is shown this once and kept nowhere. The API knows it by its line in API_TOKENS, which holds a hash of it, and
    reads that setting when it starts. Repeat --scope for more; trade and ops include read.
    """
    made, entry = tokens.make(name, scopes)
    if as_json:
        tables.emit(msgspec.json.encode({"name": name, "token": made, "entry": entry}))
        return
    click.echo(f"token, shown this once:\n  {made}")
    click.echo(f"line to add to API_TOKENS (in the vault: trading_secrets.API_TOKENS):\n  {entry}")
    click.echo("the API knows it once it is started again, or deployed")
