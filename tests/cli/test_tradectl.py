"""The command line as a whole: its table, its errors, its exit codes."""

from __future__ import annotations

import socket
from pathlib import Path

import click
import pytest
from support.tradectl import tradectl

from app.cli import COMMANDS
from app.cli import tradectl as group


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_explains_itself(name: str) -> None:
    context = click.Context(group)
    command = group.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"engine", "api", "completion"}))
def test_every_command_that_answers_takes_json(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    members = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    assert members
    assert all(any("--json" in parameter.opts for parameter in one.params) for one in members)


def test_help_lists_every_command_without_importing_what_they_need(tmp_path: Path) -> None:
    said = tradectl("--help", cwd=tmp_path, PYTHONVERBOSE="1")
    assert said.code == 0
    assert all(f"\n  {name} " in said.out for name in COMMANDS)
    for library in ("httpx", "rich", "msgspec", "litestar", "uvicorn", "redis"):
        assert f"import '{library}'" not in said.err


def test_no_command_is_a_question_for_help_and_exit_code_2(tmp_path: Path) -> None:
    said = tradectl(cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert "backtest" in said.err


def test_a_misspelt_command_names_the_one_that_was_meant(tmp_path: Path) -> None:
    said = tradectl("staus", cwd=tmp_path)
    assert said == (2, "", "tradectl: there is no command 'staus' (did you mean 'status'?); see tradectl --help\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "--colour"], "no such option"),
        (["release"], "missing option '--reason'"),
        (["performance", "--period", "yearly"], "'yearly' is not one of"),
        (["performance", "--from", "yesterday"], "'yesterday' is not a time; write 2026-01-31"),
        (["orders", "--limit", "0"], "0 is not in the range"),
        (["start", "--initial-capital", "much"], "'much' is not a number"),
        (["engine", "--replay", "a.csv", "--speed", "0"], "'0' is not a speed; write max, or a number above 0"),
        (["run", "a.csv"], "to replay it: --replay a.csv"),
        (["run", "--exit-at-end"], "name what to replay: --replay file --exit-at-end"),
        (["run", "--speed", "2"], "name what to replay: --replay file --speed"),
        (["run", "--replay", "."], ". is a directory and holds no tape"),
        (["ledger", "burn"], "no such command 'burn'"),
        (["status", "--url", "nowhere"], "'nowhere' is not an address"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(tmp_path: Path, words: list[str], message: str) -> None:
    said = tradectl(*words, cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("tradectl: ")
    assert said.err.count("\n") == 1
    assert message in said.err.lower() or message in said.err


@pytest.mark.parametrize("words", [["status"], ["orders", "--json"], ["start"], ["release", "--reason", "mended"]])
def test_where_nothing_runs_it_says_how_to_start_it_and_exit_code_3(tmp_path: Path, words: list[str]) -> None:
    said = tradectl(*words, cwd=tmp_path, API_PORT="1")
    assert (said.code, said.out) == (3, "")
    assert "nothing answers at http://127.0.0.1:1" in said.err
    assert "tradectl run" in said.err


def test_a_misspelt_setting_is_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PROT=8001\n")
    said = tradectl("status", cwd=tmp_path)
    assert said.code == 4
    assert "there is no setting API_PROT; did you mean API_PORT?" in said.err


def test_a_server_that_says_nothing_is_a_time_out_and_exit_code_5(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said = tradectl("status", "--timeout", "0.3", "--url", url, cwd=tmp_path)
    assert (said.code, said.out) == (5, "")
    assert f"{url} did not answer within 0.3 s" in said.err


def test_the_url_may_come_from_the_environment(tmp_path: Path) -> None:
    said = tradectl("status", cwd=tmp_path, TRADING_URL="http://127.0.0.1:2")
    assert said.code == 3
    assert "http://127.0.0.1:2" in said.err


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")])
def test_completion_prints_the_script_of_each_shell(tmp_path: Path, shell: str, sign: str) -> None:
    said = tradectl("completion", shell, cwd=tmp_path)
    assert said.code == 0
    assert sign in said.out
    assert "_TRADECTL_COMPLETE" in said.out


def test_completion_offers_commands_and_options(tmp_path: Path) -> None:
    asked = {"_TRADECTL_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    assert tradectl(cwd=tmp_path, COMP_WORDS="tradectl st", **asked).out.split() == [
        "plain,status",
        "plain,strategies",
        "plain,start",
        "plain,stop",
    ]
    asked["COMP_CWORD"] = "2"
    assert "plain,--json" in tradectl(cwd=tmp_path, COMP_WORDS="tradectl status --", **asked).out.split()


def test_version_is_that_of_the_release(tmp_path: Path) -> None:
    assert tradectl("version", "--json", cwd=tmp_path).json == {"version": "1.1.0"}
    assert tradectl("version", cwd=tmp_path).out == "tradectl 1.1.0\n"


def test_the_strategies_of_this_release_are_listed_with_their_parameters(tmp_path: Path) -> None:
    listed = {
        one["name"]: one["parameters"] for one in tradectl("strategies", "--available", "--json", cwd=tmp_path).json
    }
    assert listed["sma_cross"] == {"fast": 10, "slow": 30}
    assert "long while the fast one is above" in tradectl("strategies", "--available", cwd=tmp_path).out
