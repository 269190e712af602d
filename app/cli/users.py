"""`tradectl user`: who may sign in on the page. It writes beside the ledger; the page knows it at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
import msgspec

from app import config, passwords
from app.cli import tables
from app.cli.client import login_name
from app.cli.process import begin_change
from app.cli.tables import Column
from app.clock import format_time
from app.errors import InputError
from app.signins import Asker, SignIns, spoken
from app.tokens import SCOPES, Scope

HERE = "tradectl"  # where a change comes from, in the audit
USERS = (
    Column("name", "name", tables.text),
    Column("roles", "roles", tables.words),
    Column("made", "made", tables.moment),
    Column("last sign-in", "last_sign_in", tables.moment),
    Column("sessions", "sessions", tables.count),
    Column("has to wait", "waits", tables.text),
)
SESSIONS = (
    Column("number", "id", tables.text),
    Column("who", "who", tables.text),
    Column("from", "address", tables.text),
    Column("since", "made", tables.moment),
    Column("last used", "used", tables.moment),
    Column("ends", "ends", tables.moment),
    Column("browser", "agent", tables.text),
)
TOKENS = (
    Column("name", "name", tables.text),
    Column("scopes", "scopes", tables.words),
    Column("last day", "last", tables.text),
)
EVENTS = (
    Column("when", "at", tables.moment),
    Column("what", "what", tables.text),
    Column("whose", "name", tables.text),
    Column("by", "by", tables.text),
    Column("from", "address", tables.text),
    Column("more", "detail", tables.text),
)

role_option = click.option(
    "--role",
    "roles",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What they may do; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def user() -> None:
    """Who may sign in on the page, who is signed in, and what happened at the door.

    Roles are read (look), trade (start, stop, halt, release) and ops (alerts, and who is signed in); trade and ops
    include read. Changes hold at once.
    """


def at_the_door(function: Callable[..., None]) -> Callable[..., None]:
    """Call a command with the sign-ins of this machine, and who types."""

    @wraps(function)
    def command(**options: Any) -> None:
        settings = config.load()
        begin_change("user", settings)
        sign_ins = SignIns(settings.users)
        try:
            function(sign_ins, Asker(HERE, login_name()), **options)
        finally:
            sign_ins.close()

    return command


@user.command()
@click.argument("name")
@role_option
@click.option("--generate", is_flag=True, help="Make the password up and show it once.")
@json_option
@at_the_door
def add(sign_ins: SignIns, asker: Asker, name: str, *, roles: tuple[Scope, ...], generate: bool, as_json: bool) -> None:
    """Add somebody. The password is asked for; if nobody can be asked, it is read from the first line of input."""
    password = _password(generate)
    sign_ins.add_user(name, roles, password, asker)
    _tell(f"{name} may sign in now", as_json, password if generate else "")


@user.command("list")
@json_option
@at_the_door
def list_users(sign_ins: SignIns, _: Asker, as_json: bool) -> None:
    """List who may sign in."""
    last, open_now = sign_ins.last_sign_ins(), sign_ins.sessions()
    found = []
    for one in sign_ins.people.read().users:
        wait = sign_ins.waits(one.name)
        at = last.get(one.name)
        found.append(
            {
                "name": one.name,
                "roles": list(one.roles),
                "made": format_time(one.made),
                "last_sign_in": format_time(at) if at else None,
                "sessions": sum(session.name == one.name for session in open_now),
                "waits": spoken(wait) if wait else None,
            }
        )
    _table(found, USERS, "nobody may sign in yet; tradectl user add NAME --role trade --role ops", as_json)


@user.command()
@click.argument("name")
@click.option("--generate", is_flag=True, help="Make the password up and show it once.")
@json_option
@at_the_door
def passwd(sign_ins: SignIns, asker: Asker, name: str, generate: bool, as_json: bool) -> None:
    """Give somebody another password; all their sessions and screens end."""
    sign_ins.people.read().known(name)
    password = _password(generate)
    sign_ins.set_password(name, password, asker)
    _tell(f"{name} has another password; every session of theirs has ended", as_json, password if generate else "")


@user.command()
@click.argument("name")
@role_option
@json_option
@at_the_door
def roles(sign_ins: SignIns, asker: Asker, name: str, roles: tuple[Scope, ...], as_json: bool) -> None:
    """Give somebody these roles and no others."""
    sign_ins.set_roles(name, roles, asker)
    _tell(f"{name} has the roles {', '.join(sign_ins.people.read().known(name).roles)} now", as_json)


@user.command()
@click.argument("name")
@json_option
@at_the_door
def remove(sign_ins: SignIns, asker: Asker, name: str, as_json: bool) -> None:
    """Remove somebody; all their sessions end, and the screens that they let in."""
    sign_ins.remove_user(name, asker)
    _tell(f"{name} may not sign in any more", as_json)


@user.command()
@click.argument("name")
@json_option
@at_the_door
def unlock(sign_ins: SignIns, asker: Asker, name: str, as_json: bool) -> None:
    """Let somebody try again at once, who guessed wrong too often."""
    sign_ins.unlock(name, asker)
    _tell(f"{name} may try again", as_json)


@user.command()
@json_option
@at_the_door
def sessions(sign_ins: SignIns, _: Asker, as_json: bool) -> None:
    """List who is signed in now, screens too."""
    found = [{**msgspec.to_builtins(one), "who": one.who} for one in sign_ins.sessions()]
    _table(found, SESSIONS, "nobody is signed in", as_json)


@user.command()
@click.argument("name", required=False)
@click.option("--session", "number", type=int, help="End this one alone; see tradectl user sessions.")
@json_option
@at_the_door
def end(sign_ins: SignIns, asker: Asker, name: str | None, number: int | None, as_json: bool) -> None:
    """End all sessions of NAME, and the screens they let in; or one by its number."""
    if number is not None:
        sign_ins.end(number, asker, name)
        _tell(f"session {number} has ended", as_json)
    elif name is not None:
        _tell(f"{sign_ins.end_all(name, asker)} sessions of {name} have ended", as_json)
    else:
        raise click.UsageError("say whose sessions: tradectl user end NAME, or --session NUMBER")


@user.command("tokens")
@json_option
@at_the_door
def list_tokens(sign_ins: SignIns, _: Asker, as_json: bool) -> None:
    """List the tokens that were made on this machine; those of API_TOKENS stand in that setting."""
    found = [
        {"name": one.name, "scopes": sorted(one.scopes), "last": one.last and one.last.isoformat()}
        for one in sign_ins.tokens()
    ]
    _table(found, TOKENS, "none was made on this machine; make one: tradectl token NAME --scope read --here", as_json)


@user.command()
@click.option("--limit", default=50, type=click.IntRange(1, 1000), help="How many at most.")
@json_option
@at_the_door
def history(sign_ins: SignIns, _: Asker, limit: int, as_json: bool) -> None:
    """Tell what happened at the door: sign-ins, refusals, lockouts, tokens made and revoked; the newest first."""
    _table([msgspec.to_builtins(one) for one in sign_ins.events(limit)], EVENTS, "nothing happened yet", as_json)


def _table(found: list[dict[str, Any]], columns: Any, none: str, as_json: bool) -> None:
    if as_json:
        tables.emit(msgspec.json.encode(found))
    else:
        tables.rows(found, columns, none)


def _password(generate: bool) -> str:
    """Return a password: made up, typed twice, or the first line of what is piped in."""
    if generate:
        return passwords.made_up()
    if sys.stdin.isatty():
        return str(click.prompt("password", hide_input=True, confirmation_prompt="once more"))
    given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise InputError("there is nobody to ask for a password here; pipe it in, or use --generate")
    return given


def _tell(done: str, as_json: bool, made_up: str = "") -> None:
    """Tell what was done, and the password that was made up for it: it is shown this once."""
    if as_json:
        tables.emit(msgspec.json.encode({"message": done, **({"password": made_up} if made_up else {})}))
        return
    click.echo(done)
    if made_up:
        click.echo(f"password, shown this once:\n  {made_up}")
