"""python -m ops JOB: check, alert, backup, drill, morning, evening, weekly, monthly.

Exit codes: 0 ok, 1 a check is CRITICAL or UNKNOWN or the job failed, 2 usage or a setting that cannot be used, 70 a
fault of ours (its trace is on standard error), or a check that could not look. A job is imported once it is called.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import traceback
from difflib import get_close_matches
from types import FrameType, TracebackType
from typing import NoReturn

import click

from ops.errors import OpsError
from ops.jobs import JOBS
from ops.stamps import words

OURS = 70
CALLED_AS = "CALLED_AS"  # in the environment: the program that a person typed, which became this one
PRIORITIES = {logging.ERROR: "<3>", logging.WARNING: "<4>", logging.INFO: "<6>"}  # of sd-daemon(3)


class Jobs(click.Group):
    """A group whose commands are named in `JOBS` and imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(JOBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in JOBS:
            return None
        module, _, attribute = JOBS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in JOBS and not args[0].startswith("-"):
            close = get_close_matches(args[0], JOBS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else f"; there are {', '.join(JOBS)}"
            raise click.UsageError(f"there is no job {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Jobs"):
            formatter.write_dl([(job.name, job.text) for job in JOBS.values()])


@click.group(cls=Jobs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def ops() -> None:
    """Watch the appliance from outside: checks, alerts, safety copies, drills and reports.

    Settings are OPS_… of the environment. Exit codes: 0 ok, 1 something is CRITICAL or UNKNOWN or the job failed, 2
    usage or settings, 70 a fault of ours.
    """


class _Lines(logging.Formatter):
    """Lines for a terminal; for the journal with their priority before them."""

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(super().format(record).splitlines())
        return f"{PRIORITIES.get(record.levelno, '<6>')}{text}" if os.environ.get("JOURNAL_STREAM") else text


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End in good order when systemd asks to: copies that are not done are removed, the stamp says that it failed."""
    raise SystemExit(128 + number)


def _ours(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> NoReturn:
    """End with a trace and a code of its own for what nobody expected, told apart from a job that failed."""
    traceback.print_exception(kind, fault, trace)
    raise SystemExit(OURS)


def main() -> NoReturn:
    """Run a job. What goes wrong is one line on standard error and the exit code."""
    sys.excepthook = _ours
    signal.signal(signal.SIGTERM, _end)
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logging.getLogger("ops").addHandler(handler)
    logging.getLogger("apprise").propagate = False  # what matters of it is logged by ops
    try:
        ops.main(prog_name=_called(), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.format_message(), file=sys.stderr)
        sys.exit(asked.exit_code)
    except click.UsageError as fault:
        where = fault.ctx.command_path if fault.ctx else _called()
        _leave(f"{_sentence(fault.format_message())}; see {where} --help", 2)
    except click.ClickException as fault:
        _leave(fault.format_message(), 2)
    except OpsError as fault:
        _leave(str(fault), fault.exit_code)
    except OSError as fault:
        _leave(words(fault), 1)
    sys.exit(0)


def _called() -> str:
    """Return what a person typed to come here."""
    return os.environ.get(CALLED_AS) or "python -m ops"


def _sentence(text: str) -> str:
    """Turn click's sentence into the beginning of ours."""
    return text[:1].lower() + text[1:].rstrip(".")


def _leave(message: str, code: int) -> NoReturn:
    print(f"{os.environ.get(CALLED_AS) or 'ops'}: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
