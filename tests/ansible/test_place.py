"""The module `place`, run by Ansible on this machine: files are compared, validated, and written as a whole."""

from __future__ import annotations

import getpass
import grp
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
OWN = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}

Place = Callable[..., dict[str, Any]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Run one task of the module and return its result; entries are given as keywords of the task."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "host").mkdir()

    def run(*files: dict[str, Any], check: bool = False, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        entries = [OWN | entry | {"dest": str(tmp_path / "host" / entry["dest"])} for entry in files]
        arguments = {"files": entries, "remembered": str(tmp_path / "memory")}
        answer = {"content": "{{ result | to_json }}", "dest": str(tmp_path / "answer.json")}
        tasks = [
            {"place": arguments, "register": "result", "ignore_errors": True},
            {"ansible.builtin.copy": answer, "check_mode": False, "diff": False},
        ]
        (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        command = [ANSIBLE, "-i", "localhost,", "-c", "local", *(["--check"] if check else []), "play.yml"]
        command += ["-e", json.dumps({"ansible_python_interpreter": sys.executable, **(variables or {})})]
        told = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"), "LC_ALL": "C.UTF-8"}
            | {
                "ANSIBLE_LIBRARY": str(ROOT / "ansible/library"),
                "ANSIBLE_ACTION_PLUGINS": str(ROOT / "ansible/action_plugins"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert (tmp_path / "answer.json").exists(), told.stdout + told.stderr
        found: dict[str, Any] = json.loads((tmp_path / "answer.json").read_text())
        return found | {"output": told.stdout + told.stderr}

    return run


def test_a_file_is_written_once_and_then_left_alone(place: Place, tmp_path: Path) -> None:
    first = place({"dest": "etc/a.conf", "content": "a\n", "mode": "0640"})
    assert first["changed"] and (tmp_path / "host/etc/a.conf").read_text() == "a\n"
    assert (tmp_path / "host/etc/a.conf").stat().st_mode & 0o777 == 0o640
    again = place({"dest": "etc/a.conf", "content": "a\n", "mode": "0640"})
    assert not again["changed"] and again["changed_files"] == []


def test_a_template_is_rendered_with_the_variables_of_the_play(place: Place, tmp_path: Path) -> None:
    (tmp_path / "templates/a.j2").write_text("hello {{ name }}\n\nend\n")
    place({"dest": "a", "src": "a.j2"}, variables={"name": "anna"})
    assert (tmp_path / "host/a").read_text() == "hello anna\n\nend\n"


def test_a_tree_brings_every_file_below_it(place: Place, tmp_path: Path) -> None:
    (tmp_path / "tree/x.d").mkdir(parents=True)
    (tmp_path / "tree/x.d/one").write_text("1")
    (tmp_path / "tree/two").write_text("{{ untouched }}")
    place({"dest": "units", "tree": str(tmp_path / "tree")})
    assert (tmp_path / "host/units/x.d/one").read_text() == "1"
    assert (tmp_path / "host/units/two").read_text() == "{{ untouched }}"


def test_check_mode_shows_the_difference_and_writes_nothing(place: Place, tmp_path: Path) -> None:
    place({"dest": "a", "content": "old\n"})
    told = place({"dest": "a", "content": "new\n"}, {"dest": "d", "state": "directory"}, check=True)
    assert told["changed"] and "-old\n+new" in told["output"] and "-absent\n+directory" in told["output"]
    assert (tmp_path / "host/a").read_text() == "old\n" and not (tmp_path / "host/d").exists()


def test_of_a_new_file_is_said_that_it_is_new_without_its_text(place: Place) -> None:
    told = place({"dest": "a", "content": "a long story\n", "mode": "0600"}, check=True)
    assert "-absent" in told["output"] and "0600" in told["output"] and "a long story" not in told["output"]


def test_one_refused_text_leaves_all_files_as_they_were(place: Place, tmp_path: Path) -> None:
    told = place({"dest": "a", "content": "good"}, {"dest": "b", "content": "bad", "validate": "grep good %s"})
    assert told["failed"] and "nothing was written" in told["msg"] and str(tmp_path / "host/b") in told["msg"]
    assert list((tmp_path / "host").iterdir()) == []


def test_a_validator_that_is_missing_fails_but_not_in_check_mode(place: Place) -> None:
    entry = {"dest": "a", "content": "x", "validate": "no-such-program %s"}
    assert place(entry)["failed"] and "there is no no-such-program" in place(entry)["msg"]
    assert not place(entry, check=True).get("failed")


def test_a_file_edited_by_hand_is_reported_with_its_difference_and_kept(place: Place, tmp_path: Path) -> None:
    place({"dest": "a", "content": "one\n"})
    (tmp_path / "host/a").write_text("one\nby hand\n")
    told = place({"dest": "a", "content": "one\n"})
    assert told["drift"] == [str(tmp_path / "host/a")]
    assert "edited by hand" in told["output"] and "+by hand" in told["output"]
    kept = list((tmp_path / "memory/edited").iterdir())
    assert [path.read_text() for path in kept] == ["one\nby hand\n"]
    assert (tmp_path / "host/a").read_text() == "one\n"


def test_what_this_run_changes_is_no_drift(place: Place) -> None:
    place({"dest": "a", "content": "one\n"})
    told = place({"dest": "a", "content": "two\n"})
    assert told["changed"] and told["drift"] == []


def test_a_run_that_was_killed_between_two_files_is_no_edit_by_hand(place: Place, tmp_path: Path) -> None:
    place({"dest": "a", "content": "one\n"})
    # Both texts are remembered before the first is written: what a killed run wrote is one of them.
    memory = tmp_path / "memory/placed.json"
    place({"dest": "a", "content": "two\n"}, {"dest": "b", "content": "x", "owner": "no-such-user"})
    assert (tmp_path / "host/a").read_text() == "two\n" and not (tmp_path / "host/b").exists()
    assert len(json.loads(memory.read_text())[str(tmp_path / "host/a")]) == 2
    assert place({"dest": "a", "content": "three\n"})["drift"] == []


def test_a_secret_is_shown_nowhere_even_when_it_drifts(place: Place, tmp_path: Path) -> None:
    told = place({"dest": "key", "content": "hunter2", "secret": True, "mode": "0600"})
    (tmp_path / "host/key").write_text("stolen4")
    again = place({"dest": "key", "content": "hunter2", "secret": True, "mode": "0600"})
    assert again["drift"] == [str(tmp_path / "host/key")]
    for result in (told, again):
        assert "hunter2" not in json.dumps(result) and "stolen4" not in json.dumps(result)
    # Nobody else shall try passwords against the hashes of secrets.
    assert (tmp_path / "memory/placed.json").stat().st_mode & 0o777 == 0o600


def test_a_memory_that_others_could_read_is_closed(place: Place, tmp_path: Path) -> None:
    place({"dest": "a", "content": "one\n"})
    (tmp_path / "memory/placed.json").chmod(0o644)
    assert not place({"dest": "a", "content": "one\n"})["changed"]
    assert (tmp_path / "memory/placed.json").stat().st_mode & 0o777 == 0o600


def test_links_directories_and_absences_come_about_and_stay(place: Place, tmp_path: Path) -> None:
    (tmp_path / "host/old").write_text("x")
    wanted = (
        {"dest": "d", "state": "directory", "mode": "0750"},
        {"dest": "l", "state": "link", "target": "d"},
        {"dest": "old", "state": "absent"},
    )
    assert place(*wanted)["changed"]
    assert (tmp_path / "host/d").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "host/l").readlink() == Path("d") and not (tmp_path / "host/old").exists()
    assert not place(*wanted)["changed"]


def test_a_directory_is_never_replaced_by_a_file(place: Place, tmp_path: Path) -> None:
    (tmp_path / "host/a/b").mkdir(parents=True)
    told = place({"dest": "a", "content": "x"})
    assert told["failed"] and "move it away first" in told["msg"] and (tmp_path / "host/a/b").is_dir()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"dest": "a", "content": "x", "mod": "0644"}, "keys that do not exist"),
        ({"dest": "a", "content": "x", "mode": 644}, "write it in quotes"),
        ({"dest": "a", "content": "x", "src": "y"}, "needs one of"),
        ({"dest": "a", "tree": "/no/such/tree"}, "there is no directory"),
    ],
)
def test_a_task_that_is_written_wrongly_says_how_to_write_it(place: Place, entry: dict[str, Any], says: str) -> None:
    told = place(entry)
    assert told["failed"] and says in told["msg"]
