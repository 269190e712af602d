"""What README and operations guide say is held against the program: commands, paths, codes, rules and examples."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from litestar import Litestar
from support.unit_files import SYSTEMD, own, read

from app import errors, queries, recovery
from app.api import problems
from app.backtest import Backtest, run
from app.cli import tradectl
from app.config import FIELDS, Settings
from app.control import HALT_FILE
from app.desk import GateName
from app.errors import TradingError
from app.feed.replay import read_bars
from app.main import create_app
from app.model import TradingState
from app.risk import RULES
from app.strategies import registry
from ops import config as watcher
from ops.__main__ import ops as jobs
from ops.checks import CHECKS
from ops.jobs import JOBS

ROOT = Path(__file__).resolve().parents[1]
README, GUIDE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "operations.md").read_text()
BOTH = {"README.md": README, "docs/operations.md": GUIDE}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(?:sudo )?((?:tradectl|curl|systemctl|journalctl|trading-release|redis-cli) [^`]+)`")
PROGRAMS = """
    ansible-playbook ansible-vault apt-get cat cp curl df dmesg du echo export free grep journalctl ls make mkdir mv nft
    openssl ps python redis-cli redis-operator resolvectl rm sqlite3 ss ssh sshd systemctl systemd-run tail tee
    timedatectl tradectl trading-release trading-status truncate uptime /usr/local/lib/trading/redis-users
    /usr/local/lib/trading/trading-tls
"""
ROLES = ROOT / "ansible" / "roles"
# Units that the guide names and systemd/ has not: Debian's own, and one that the role proxy brings.
FOREIGN_UNITS = "redis-server nginx certbot certbot.timer nftables ssh apt-daily-upgrade systemd-resolved "
FOREIGN_UNITS += "systemd-sysctl certbot-trial"
UNIT_VERBS = "status show start stop restart reload reset-failed list-units list-timers"
# Sections as alerts still call them, and the titles that they have in the guide.
REASONS = ("broken", "unfed", "standstill", "weakened", "fed_badly", "ready")
ASSIGNMENT = re.compile(r"[A-Z_]+=")


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text) if kind == language]


def commands(text: str) -> Iterator[list[str]]:
    """Yield every shell command of the fenced blocks and of the inline code, in words; here-documents left out."""
    for block in blocks(text, "bash"):
        for line in re.sub(r"(<<'(\w+)').*?^\2$", "", block, flags=re.MULTILINE | re.DOTALL).splitlines():
            yield shlex.split(line, comments=True)
    for span in SPAN.findall(FENCE.sub("", text)):
        yield shlex.split(span)


def parts(words: list[str]) -> Iterator[list[str]]:
    """Yield the commands of a pipe, without what stands before a program: settings of its environment, sudo."""
    while words:
        end = words.index("|") if "|" in words else len(words)
        part, words = words[:end], words[end + 1 :]
        while part and (ASSIGNMENT.match(part[0]) or part[0] == "sudo"):
            part = part[1:]
        yield part


def table_of(title: str, column: int = 0) -> list[str]:
    """Return the words in code of a column of the tables below a title of the guide, up to the next title."""
    body = re.split(r"^#+ ", GUIDE.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.split("|")[1:-1] for line in body.splitlines() if line.startswith("| ")]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row[column])]


def calls_of(program: str) -> list[Any]:
    return [
        pytest.param(part[1:], id=f"{name}: {' '.join(words)}"[:90])
        for name, text in BOTH.items()
        for words in commands(text)
        for part in parts(words)
        if part[0] == program
    ]


def anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def sentences(module: ModuleType, function: str) -> list[str]:
    """Return what a function may say: its texts of more than one word, up to the first value in them."""
    tree = next(node for node in ast.parse(inspect.getsource(module)).body if getattr(node, "name", "") == function)
    assert isinstance(tree, ast.FunctionDef)
    told = [node for statement in tree.body[1:] for node in ast.walk(statement)]
    texts = [node.values[0] if isinstance(node, ast.JoinedStr) else node for node in told]
    said = [node.value for node in texts if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in said if " " in text and text[0].isalpha()]


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def errors_of(base: type[TradingError]) -> Iterator[type[TradingError]]:
    yield base
    for leaf in base.__subclasses__():
        yield from errors_of(leaf)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Litestar:
    return create_app(Settings(data_dir=str(tmp_path_factory.mktemp("data"))))


# -- commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), BOTH.items(), ids=BOTH)
def test_every_command_is_of_a_program_that_is_named_here(name: str, text: str) -> None:
    programs = {part[0] for words in commands(text) for part in parts(words)}
    assert programs
    assert not programs - set(PROGRAMS.split())


@pytest.mark.parametrize("words", calls_of("tradectl"))
def test_a_tradectl_command_exists_with_its_options(words: list[str]) -> None:
    words = [word for word in words if word not in ("…", "NAME")]
    group: click.Command = tradectl
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        found = group.get_command(click.Context(group), words[0])
        assert found is not None, f"there is no command {words[0]}"
        group, words = found, words[1:]
    known = options(group)
    if group.context_settings.get("ignore_unknown_options") and group.name in JOBS:  # the rest is the job's
        job = jobs.get_command(click.Context(jobs), group.name)
        known |= options(job) if job else set()
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert asked <= known | {"--help"}


def leaf(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command of `tradectl` that is called, and what is written behind it."""
    group: click.Command = tradectl
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        group, words = group.get_command(click.Context(group), words[0]) or group, words[1:]
    return group, words


def is_whole(words: list[str]) -> bool:
    """Say whether a call is written out as one could type it, with something behind the command."""
    command, rest = leaf(words)
    return bool(rest) and "…" not in rest and not isinstance(command, click.Group)


@pytest.mark.parametrize("words", [call for call in calls_of("tradectl") if is_whole(call.values[0])])
def test_the_options_of_a_tradectl_command_read_as_they_are_written(words: list[str]) -> None:
    command, rest = leaf(words)
    assert not command.make_context(command.name, list(rest)).args


@pytest.mark.parametrize("words", calls_of("curl"))
def test_a_path_that_is_called_exists_with_its_method(words: list[str], application: Litestar) -> None:
    address = next(word for word in words if word.startswith(("http://localhost:8000/", "https://DOMAIN/")))
    path = "/" + address.split("/", 3)[3].partition("?")[0]
    routes = {route.path: route for route in application.routes}
    assert path in routes, f"there is no {path}"
    assert ("POST" if "-X" in words else "GET") in routes[path].methods


@pytest.mark.parametrize("path", ["/metrics", "/schema", "/health/live", "/health/ready"])
def test_a_path_that_is_only_mentioned_exists(path: str, application: Litestar) -> None:
    assert path in README + GUIDE
    assert path in {route.path for route in application.routes}


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README + GUIDE, re.MULTILINE))
    existing = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= existing


# -- the guide is complete ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", sorted({e.code for e in errors_of(TradingError)} | set(problems.MADE_BY_FRAMEWORK.values()))
)
def test_every_error_code_is_in_the_guide(kind: str) -> None:
    assert f"`{kind}`" in GUIDE


@pytest.mark.parametrize(
    "kind", [e for e in errors_of(TradingError) if e.__module__ == errors.__name__], ids=lambda e: e.code
)
def test_the_guide_tells_the_exit_code_of_an_error(kind: type[TradingError]) -> None:
    row = next(line for line in GUIDE.rpartition("## Error codes")[2].splitlines() if f"`{kind.code}`" in line)
    assert row.split("|")[2].strip() == str(kind.exit_code)


@pytest.mark.parametrize("rule", [rule.__name__ for rule, _ in RULES])
def test_every_risk_rule_is_in_the_guide(rule: str) -> None:
    assert f"| `{rule}` |" in GUIDE


def test_the_guide_tells_the_rules_in_the_order_they_are_asked() -> None:
    table = re.findall(
        r"^\| `(\w+)` \|", GUIDE.partition("## Risk rules")[2].partition("## Error codes")[0], re.MULTILINE
    )
    assert table == [rule.__name__ for rule, _ in RULES]


@pytest.mark.parametrize("state", [*TradingState.__args__, "down"])  # type: ignore[attr-defined]
def test_every_state_is_in_the_guide(state: str) -> None:
    assert f"\n**{state}.**" in GUIDE


@pytest.mark.parametrize("gate", GateName.__args__)  # type: ignore[attr-defined]
def test_every_gate_is_in_the_guide(gate: str) -> None:
    assert f"`{gate}`" in GUIDE


def test_every_rule_that_halts_is_in_the_guide() -> None:
    source = "".join(path.read_text() for path in (ROOT / "app").glob("*.py"))
    halting = set(re.findall(r'\.halt\(\s*"(\w+)"', source))
    assert "crash_loop" in halting
    assert all(f"| `{rule}` |" in GUIDE for rule in halting)


def test_every_reason_of_the_health_answer_has_its_paragraph() -> None:
    titles = " ".join(re.findall(r"^### (.*)$", GUIDE, re.MULTILINE))
    reasons = [text for name in REASONS for text in sentences(queries, name)]
    assert len(reasons) >= 8
    for reason in reasons:
        assert " ".join(reason.split()[:4]) in titles, f"no paragraph for: {reason}"


def test_the_numbers_of_the_crash_loop_are_those_of_the_program() -> None:
    assert (recovery.CRASH_LOOP, recovery.CRASH_WINDOW.total_seconds()) == (4, 600)
    assert "fourth unclean start within ten minutes" in " ".join(GUIDE.split())


@pytest.mark.parametrize("title", ["Restore by hand", "Lost the machine"])
def test_whoever_restores_an_account_is_told_to_look_who_may_come_in_by_it(title: str) -> None:
    section = GUIDE.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    assert all(command in section for command in ("sudo tradectl user list", "sudo tradectl user tokens"))


def test_the_file_that_halts_has_the_name_that_the_guide_says() -> None:
    assert f"| `/var/lib/trading/{HALT_FILE}` | `data/{HALT_FILE}` |" in GUIDE
    assert f"sudo tee /var/lib/trading/{HALT_FILE}\n" in GUIDE


# -- the appliance ------------------------------------------------------------------------------------------------


def secrets_of_units() -> dict[str, set[str]]:
    """Return which units are handed which secret, by the unit files."""
    found: dict[str, set[str]] = {}
    for name, unit in own("service").items():
        for given in unit.all("LoadCredential"):
            found.setdefault(given.rpartition("/")[2], set()).add(name.removesuffix(".service"))
    return found


def files_of_roles() -> dict[str, str]:
    """Return everything that a deployment brings, as text, by its path."""
    tops = (SYSTEMD, ROOT / "ansible", ROOT / "ops")
    paths = [path for top in tops for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def named_units() -> list[str]:
    units = [
        word
        for words in commands(GUIDE)
        for part in parts(words)
        if part[0] == "systemctl" and part[1] in UNIT_VERBS.split()
        for word in part[2 : part.index("-p") if "-p" in part else None]
        if not word.startswith("-") and not word[0].isdigit()
    ]
    logs = [words[i + 1] for words in commands(GUIDE) for i, word in enumerate(words[:-1]) if word == "-u"]
    return sorted({*units, *logs} - {"UNIT", ""})


@pytest.mark.parametrize("unit", named_units())
def test_a_unit_that_is_named_exists(unit: str) -> None:
    ours = {path.name for path in SYSTEMD.iterdir()}
    known = ours | {name.rpartition(".")[0] for name in ours} | set(FOREIGN_UNITS.split())
    asked = re.compile(unit.replace("JOB", "backup").replace("*", ".*"))
    assert any(asked.fullmatch(name) for name in known)


def test_a_name_of_ours_in_the_text_is_a_unit_a_program_or_a_user() -> None:
    units = {name.rstrip("@") for path in SYSTEMD.iterdir() for name in (path.name, path.stem)}
    programs = {path.name for path in ROLES.glob("*/files/*")} | {"trading-tls"}
    users = set(re.findall(r"^u +(\S+)", (SYSTEMD / "sysusers.d/trading.conf").read_text(), re.MULTILINE))
    named = {name.rstrip("@") for name in re.findall(r"`(trading-[a-z@.-]+)`", GUIDE)}
    assert len(named) > 5
    assert not named - units - programs - users


def test_every_playbook_and_tag_that_is_named_exists() -> None:
    named = set(re.findall(r"\b([a-z]+\.yml)\b", GUIDE)) - {"hosts.yml", "vault.yml", "main.yml", "apprise.yml"}
    assert {"deploy.yml", "rollback.yml", "status.yml", "maintenance.yml", "restore.yml"} == named
    assert all((ROOT / "ansible" / name).exists() for name in named)
    play = yaml.safe_load((ROOT / "ansible/deploy.yml").read_text())[0]
    assert set(re.findall(r"--tags (\w+)", GUIDE)) <= {tag for role in play["roles"] for tag in role["tags"]}


def test_every_variable_of_the_inventory_that_is_named_exists() -> None:
    files = files_of_roles()
    known = yaml.safe_load(files["ansible/roles/base/vars/main.yml"])["__base_known_variables"]
    of_roles = {
        key for name, text in files.items() if name.endswith("defaults/main.yml") for key in yaml.safe_load(text)
    }
    extra = set(re.findall(r"maintenance_\w+", files["ansible/maintenance.yml"]))
    named = set(re.findall(r"`(?:-e )?((?:trading|base|maintenance)_\w+)", GUIDE))
    assert len(named) > 5
    assert not named - set(known) - of_roles - extra - {rule.__name__ for rule, _ in RULES}


def test_every_path_of_the_appliance_that_is_named_is_one_that_is_made() -> None:
    text = "\n".join(files_of_roles().values())
    named = set(re.findall(r"(?<![\w.~/-])(/(?:etc|opt|run|usr/local|var)/[\w./-]*trading[\w./-]*[\w])", GUIDE))
    assert len(named) > 10
    made_by_hand = {"/var/lib/trading-before", "/var/lib/trading-old", "/var/backups/trading/restored/account"}
    places = {path for path in named - made_by_hand if path not in text}
    assert not {
        path for path in places if "trading" not in path.rpartition("/")[0] or path.rpartition("/")[0] not in text
    }


def test_the_table_of_checks_is_that_of_the_program() -> None:
    assert table_of("The appliance in one look")[-len(CHECKS) - 1 :] == [*(check.name for check in CHECKS), "watcher"]


@pytest.mark.parametrize("section", sorted({check.section for check in CHECKS} | {"A unit failed"}))
def test_every_section_that_an_alert_names_is_there(section: str) -> None:
    titles = re.findall(r"^#+ (.*)$", GUIDE, re.MULTILINE)
    assert section in titles


def test_the_table_of_jobs_is_that_of_the_program() -> None:
    jobs = [word for word in table_of("A job did not run") if "ok" not in word]
    assert sorted(jobs) == sorted(job.name for job in JOBS.values() if job.every)


def test_the_table_of_secrets_is_what_the_units_are_handed() -> None:
    rows = GUIDE.partition("\n## Secrets\n")[2].partition("\n## ")[0].splitlines()
    told = {
        secret: set(re.findall(r"`([^`]+)`", row.split("|")[3]))
        for row in rows
        if row.startswith("| `")
        for secret in re.findall(r"`([A-Z_]+)`", row.split("|")[1])
    }
    handed = {secret: units for secret, units in secrets_of_units().items() if secret.isupper()}
    assert told == handed | {"REDIS_OPERATOR_PASSWORD": {"redis-operator"}}


def test_what_a_switch_says_is_in_the_guide_as_it_is_said() -> None:
    program = " ".join((ROLES / "app/files/trading-release").read_text().split())
    gate = " ".join((ROLES / "app/tasks/preflight.yml").read_text().split())
    body = GUIDE.partition("\n## Deploy, roll back, upgrade the system\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in re.findall(r"^\| .*$", body, re.MULTILINE)[2:]]
    said = [phrase.strip() for row in rows for phrase in re.split("…|;|, since|, and", row)]
    assert len(said) > 8
    assert not [phrase for phrase in said if phrase and phrase not in f"{program} {gate}"]


@pytest.mark.parametrize("unit", ["trading-engine.service", "trading-api.service"])
def test_the_limits_of_restarts_are_those_of_the_unit(unit: str) -> None:
    found = read(SYSTEMD / unit)
    assert (found.get("StartLimitBurst"), found.get("StartLimitIntervalSec")) == ("10", "10min")
    assert "ten times in ten minutes" in " ".join(GUIDE.split())
    assert found.get("WatchdogSec") == "30"
    assert set(found.words("RestartPreventExitStatus")) <= {"2", "4", "6"}


def test_every_code_that_nginx_answers_with_is_in_the_guide() -> None:
    codes = (ROLES / "proxy/templates/nginx.conf.j2").read_text().partition("$problem_code {")[2].partition("}")[0]
    assert all(f"`{code}`" in GUIDE for code in re.findall(r" (\w+);", codes))


@pytest.mark.parametrize("line", table_of("The appliance in one look")[:8])
def test_a_line_that_the_guide_explains_is_one_of_the_status(line: str) -> None:
    program = (ROLES / "ops/files/trading-status").read_text()
    assert re.search(rf"(say|warn|\$verdict) {line}\b|echo '  {line}'", program)


# -- links, settings, examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), BOTH.items(), ids=BOTH)
def test_every_link_leads_somewhere(name: str, text: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, title = target.partition("#")
        page = (ROOT / name).parent / file if file else ROOT / name
        assert page.exists(), target
        assert not title or title in map(anchor, re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)), target


@pytest.mark.parametrize(("name", "text"), BOTH.items(), ids=BOTH)
def test_every_setting_that_is_named_exists(name: str, text: str) -> None:
    named = set(re.findall(r"`((?:[A-Z]+_)+[A-Z]+)\b", text))
    assert named
    assert named <= FIELDS.keys() | watcher.FIELDS.keys() | secrets_of_units().keys() | {"REDIS_OPERATOR_PASSWORD"}


def test_every_folder_and_file_that_the_tree_names_exists() -> None:
    tree = README.partition("## The tree")[2]
    named = re.findall(r"^    (\S+/\S*)  ", tree, re.MULTILINE)
    assert len(named) >= 8
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the file of the README with the README's own lines."""
    script = re.search(r"> (waves\.csv) <<'END'\n(.*?)^END$", README, re.MULTILINE | re.DOTALL)
    assert script is not None
    file = tmp_path_factory.mktemp("readme") / script[1]
    file.write_text(
        subprocess.run([sys.executable, "-c", script[2]], capture_output=True, text=True, check=True).stdout
    )
    return file


def test_the_backtest_of_the_readme_prints_what_the_readme_shows(waves: Path) -> None:
    words = next(words for words in commands(README) if words[:3] == ["tradectl", "backtest", "waves.csv"])
    asked = [sys.executable, "-m", "app.cli", *words[1:2], str(waves), *words[3:]]
    said = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for line in blocks(README, "text")[0].splitlines():
        assert line == "…" or any(printed.startswith(line) for printed in said.splitlines()), line


def test_the_strategy_of_the_readme_trades(waves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = blocks(README, "python")[0]
    names: dict[str, Any] = {"__name__": "app.strategies.above_average"}
    exec(compile(source, "above_average.py", "exec", dont_inherit=True), names)
    monkeypatch.setitem(registry.STRATEGIES, "above_average", names["AboveAverage"])
    report = run(Backtest("above_average", {"period": "20"}), read_bars(waves))
    assert len(report.trades) > 1
    assert all(first.exit_time <= second.entry_time for first, second in pairwise(report.trades))


def test_the_strategy_of_the_readme_is_as_short_as_it_says() -> None:
    code = [line for line in blocks(README, "python")[0].splitlines() if line.strip()]
    assert len(code) <= 16
