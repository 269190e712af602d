"""tradectl doctor: tries things out and says what is wrong with them, before they matter."""

from __future__ import annotations

import asyncio
import os
import sys

import click
import msgspec

from app import __version__, config, lease
from app.cli import tables
from app.cli.tables import Column, text
from app.clock import LiveClock
from app.config import Settings
from app.errors import ConfigurationError
from app.feed.line import client
from app.feed.providers import PROVIDERS, fitting_setup, plan_of, source_of
from app.feed.trial import Finding, Trial

NOT_FOR_OTHERS = 0o027  # taken from the permissions of what is made: it may be the first to make DATA_DIR
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
    os.umask(os.umask(0o077) | NOT_FOR_OTHERS)
    findings = [*asyncio.run(_try_all(settings)), *_try_settings(settings)]
    answer = msgspec.json.encode(findings)
    tables.emit(answer) if as_json else tables.rows(tables.decode(answer), FINDING, "nothing was tried")
    sys.exit(any(one.outcome == "failed" for one in findings))


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
