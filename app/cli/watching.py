"""The watcher's jobs as commands of tradectl: each becomes `python -m ops JOB`, with its exit codes and its output."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

import click
import msgspec

from app import config, errands
from app.cli import tables
from app.cli.client import login_name

REPORTS = ("morning", "evening", "weekly", "monthly")
# What is typed behind a command is the job's, and so is its help.
PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def job(name: str, text: str, signed: bool = False, own_json: bool = False) -> click.Command:
    """Return the command of a job; what is typed behind it is the job's.

    `signed`: it wants to know by whom. `own_json`: it can answer in JSON itself.
    """

    @click.command(name, help=text, context_settings=PASSED_ON)
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def command(words: tuple[str, ...], as_json: bool) -> None:
        said = [*words, *(_signature(words) if signed else [])]
        if as_json and not own_json:
            tell(name, said)
        become(name, [*said, *(["--json"] if as_json else [])])

    return command


def become(name: str, words: list[str]) -> NoReturn:
    """Go on as the watcher's program: nothing of tradectl is left, and nothing comes between it and who asked."""
    told = errands.environment(config.load(), os.environ)
    os.execve(sys.executable, errands.command(name, words), told)  # noqa: S606


def tell(name: str, words: list[str]) -> NoReturn:
    """Run a job that answers in words, and print what came of it as JSON; what went wrong is on standard error."""
    done = subprocess.run(  # noqa: S603 - our own program, no shell
        errands.command(name, words),
        env=errands.environment(config.load(), os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    text = done.stdout.decode(errors="replace").strip()
    tables.emit(
        msgspec.json.encode({"job": name, "ok": not done.returncode, "exit_code": done.returncode, "text": text})
    )
    sys.exit(done.returncode)


def _signature(words: tuple[str, ...]) -> list[str]:
    """Say who typed it, unless that is said."""
    said = any(word == "--by" or word.startswith("--by=") for word in words)
    return [] if said or {"-h", "--help"} & set(words) else ["--by", login_name()]


check = job("check", "Look at everything now, and tell what changed.", own_json=True)
alerts = job("alerts", "Show what is alerted, since when, and who was told.", own_json=True)
ack = job("ack", "Take the alert NAME on, saying why: no more reminders until it ends or gets worse.", signed=True)
silence = job("silence", "Keep NAME quiet --for 2h, saying why; it is told at the end if it still holds.", signed=True)
unsilence = job("unsilence", "End the silence of NAME before its time.", signed=True)
selftest = job("selftest", "Send a test message through every channel, and show each answer.", signed=True)
drill = job("drill", "Restore the newest backup on trial, and compare it with the account.")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def backup(context: click.Context, as_json: bool) -> None:
    """Make a verified backup, or list, verify and restore those that there are."""
    if context.invoked_subcommand is None:
        tell("backup", []) if as_json else become("backup", [])


backup.add_command(job("backup", "Make a verified backup now."), "create")
backup.add_command(job("backups", "List the backups that there are, the newest first.", own_json=True), "list")
backup.add_command(job("verify", "Check the repository of the backups, and read a part of it."), "verify")
backup.add_command(job("restore", "Restore a backup into a new directory, verified.", own_json=True), "restore")


@click.command(context_settings=PASSED_ON)
@click.option("--new", type=click.Choice(REPORTS), help="Make and send this one now, as its timer does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def report(words: tuple[str, ...], new: str | None, as_json: bool) -> None:
    """Print a report that was made (its NAME, or a job for its newest; --list names them), or make one now."""
    if new and as_json:
        tell(new, list(words))
    if new:
        become(new, list(words))
    become("report", [*words, *(["--json"] if as_json else [])])
