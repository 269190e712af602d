"""The doctor's page: the first thing to do, what is wrong and what mends it, then what each complaint comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from app.cli.diagnosis import Answered, Branch, Diagnosis, Finding
from app.journal import CONTROL

GUIDE = "docs/operations.md"
ALARMING = ("CRITICAL", "UNKNOWN")
STYLES = {"OK": "green", "WARN": "yellow", "CRITICAL": "bold red", "UNKNOWN": "magenta"}
STYLES |= {"blocked": "magenta", "skipped": "dim"}
WIDE = 120  # columns where no terminal sets a limit
INDENT = 9  # the width of a status, and of what stands below it
NAMES, QUESTIONS, STATUSES = 19, 36, 11  # the widths of columns
NOT_ASKED = {"skipped": "not here", "blocked": "not asked"}


def show(found: Diagnosis, every: bool) -> None:
    """Print a diagnosis: the first thing to do, what is wrong in full, and what each complaint comes from."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    for line in _headline(found):
        _put(console, line)
    for one in found.wrong:
        _put(console, Text())
        _wrong(console, one, found.at)
    _put(console, Text())
    for branch in found.trees:
        _tree(console, branch, found.wrong, every)
    _put(console, Text(_age(found), style="dim"))


def _headline(found: Diagnosis) -> Iterator[Text]:
    if not found.wrong:
        yield Text("Nothing is wrong.", style="bold green")
        return
    count = len(found.wrong)
    said = "1 thing is wrong." if count == 1 else f"{count} things are wrong, the worst first."
    yield Text.assemble((said, STYLES[found.status]), " Begin with:" if found.first else "")
    if found.first:
        yield Text()
        yield Text(f"    {found.first}", style="bold")


def _wrong(console: Console, one: Finding, now: datetime) -> None:
    since = f"  (for {span((now - one.since).total_seconds())})" if one.since else ""
    _put(console, Text.assemble((f"{one.status:<9}", STYLES[one.status]), (one.what, "bold"), (since, "dim")))
    _beside(console, Text(" " * INDENT), one.text)
    for word, text, style in (("type", one.mend, "bold"), ("read", one.section and f'{GUIDE}, "{one.section}"', "")):
        if text:
            _put(console, Text.assemble((f"{word:>{INDENT - 2}}  ", "dim"), (text, style)))


def _tree(console: Console, branch: Branch, wrong: Sequence[Finding], every: bool) -> None:
    """Print what a complaint comes from; where that stands above already, its name alone, unless all is asked for."""
    cause = branch.conclusion.partition(":")[0]
    above = not every and any(one.what == cause for one in wrong)
    head = Text.assemble((f"{branch.name:<{NAMES}}", "bold"), _status(branch.status))
    _beside(console, head, f"because of {cause}, see above" if above else branch.conclusion)
    if branch.mend and not above:
        _put(console, Text(f"{'':<{NAMES + STATUSES}}{branch.mend}", style="dim"))
    for step in branch.steps if every else ():
        _beside(console, Text(f"  {step.question:<{QUESTIONS}}").append_text(_status(step.status)), _said(step))


def _put(console: Console, line: Text) -> None:
    """Print a line that is not to be broken: a command is copied."""
    line.plain = CONTROL.sub("?", line.plain)  # the name of a process is its owner's word
    console.print(line, soft_wrap=True)


def _beside(console: Console, head: Text, body: str) -> None:
    """Print a text to the right of its head; what is too long goes on below its beginning."""
    lines = wrap(body, max(console.width - len(head), 40), break_long_words=False, break_on_hyphens=False) or [""]
    _put(console, head.copy().append(lines[0]))
    for line in lines[1:]:
        _put(console, Text(" " * len(head) + line))


def _said(step: Answered) -> str:
    return f"{step.text} (because of {step.because})" if step.because else step.text


def _status(status: str) -> Text:
    return Text(f"{NOT_ASKED.get(status, status):<{STATUSES}}", style=STYLES[status])


def _age(found: Diagnosis) -> str:
    if found.watched_at is None:
        return f"As of {found.at:%Y-%m-%d %H:%M:%S}Z; the watcher has told nothing."
    age = span((found.at - found.watched_at).total_seconds())
    return f"As of {found.at:%Y-%m-%d %H:%M:%S}Z; the watcher looked {age} ago. Each step: tradectl doctor --all"


def span(seconds: float) -> str:
    """Write a length of time in its largest unit."""
    for name, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {name}"
    return f"{max(int(seconds), 0)} s"
