"""`tradectl user` and the tokens that are made on a machine: who is added may sign in, and nothing shows a secret."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
from pathlib import Path

import pytest
from support.tradectl import COMMAND, Said, environment, tradectl

from app import passwords
from app.signins import Asker, SignIns

HOME = Asker("192.0.2.1")


def piped(place: Path, text: str, *words: str) -> Said:
    """Run a command that reads from a pipe."""
    given = environment()
    done = subprocess.run(
        [*COMMAND, *words], cwd=place, env=given, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


def typed(place: Path, *words: str, answers: list[str]) -> str:
    """Run a command on a terminal, type an answer at each question, and return what the terminal showed."""
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen([*COMMAND, *words], cwd=place, env=environment(), start_new_session=True, **streams)
    os.close(theirs)
    shown = ""
    for answer in answers:
        while not shown.endswith(": "):  # the blank comes once nothing that is typed is shown any more
            shown += os.read(ours, 1000).decode()
        os.write(ours, f"{answer}\n".encode())
        shown += "\n"
    while True:
        try:
            shown += os.read(ours, 1000).decode()
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(60) == 0, shown
    return shown


def door(place: Path) -> SignIns:
    return SignIns(place / "data")


def test_who_is_added_with_a_password_from_a_pipe_may_sign_in(tmp_path: Path) -> None:
    said = piped(tmp_path, "correct horse battery\n", "user", "add", "anna", "--role", "trade")
    assert (said.code, said.out) == (0, "anna may sign in now\n"), said.err
    assert door(tmp_path).sign_in("anna", "correct horse battery", HOME)
    for path in (tmp_path / "data").iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007, path


def test_a_password_that_is_typed_is_not_shown(tmp_path: Path) -> None:
    shown = typed(tmp_path, "user", "add", "anna", "--role", "ops", answers=["correct horse battery"] * 2)
    assert "anna may sign in now" in shown
    assert "horse" not in shown
    assert door(tmp_path).sign_in("anna", "correct horse battery", HOME)


def test_a_password_is_made_up_on_demand_and_shown_once(tmp_path: Path) -> None:
    said = tradectl("user", "add", "anna", "--role", "read", "--generate", cwd=tmp_path)
    made = said.out.splitlines()[-1].strip()
    assert door(tmp_path).sign_in("anna", made, HOME)
    again = tradectl("user", "passwd", "anna", "--generate", cwd=tmp_path).out.splitlines()[-1].strip()
    assert again != made
    assert door(tmp_path).sign_in("anna", again, HOME)


def test_lists_and_history_show_who_and_when_and_no_secret(tmp_path: Path) -> None:
    assert "nobody may sign in yet" in tradectl("user", "list", cwd=tmp_path).out
    tradectl("user", "add", "anna", "--role", "trade", "--generate", cwd=tmp_path)
    tradectl("user", "roles", "anna", "--role", "ops", cwd=tmp_path)
    (listed,) = tradectl("user", "list", "--json", cwd=tmp_path).json
    assert (listed["name"], listed["roles"], listed["last_sign_in"], listed["sessions"]) == (
        "anna", ["read", "ops"], None, 0
    )  # fmt: skip
    told = tradectl("user", "history", "--json", cwd=tmp_path).json
    assert [(one["what"], one["name"], one["address"]) for one in told] == [
        ("roles set", "anna", "tradectl"), ("user added", "anna", "tradectl")
    ]  # fmt: skip
    assert "argon2" not in str(listed) + str(told)
    assert tradectl("user", "remove", "anna", cwd=tmp_path).code == 0
    assert tradectl("user", "list", "--json", cwd=tmp_path).json == []


def test_what_a_browser_calls_itself_does_not_steer_the_terminal(tmp_path: Path) -> None:
    said = piped(tmp_path, "correct horse battery\n", "user", "add", "anna", "--role", "read")
    assert said.code == 0, said.err
    agent = "Fire\x1b]0;pwned\x07fox \x9b2J \u202eflow"
    door(tmp_path).sign_in("anna", "correct horse battery", Asker("192.0.2.1", agent=agent))
    shown = tradectl("user", "sessions", cwd=tmp_path).out
    assert "Fire?]0;pwned?fox ?2J ?flow" in shown
    assert shown.replace("\n", "").isprintable()


def test_what_is_changed_is_in_the_log_with_who_did_it_and_no_secret(tmp_path: Path) -> None:
    said = tradectl("user", "add", "anna", "--role", "trade", "--generate", cwd=tmp_path, SUDO_USER="olga")
    tradectl("user", "roles", "anna", "--role", "ops", cwd=tmp_path)
    tradectl("token", "grafana", "--scope", "read", "--here", cwd=tmp_path)
    lines = [json.loads(line) for line in tradectl("logs", "--json", cwd=tmp_path).out.splitlines()]
    assert [line["event"] for line in lines] == ["user added", "roles set", "token made"]
    assert {line["unit"] for line in lines} == {"trading-user"}
    assert (lines[0]["name"], lines[0]["by"]) == ("anna", "olga")
    assert said.err == ""
    assert said.out.splitlines()[-1].strip() not in str(lines)


def test_a_token_of_this_machine_is_listed_and_revoked(tmp_path: Path) -> None:
    made = tradectl("token", "grafana", "--scope", "read", "--days", "30", "--here", "--json", cwd=tmp_path).json
    assert made["token"].startswith("ta_")
    assert "entry" not in made
    (listed,) = tradectl("user", "tokens", "--json", cwd=tmp_path).json
    assert listed == {"name": "grafana", "scopes": ["read"], "last": made["last"]}
    assert tradectl("token", "grafana", "--revoke", cwd=tmp_path).out == "the token grafana is not known any more\n"
    assert tradectl("user", "tokens", "--json", cwd=tmp_path).json == []
    assert tradectl("token", "grafana", "--revoke", cwd=tmp_path).code == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("user", "add", "anna"), 2, "--role"),
        (("user", "add", "anna", "--role", "root"), 2, "root"),
        (("user", "add", "an na", "--role", "read", "--generate"), 2, "cannot name a user"),
        (("user", "add", "anna", "--role", "read"), 2, "nobody to ask for a password"),
        (("user", "passwd", "anna", "--generate"), 2, "there is no user 'anna'"),
        (("user", "end"), 2, "whose sessions"),
        (("user", "end", "--session", "7"), 2, "there is no session 7"),
        (("token", "laptop"), 2, "--scope"),
    ],
)
def test_bad_usage_says_what_is_wrong(tmp_path: Path, words: tuple[str, ...], code: int, says: str) -> None:
    said = tradectl(*words, cwd=tmp_path)
    assert said.code == code
    assert says in said.err
    assert said.err.startswith("tradectl: ")


def test_a_program_that_adds_somebody_reads_the_password_that_was_made_up(tmp_path: Path) -> None:
    said = tradectl("user", "add", "anna", "--role", "read", "--generate", "--json", cwd=tmp_path)
    assert said.json["message"] == "anna may sign in now"
    assert len(said.json["password"]) >= passwords.SHORTEST
    removed = tradectl("user", "remove", "anna", "--json", cwd=tmp_path)
    assert removed.json == {"message": "anna may not sign in any more"}
