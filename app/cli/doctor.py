"""tradectl doctor: tries things out and says what is wrong with them, before they matter."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec

from app import __version__, config, lease, live
from app.cli import tables
from app.cli.process import keep_from_others
from app.cli.tables import Column, text
from app.clock import LiveClock
from app.config import CREDENTIALS, FIELDS, SECRETS, Settings, public_settings
from app.errors import ConfigurationError
from app.feed.line import client
from app.feed.providers import PROVIDERS, fitting_setup, plan_of, source_of
from app.feed.trial import Finding, Trial
from app.tokens import Token, read_tokens

FINDING = (
    Column("provider", "provider", text),
    Column("what", "what", text),
    Column("outcome", "outcome", text),
    Column("", "text", text),
)


@click.group()
def doctor() -> None:
    """Try things out, and say what is wrong with them."""


@doctor.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def providers(as_json: bool) -> None:
    """Try the keys: taken, entitled, clock, credits; it costs two credits for each kind of symbol.

    The socket is tried only while no engine runs here, since a provider allows one at a time. Exit code 0 says that
    everything that a plan includes works, 1 that something failed, 4 that no key is set.
    """
    settings = config.load()
    if not settings.keys:
        wanted = " or ".join(f"{name.upper()}_API_KEY" for name in PROVIDERS)
        raise ConfigurationError(f"no provider has a key, so there is nothing to try; set {wanted}")
    keep_from_others()  # this may be the first to make DATA_DIR
    findings = [*asyncio.run(_try_all(settings)), *_try_settings(settings)]
    answer = msgspec.json.encode(findings)
    tables.emit(answer) if as_json else tables.rows(tables.decode(answer), FINDING, "nothing was tried")
    sys.exit(any(one.outcome == "failed" for one in findings))


@doctor.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def settings(file: Path | None, as_json: bool) -> None:
    """Read the settings as a start would, and show what would be used; no secret is shown.

    FILE has KEY=value lines like .env, and alone counts then, with the credentials; else environment and .env do.
    Nothing is changed or asked of anyone. Exit code 0 says that a start would take them, 4 that it would not, and why.
    """
    chosen = _read_settings(file)
    refuse_unusable(chosen)
    answer = msgspec.json.encode(shown_settings(chosen))
    if as_json:
        tables.emit(answer)
        return
    record = tables.decode(answer)
    tables.facts(record, [Column(key, key, text) for key in record])


def refuse_unusable(chosen: Settings) -> None:
    """Raise ConfigurationError for what reads well, but no engine or API would start with."""
    live.refuse_real_money(chosen)
    live.desks(chosen, chosen.symbols)
    if not chosen.simulated:
        fitting_setup(chosen, chosen.symbols, LiveClock())
    read_tokens(chosen.api_tokens)


def shown_settings(chosen: Settings) -> dict[str, str]:
    """Return all settings as text: of a secret only whether it is set, of an address only where it leads."""
    public = public_settings(chosen)
    secrets = {name: "set" if getattr(chosen, FIELDS[name]) else "not set" for name in SECRETS}
    tokens = ", ".join(_described(token) for token in read_tokens(chosen.api_tokens))
    known = {**public, **secrets, "MARKET_DATA": "simulated" if chosen.simulated else "live"}
    if tokens:
        known["API_TOKENS"] = tokens
    return {key: known[key] if key in known else _place(getattr(chosen, field)) for key, field in FIELDS.items()}


def _read_settings(file: Path | None) -> Settings:
    if file is None:
        return config.load()
    if not file.exists():
        raise ConfigurationError(f"{file} does not exist; name a file of KEY=value lines")
    return config.load({name: value for name, value in os.environ.items() if name == CREDENTIALS}, file)


def _described(token: Token) -> str:
    return f"{token.name} ({'+'.join(sorted(token.scopes))})"


def _place(address: str) -> str:
    """Return an address without user, password, path and query, which may hold secrets."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""


def _try_settings(settings: Settings) -> list[Finding]:
    """Say why the engine would refuse to start with these settings, nothing if it would not."""
    try:
        fitting_setup(settings, settings.symbols, LiveClock())
    except ConfigurationError as fault:
        return [Finding("all", "settings", "failed", str(fault))]
    return []


async def _try_all(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    busy = settings.directory.is_dir() and lease.holder(settings.directory) is not None
    async with client(settings.httpx_pool_connections, settings.httpx_pool_maxsize, __version__) as web:
        for name in settings.keys:
            clock = LiveClock()
            source = source_of(settings, plan_of(settings, name), clock, settings.directory, web)
            trial = Trial(source.provider, source.plan, source.budget, settings.symbols, clock)
            found += await trial.questions(settings.bar_interval)
            if busy:
                found.append(Finding(name, "socket", "unknown", "the running engine has it: tradectl providers"))
            elif found[-1].what != "key":
                found.append(await trial.socket())
            found += [trial.clock(), trial.credits()]
    return found
