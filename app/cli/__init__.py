"""tradectl: a table of commands, each in a module that is imported only once the command is called.

`tradectl --help` therefore costs next to nothing, and a command pays for no library but its own.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from app.errors import TradingError

APPLIANCE = Path("/etc/trading")
Table = Mapping[str, tuple[str, str]]

SECTIONS: dict[str, Table] = {
    "Run": {
        "run": ("app.cli.running:run", "Run everything: Redis, engine, API (for a laptop)."),
        "engine": ("app.cli.running:engine", "Run the trading engine alone."),
        "api": ("app.cli.serving:api", "Run the API and the page alone."),
    },
    "Look": {
        "status": ("app.cli.looking:status", "Is it trading, in which state, and why."),
        "portfolio": ("app.cli.looking:portfolio", "Equity, cash and positions."),
        "performance": ("app.cli.looking:performance", "The metrics of a period."),
        "strategies": ("app.cli.looking:strategies", "What each strategy earned and whether it runs."),
        "providers": ("app.cli.looking:providers", "Where prices come from, and how well."),
        "explain": ("app.cli.looking:explain", "Which gate stands between a strategy and its next trade."),
        "limits": ("app.cli.looking:limits", "Each risk limit: used and left."),
        "orders": ("app.cli.books:orders", "Orders and what became of them."),
        "fills": ("app.cli.books:fills", "What was bought and sold, at which price."),
        "trades": ("app.cli.books:trades", "Closed round trips with their result."),
        "equity": ("app.cli.books:equity", "The account as it was marked to market."),
    },
    "Act": {
        "start": ("app.cli.acting:start", "Resume trading after a stop."),
        "stop": ("app.cli.acting:stop", "Stop trading; positions are kept."),
        "halt": ("app.cli.acting:halt", "Halt trading until a release: the kill switch."),
        "release": ("app.cli.acting:release", "Release a halt, saying why it is safe."),
        "flatten": ("app.cli.acting:flatten", "Stop trading and close every position."),
        "deposit": ("app.cli.acting:deposit", "Pay cash into a paper account."),
        "withdraw": ("app.cli.acting:withdraw", "Take cash out of a paper account."),
        "enable": ("app.cli.acting:enable", "Let a strategy trade again."),
        "disable": ("app.cli.acting:disable", "Let a strategy enter no more positions."),
    },
    "Study": {
        "backtest": ("app.cli.backtest:backtest", "Try a strategy on recorded bars."),
        "replay": ("app.cli.replaying:replay", "Run a recorded session again and compare."),
        "ledger": ("app.cli.ledger:ledger", "Verify, read, export, import or cut the ledger."),
    },
    "Mend": {
        "doctor": ("app.cli.doctor:doctor", "What is wrong now, and how to mend it."),
        "fence": ("app.cli.fencing:fence", "Which machine has the account: show, lay, lift, take."),
        "logs": ("app.cli.logs:logs", "What was logged: errors, trades, what was slow."),
        "profile": ("app.cli.profile:profile", "Where a running process spends its time, what it holds."),
        "user": ("app.cli.users:user", "Who may sign in on the page: add, list, passwd, roles, remove."),
        "token": ("app.cli.token:token", "Make or revoke a token for a caller from outside."),
    },
    "Watch": {
        "check": ("app.cli.watching:check", "Look at everything now, and tell what changed."),
        "alerts": ("app.cli.watching:alerts", "What is alerted, since when, and who was told."),
        "ack": ("app.cli.watching:ack", "Take an alert on: no more reminders."),
        "silence": ("app.cli.watching:silence", "Keep an alert quiet for some time."),
        "unsilence": ("app.cli.watching:unsilence", "End a silence before its time."),
        "selftest": ("app.cli.watching:selftest", "Send a test message through every channel."),
        "report": ("app.cli.watching:report", "Print a report that was made, or make one now."),
        "backup": ("app.cli.watching:backup", "Make a verified backup; list, verify, restore."),
        "drill": ("app.cli.watching:drill", "Restore the newest backup on trial, and compare."),
    },
    "Shell": {
        "completion": ("app.cli.shell:completion", "Print the shell's completion script."),
        "version": ("app.cli.shell:version", "Print the version."),
    },
}
COMMANDS: Table = {name: row for section in SECTIONS.values() for name, row in section.items()}


class LazyGroup(click.Group):
    """A group whose commands are named in `COMMANDS` and imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()], col_max=13)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        rows = [(name, text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=text) for name, text in rows]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def tradectl() -> None:
    """Run, watch and steer the trading appliance.

    Every command explains itself: tradectl COMMAND --help. With --json the answer is JSON. Exit codes: 0 ok, 1 error,
    2 usage, 3 not running, 4 configuration, 5 time-out, 6 another engine has the account, 7 trading is halted.
    """


def main() -> NoReturn:
    """Run tradectl. What goes wrong is one line on standard error, and an exit code that says whose turn it is."""
    try:
        tradectl.main(prog_name="tradectl", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.format_message(), file=sys.stderr)
        sys.exit(asked.exit_code)
    except click.UsageError as fault:
        where = fault.ctx.command_path if fault.ctx else "tradectl"
        _leave(f"{_sentence(fault.format_message())}; see {where} --help", fault.exit_code)
    except click.ClickException as fault:
        _leave(_sentence(fault.format_message()), fault.exit_code)
    except click.Abort:
        _leave("left without doing anything", 1)
    except TradingError as fault:
        _leave(str(fault), fault.exit_code)
    except PermissionError as fault:
        advice = f"; type it with sudo: {_with_sudo()}" if APPLIANCE.exists() and os.geteuid() else ""
        _leave(f"{fault.filename or fault}: {fault.strerror}{advice}", 1)
    except OSError as fault:
        _leave(f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault), 1)
    sys.exit(0)


def _with_sudo() -> str:
    return shlex.join(["sudo", "tradectl", *sys.argv[1:]])


def _sentence(text: str) -> str:
    """Turn click's sentence into the beginning of ours."""
    return text[:1].lower() + text[1:].rstrip(".")


def _leave(message: str, code: int) -> NoReturn:
    print(f"tradectl: {message}", file=sys.stderr)
    sys.exit(code)
