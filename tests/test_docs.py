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
from litestar import Litestar

from app import errors, live, queries, recovery
from app.api import problems
from app.backtest import Backtest, run
from app.cli import tradectl
from app.config import FIELDS, Settings
from app.desk import GateName
from app.errors import TradingError
from app.feed.replay import read_bars
from app.main import create_app
from app.model import TradingState
from app.risk import RULES
from app.strategies import registry

ROOT = Path(__file__).resolve().parents[1]
README, GUIDE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "operations.md").read_text()
BOTH = {"README.md": README, "docs/operations.md": GUIDE}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(tradectl [^`]+|curl [^`]+)`")
PROGRAMS = {
    "tradectl",
    "curl",
    "make",
    "export",
    "echo",
    "rm",
    "cp",
    "mv",
    "mkdir",
    "df",
    "du",
    "ps",
    "sqlite3",
    "python",
    "timedatectl",
}
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


def calls_of(program: str) -> list[Any]:
    return [
        pytest.param(words[words.index(program) + 1 :], id=f"{name}: {' '.join(words)}"[:90])
        for name, text in BOTH.items()
        for words in commands(text)
        if program in words[:2] and not words[0].startswith("-")
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
    programs = [next(word for word in words if not ASSIGNMENT.match(word)) for words in commands(text) if words]
    assert programs
    assert not set(programs) - PROGRAMS


@pytest.mark.parametrize("words", calls_of("tradectl"))
def test_a_tradectl_command_exists_with_its_options(words: list[str]) -> None:
    words = [word for word in words if word not in ("…", "NAME")]
    group: click.Command = tradectl
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        found = group.get_command(click.Context(group), words[0])
        assert found is not None, f"there is no command {words[0]}"
        group, words = found, words[1:]
    known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert asked <= known | {"--help"}


@pytest.mark.parametrize("words", [call for call in calls_of("tradectl") if call.values[0]])
def test_the_options_of_a_tradectl_command_read_as_they_are_written(words: list[str], tmp_path: Path) -> None:
    group: click.Command = tradectl
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        group, words = group.get_command(click.Context(group), words[0]) or group, words[1:]
    if isinstance(group, click.Group) or "…" in words or not words:
        return
    group.make_context(group.name, list(words), resilient_parsing=False)


@pytest.mark.parametrize("words", calls_of("curl"))
def test_a_path_that_is_called_exists_with_its_method(words: list[str], application: Litestar) -> None:
    address = next(word for word in words if word.startswith("http://localhost:8000"))
    path = address.removeprefix("http://localhost:8000").partition("?")[0]
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


def test_the_file_that_halts_has_the_name_that_the_guide_says() -> None:
    assert f"> data/{live.HALT_FILE}\n" in GUIDE


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
    assert named <= FIELDS.keys()


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
