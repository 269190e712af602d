"""tradectl doctor: what is wrong now and how to mend it; its subcommands try single things before they matter."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from app import __version__, config, lease
from app.cli import page, tables
from app.cli.diagnosis import diagnose
from app.cli.patient import Patient
from app.cli.process import keep_from_others
from app.cli.settling import read_settings, refuse_unusable, shown_settings
from app.cli.tables import Column, text
from app.cli.trees import TREES
from app.clock import LiveClock
from app.config import Settings
from app.errors import ConfigurationError
from app.feed.line import client
from app.feed.providers import PROVIDERS, fitting_setup, plan_of, source_of
from app.feed.trial import Finding, Trial

FINDING = (
    Column("provider", "provider", text),
    Column("what", "what", text),
    Column("outcome", "outcome", text),
    Column("", "text", text),
)


@click.group(invoke_without_command=True)
@click.option("--all", "every", is_flag=True, help="Show each step of each tree, also where nothing is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, every: bool, as_json: bool) -> None:
    """Say what is wrong now and how to mend it, the worst first.

    It goes through the troubleshooting trees of docs/operations.md, asks API, engine, Redis and this machine for itself
    as far as they answer, and reads what the watcher found. Exit code 0: nothing is CRITICAL or UNKNOWN, 1: something
    is. Its subcommands try single things.
    """
    if context.invoked_subcommand is not None:
        return
    found = diagnose(TREES, Patient(config.load(), LiveClock().now()))
    tables.emit(msgspec.json.encode(found)) if as_json else page.show(found, every)
    sys.exit(found.status in page.ALARMING)


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
    chosen = read_settings(file)
    refuse_unusable(chosen)
    answer = msgspec.json.encode(shown_settings(chosen))
    if as_json:
        tables.emit(answer)
        return
    record = tables.decode(answer)
    tables.facts(record, [Column(key, key, text) for key in record])


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
