"""The jobs `morning`, `evening`, `weekly` and `monthly`: how things are, for people who look once a day.

Each section is made behind a wall: what cannot be read is said, and a report is sent in any case, since its absence is
news as well. It goes out as a page to mail and as plain text to everybody else, and is kept in files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
import msgspec

from ops import alerts, config, facts, moment, report_change, report_machine, report_trading, report_upkeep
from ops.archive import Item, archive, decode, find, last, name_of, put
from ops.channel import open_channel
from ops.config import Settings
from ops.errors import OpsError
from ops.facts import Sight
from ops.memory import Memory, Message, open_memory
from ops.reportform import Report, Section, text, unknown
from ops.reportpage import page
from ops.stamps import Done, stamped, words

__all__ = ["Item", "archive"]

TAG = "report"
LONG = 60_000  # characters of the text; far more than a chat takes, far less than a mistake makes
# What an answer raises that is not what it should be.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
Make = Callable[[Sight], Section]
DAILY: tuple[tuple[str, Make], ...] = (
    ("Checks", report_machine.checks),
    ("Alerts", report_machine.alerts),
    ("Jobs", report_machine.jobs),
    ("Safety copies", report_machine.copies),
)
ROUTINES: dict[str, tuple[tuple[str, Make], ...]] = {
    "morning": (
        ("Trading", report_trading.trading),
        ("Account", report_trading.account),
        ("Positions", report_trading.positions),
        ("Open orders", report_trading.orders),
        ("Performance", report_trading.performance),
        ("Errors", report_machine.errors),
        ("Machine", report_machine.machine),
        *DAILY,
    ),
    "evening": (
        ("Trading", report_trading.trading),
        ("Account", report_trading.account),
        ("Performance", report_trading.performance),
        ("Strategies", report_trading.strategies),
        ("Trades", report_trading.trades),
        ("Positions", report_trading.positions),
        ("Redis", report_machine.save),
        ("Errors", report_machine.errors),
        ("Logs", report_machine.logs),
        *DAILY,
    ),
    "weekly": (
        ("Trading", report_trading.trading),
        ("Account", report_trading.account),
        ("Performance", report_trading.performance),
        ("Strategies", report_trading.strategies),
        ("Equity", report_trading.equity),
        ("Safety copies", report_upkeep.backup_now),
        ("Certificate", report_upkeep.renewal),
        ("Updates", report_upkeep.updates),
        ("Channels of alerts", report_upkeep.channels),
        ("Machine", report_machine.machine),
        *DAILY[:3],
    ),
    "monthly": (
        ("Performance", report_trading.performance),
        ("Equity", report_trading.equity),
        ("Month by month", report_trading.months),
        ("Strategies", report_trading.strategies),
        ("Account", report_trading.account),
        ("Trading", report_trading.trading),
        ("Machine", report_machine.machine),
        *DAILY,
    ),
}


def _command(job: str, about: str) -> click.Command:
    def run() -> None:
        settings = config.load()
        done = stamped(job, settings, lambda: work(job, settings, moment.now()))
        if not done.ok:
            raise OpsError(f"there is no {job} report: {done.what}")
        click.echo(done.what)

    return click.Command(job, callback=run, help=about)


morning = _command("morning", "Report how the night was.")
evening = _command("evening", "Report how the day was.")
weekly = _command("weekly", "Report how the week was.")
monthly = _command("monthly", "Report how the calendar month before was.")


def work(job: str, settings: Settings, now: datetime) -> Done:
    """Make a report, keep it, and send it; where nobody wants reports, print it."""
    memory = open_memory(settings)
    try:
        report = compose(job, memory, settings, now)
        report, kept = _keep(report, settings)
        found: dict[str, object] = {"verdict": report.verdict, "status": report.status, "files": kept}
        channel = open_channel(settings.apprise)
        if not channel.fault and not channel.receivers([TAG]):
            click.echo(text(report))
            return Done(True, f"the {job} report was printed, nobody is to get reports: {report.verdict}", found)
        memory.post(_message(report, kept))
        sent = alerts.deliver(memory, settings, moment.now())
    finally:
        memory.close()
    fate = "was sent" if not sent.waiting else "is kept, it is tried again"
    found |= {"sent": sent.sent, "waiting": sent.waiting}
    return Done(True, f"the {job} report {fate}: {report.verdict}", found)


def compose(job: str, memory: Memory, settings: Settings, now: datetime) -> Report:
    """Make all sections of a report, and before them what is otherwise than in the last one."""
    sight = Sight(job, settings, memory, now, facts.span(job, now))
    sections = tuple(_section(title, make, sight) for title, make in ROUTINES[job])
    report = Report(job, now, alerts.host(settings), sight.span.text, sections)

    def change(sight: Sight) -> Section:
        before = facts.known(lambda: last(settings, job))
        return report_change.section(decode(as_json(report)), before, now)

    return msgspec.structs.replace(report, sections=(_section(report_change.TITLE, change, sight), *sections))


def _section(title: str, make: Make, sight: Sight) -> Section:
    try:
        return make(sight)
    except (OpsError, OSError, *UNREADABLE) as fault:  # the other sections are told all the same
        why = words(fault) if isinstance(fault, OpsError | OSError) else f"{fault} ({type(fault).__name__})"
        return Section(title, (unknown("this section", why),))


def _keep(report: Report, settings: Settings) -> tuple[Report, str]:
    """Keep a report in files; return it, with what hindered that in it, and its path without an ending."""
    try:
        return report, str(put(settings, name_of(report.job, report.at), contents(report)))
    except OSError as fault:
        lost = Section("This report", (unknown("in the archive", f"it could not be kept: {words(fault)}"),))
        return msgspec.structs.replace(report, sections=(*report.sections, lost)), ""


def contents(report: Report) -> dict[str, bytes]:
    """Write a report in each of its forms, by the endings of their files."""
    pictures = [one.picture.png for one in report.sections if one.picture]
    forms = {".json": as_json(report), ".txt": f"{text(report)}\n".encode(), ".html": page(report).encode()}
    return forms | ({".png": pictures[0]} if pictures else {})


def as_json(report: Report) -> bytes:
    """Write what a program wants of a report: its lines, and the facts as they were read, numbers exact."""
    head: dict[str, Any] = {
        **{"job": report.job, "at": moment.iso(report.at), "title": report.title, "host": report.where},
        **{"about": report.about, "status": report.status, "verdict": report.verdict},
    }
    sections = [
        {
            **{"title": one.title, "status": one.status, "lines": one.lines},
            **{"table": one.table, "values": one.values},
        }
        for one in report.sections
    ]
    return msgspec.json.Encoder(decimal_format="number").encode({**head, "sections": sections})


def _message(report: Report, kept: str) -> Message:
    body = text(report)
    title = f"{report.where}: {report.title}"
    return Message(report.at, (TAG,), "info", title, body[:LONG], page=f"{kept}.html" if kept else "")


# -- reading one again --------------------------------------------------------------------------------------------


@click.command("report")
@click.argument("name", default="")
@click.option("--list", "listed", is_flag=True, help="List the reports that there are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, listed: bool, as_json: bool) -> None:
    """Print a report that was made: NAME is one of --list, or a job for its newest; without one, the newest of all."""
    settings = config.load()
    if listed:
        kept = archive(settings)
        click.echo(msgspec.json.encode(kept).decode() if as_json else _listed(kept))
        return
    path = find(settings, name).with_suffix(".json" if as_json else ".txt")
    try:
        sys.stdout.write(path.read_text())
    except OSError as fault:
        raise OpsError(f"the report cannot be read: {words(fault)}") from fault


def _listed(kept: list[Item]) -> str:
    rows = [f"{one.files[0].rpartition('.')[0]:<20} {moment.told(one.at)}  {one.title}" for one in kept]
    return "\n".join(rows) or "No report was made yet."
