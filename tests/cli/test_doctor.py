"""`tradectl doctor` on a real appliance: well, and with its API, engine, Redis or watcher dead."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.text import Text
from support.running import Appliance, appliance, free_port, redis_server, wait_until
from support.tradectl import Said, tradectl
from support.watched import programs

from app.cli.diagnosis import BEFORE, WATCHER, Blocked, NotHere, Sign, Step, Tree, diagnose
from app.cli.judges import (
    SOON,
    judge_access,
    judge_answers,
    judge_gates,
    judge_health,
    judge_limits,
    judge_loop,
    judge_memory,
    judge_redis,
    judge_state,
    judge_strategies,
    judge_target,
    judge_units,
    judge_use,
)
from app.cli.page import ALARMING, _put
from app.cli.patient import Answer, Machine, Patient, Process, Unit, _shown
from app.cli.trees import TREES
from app.clock import ReplayClock
from app.config import Settings
from app.errors import NotRunning, TradingError
from app.secret import Secret
from app.signins import SCREEN, Asker, SignIns
from app.tokens import make

GUIDE = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
BUSY = {"load", "memory", "disk", "use", "speed", "lag"}  # what a machine that tests many things at once may have
COMPLAINTS = ("not responding", "no trades", "high resource use", "API errors", "Redis problems", "slow", "leaking")


def doctor(one: Appliance, *words: str) -> Said:
    given = {**one.settings_given, "API_PORT": str(one.port)}
    return tradectl("doctor", *words, cwd=one.place, **given)


def watched(one: Appliance, *checks: tuple[str, str], age: float = 5) -> None:
    """Leave what a watcher would have found just now."""
    at = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    items = [
        {"name": name, "status": status, "summary": f"{name} is {status}", "since": at, "at": at, "section": "Disk",
         "first": "df -h"}
        for name, status in checks
    ]  # fmt: skip
    folder = one.directory / "ops" / "published"
    folder.mkdir(parents=True, exist_ok=True)
    for topic, content in (("checks", items), ("leaks", [])):
        (folder / f"{topic}.json").write_text(json.dumps({"at": at, "items": content}))


def wrong(said: Said) -> dict[str, str]:
    """Return what is wrong with the appliance, besides a machine that is busy."""
    return {one["what"]: one["status"] for one in said.json["wrong"] if one["what"] not in BUSY}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("doctor")) as one:
        yield one


def test_an_appliance_that_is_well_has_nothing_wrong(running: Appliance) -> None:
    watched(running, ("disk", "OK"), ("orders", "OK"))
    assert wrong(doctor(running, "--json")) == {}
    said = doctor(running)
    assert all(complaint in said.out for complaint in COMPLAINTS)
    assert "the watcher looked" in said.out
    assert said.err == ""


def test_every_step_is_shown_when_it_is_asked_for(running: Appliance) -> None:
    watched(running, ("disk", "OK"))
    said = doctor(running, "--all")
    assert all(step.question in said.out for tree in TREES for step in tree.steps)


def test_as_json_each_step_has_its_answer_and_its_remedy(running: Appliance) -> None:
    watched(running, ("disk", "OK"))
    found = doctor(running, "--json").json
    assert [tree["name"] for tree in found["trees"]] == list(COMPLAINTS)
    for tree in found["trees"]:
        for step in tree["steps"]:
            assert step["text"] and step["remedy"], step


def test_what_the_watcher_found_is_told_with_the_first_thing_to_type(running: Appliance) -> None:
    watched(running, ("disk", "OK"), ("names", "CRITICAL"), ("ports", "WARN"))
    said = doctor(running)
    assert said.code == 1
    assert said.out.index("CRITICAL names") < said.out.index("WARN     ports")
    assert "type  df -h" in said.out and 'docs/operations.md, "Disk"' in said.out


@pytest.mark.parametrize(
    ("statuses", "code"),
    [([], 0), (["OK", "WARN"], 0), (["WARN", "UNKNOWN"], 1), (["CRITICAL", "WARN"], 1)],
)
def test_the_exit_code_is_that_of_the_worst(tmp_path: Path, statuses: list[Any], code: int) -> None:
    tree = Tree(
        "a", tuple(step(f"{number}", lambda _, one=one: Sign(one, "so")) for number, one in enumerate(statuses))
    )
    at = datetime.now(UTC).isoformat()
    place = tmp_path / "ops" / "published"
    place.mkdir(parents=True)
    (place / "checks.json").write_text(json.dumps({"at": at, "items": []}))
    found = diagnose([tree], patient(tmp_path))
    assert (found.status in ALARMING) == code
    assert [one.status for one in found.wrong] == sorted(
        (one for one in statuses if one != "OK"), key=["CRITICAL", "UNKNOWN", "WARN"].index
    )


def test_a_watcher_that_is_dead_is_told_and_what_it_left_is_not_believed(running: Appliance) -> None:
    watched(running, ("names", "CRITICAL"), age=3600)
    said = doctor(running, "--json")
    assert (said.code, wrong(said)) == (1, {WATCHER: "UNKNOWN"})


def test_without_an_engine_that_alone_is_told(tmp_path: Path) -> None:
    with appliance(tmp_path) as one:
        watched(one, ("loop", "CRITICAL"), ("trading", "CRITICAL"))
        one.engine.kill()
        wait_until(lambda: one.status()["state"] == "down", "the API sees it")
        said = doctor(one, "--json")
        assert (said.code, wrong(said)) == (1, {"engine": "CRITICAL"})
        assert "tradectl run" in said.json["wrong"][0]["mend"]
        trees = {tree["name"]: tree["status"] for tree in said.json["trees"]}
        assert trees["no trades"] == "blocked"


def test_an_engine_that_is_frozen_is_told_from_one_that_is_dead(tmp_path: Path) -> None:
    with appliance(tmp_path) as one:
        watched(one)
        one.engine.freeze()
        wait_until(lambda: one.client.get("/health").status_code == 503, "the API sees it")
        wait_until(lambda: wrong(doctor(one, "--json")).get("loop") == "CRITICAL", "the doctor sees it")
        assert "engine" not in wrong(doctor(one, "--json"))
        one.engine.thaw()


def test_without_an_api_the_rest_is_asked_all_the_same(tmp_path: Path) -> None:
    with appliance(tmp_path, api=False) as one:
        wait_until((one.directory / "engine.lock").exists, "the engine is up")
        watched(one, ("api", "UNKNOWN"), ("live", "CRITICAL"))
        said = doctor(one, "--json")
        assert (said.code, wrong(said)) == (1, {"API": "CRITICAL"})
        asked = {step["name"]: step["status"] for tree in said.json["trees"] for step in tree["steps"]}
        assert (asked["engine"], asked["disk"], asked["state"]) == ("OK", "OK", "blocked")


def test_an_api_that_hangs_is_told_from_one_that_is_gone(tmp_path: Path) -> None:
    with appliance(tmp_path) as one:
        watched(one)
        one.api.freeze()
        said = doctor(one)
        one.api.thaw()
        assert said.code == 1
        assert "takes connections, but did not answer in time" in said.out


def test_without_redis_trading_goes_on_and_it_is_a_warning(tmp_path: Path) -> None:
    with redis_server() as url, appliance(tmp_path, redis=False, engine=False, api=False) as one:
        dead = f"redis://127.0.0.1:{free_port()}"
        assert url != dead
        one.settings_given["REDIS_URL"] = dead
        watched(one, ("redis", "CRITICAL"))
        assert wrong(doctor(one, "--json"))["Redis"] == "WARN"
        one.settings_given["REDIS_URL"] = url
        assert "Redis" not in wrong(doctor(one, "--json"))


def test_where_nothing_runs_at_all_it_says_how_to_start(tmp_path: Path) -> None:
    said = tradectl("doctor", cwd=tmp_path, API_PORT=str(free_port()))
    assert said.code == 1
    assert "has nobody who listens there" in said.out and "no engine has the account" in said.out
    assert "tradectl run" in said.out
    assert said.err == ""


def test_settings_that_do_not_read_are_told_as_everywhere(tmp_path: Path) -> None:
    said = tradectl("doctor", cwd=tmp_path, ALLOCATION="7")
    assert (said.code, said.out) == (4, "")


@pytest.mark.parametrize(
    "step", {step.name: step for tree in TREES for step in tree.steps}.values(), ids=lambda s: s.name
)
def test_every_step_has_a_section_of_the_guide_and_a_remedy(step: Step) -> None:
    titles = [line.lstrip("#").strip() for line in GUIDE.splitlines() if line.startswith("#")]
    assert step.section in titles
    assert step.remedy
    assert step.question.endswith("?")


def test_a_name_is_one_step_wherever_it_stands() -> None:
    known: dict[str, Step] = {}
    for tree in TREES:
        for step in tree.steps:
            assert known.setdefault(step.name, step) == step
    assert {name for step in known.values() for name in step.after} <= known.keys()


# -- judges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sign", "status", "told"),
    [
        (judge_loop(0.2), "OK", "0.2 s ago"),
        (judge_loop(4), "WARN", "4.0 s"),
        (judge_loop(11), "CRITICAL", "11.0 s"),
        (judge_loop(None), "UNKNOWN", "never"),
        (judge_health(Answer(200, {"status": "degraded", "reasons": ["a", "b"]}, 0.1)), "WARN", "degraded: a; b"),
        (judge_health(Answer(503, {"status": "unhealthy", "reasons": ["a"]}, 0.1)), "CRITICAL", "unhealthy: a"),
        (judge_state({"state": "active", "reason": None}), "OK", "trading is active"),
        (judge_state({"state": "stopped", "reason": "lunch"}), "WARN", "stopped: lunch"),
        (judge_state({"state": "halted", "reason": "odd"}), "CRITICAL", "halted: odd"),
        (judge_strategies([{"name": "a", "running": True, "reason": None}]), "OK", "1 of 1"),
        (judge_strategies([{"name": "a", "running": False, "reason": "sick"}]), "CRITICAL", "a (sick)"),
        (judge_gates([{"gate": "no_signal", "text": ""}, {"gate": "closed", "text": ""}]), "OK", "1 x closed"),
        (judge_gates([{"gate": "stale", "text": ""}, {"gate": "closed", "text": ""}]), "CRITICAL", "stale"),
        (judge_gates([{"gate": "stale", "text": ""}, {"gate": "open", "text": ""}]), "WARN", "stale"),
        (judge_gates([{"gate": "denied", "text": "cooldown"}]), "OK", "a rule says no: cooldown"),
        (judge_gates([]), "WARN", "nothing to trade"),
        (judge_limits([{"rule": "max_position", "left": 0.1}, {"rule": "x", "left": None}]), "OK", "2 limits"),
        (judge_limits([{"rule": "max_position", "left": 0}]), "WARN", "max_position"),
        (judge_memory(Machine(0, 0.5, None, 1, "/")), "OK", "50%"),
        (judge_memory(Machine(0, 0.04, 0.2, 1, "/")), "CRITICAL", "20% of swap"),
        (judge_use([Process("engine", 1, 0.95, 2**20, 3, 9)]), "WARN", "engine 95% of a core and 1 MiB"),
        (judge_redis(False), "WARN", "does not answer"),
    ],
)
def test_a_judge_says_how_it_is(sign: Sign, status: str, told: str) -> None:
    assert sign.status == status
    assert told in sign.text


@pytest.mark.parametrize(
    ("days", "status", "told"),
    [
        (None, "OK", "no token and no screen has a last day"),
        (SOON + 1, "OK", "the first to end is the token grafana, with"),
        (SOON, "WARN", "the token grafana ends with"),
        (0, "WARN", "the token grafana ends with"),
        (-1, "WARN", "the token grafana ended with"),
    ],
)
@pytest.mark.parametrize("here", [True, False], ids=["made here", "of API_TOKENS"])
def test_a_token_that_ends_within_two_weeks_is_told(
    tmp_path: Path, here: bool, days: int | None, status: str, told: str
) -> None:
    now = datetime.now(UTC)
    last = None if days is None else (now + timedelta(days=days)).date()
    entry = ""
    if here:
        SignIns(tmp_path).make_token("grafana", ["read"], last, Asker("here"))
    else:
        _, entry = make("grafana", ["read"], last)
    sign = judge_access(Patient(Settings(data_dir=str(tmp_path), api_tokens=Secret(entry)), now))
    assert (sign.status, sign.text.startswith(told)) == (status, True), sign
    assert last is None or f"{last}" in sign.text


def test_a_screen_whose_days_are_over_soon_is_told_with_who_let_it_in(tmp_path: Path) -> None:
    clock = ReplayClock(datetime.now(UTC) - SCREEN + timedelta(days=SOON - 1))
    door = SignIns(tmp_path, clock)
    door.add_user("anna", ["read"], "correct horse battery", Asker("here"))
    session = door.session(door.sign_in("anna", "correct horse battery", Asker("here")))
    assert session
    door.let_screen_in(str(door.code_of(door.ask_for_screen(Asker("there")))), "kitchen", session, Asker("here"))
    sign = judge_access(Patient(Settings(data_dir=str(tmp_path)), datetime.now(UTC)))
    assert (sign.status, sign.text.startswith("the screen kitchen of anna ends with")) == ("WARN", True), sign


def test_answers_that_were_faults_are_counted_and_honest_refusals_are_not() -> None:
    text = (
        'trading_api_requests_total{method="GET",route="/health",status="200"} 7.0\n'
        'trading_api_requests_total{method="GET",route="/health",status="503"} 5.0\n'
        'trading_api_requests_created{method="GET",route="/x",status="500"} 1.7e+09\n'
        'trading_api_requests_total{method="GET",route="/x",status="500"} 2.0\n'
    )
    sign = judge_answers(Answer(200, text, 0.1))
    assert (sign.status, sign.text) == ("WARN", "of 14 answers faults were: 2 x GET /x 500")
    assert judge_answers(Answer(200, text.replace('"500"', '"404"'), 0.1)).status == "OK"


def raising(fault: Exception) -> Any:
    def probe(_: Patient) -> None:
        raise fault

    return probe


def step(name: str, probe: Any, **others: Any) -> Step:
    return Step(name, f"{name}?", probe, lambda sign: sign, "mend it", "Disk", **others)


def patient(tmp_path: Path) -> Patient:
    return Patient(Settings(data_dir=str(tmp_path)), datetime.now(UTC))


def test_a_step_that_cannot_be_told_is_unknown_and_one_that_is_blocked_is_not_told_twice(tmp_path: Path) -> None:
    bad = Sign("CRITICAL", "bad")
    tree = Tree(
        "complaint",
        (
            step("cause", lambda _: bad),
            step("consequence", lambda _: bad, after=("cause",)),
            step("broken", raising(ValueError("odd"))),
            step("blocked", raising(Blocked("by the cause"))),
            step("dead", raising(NotRunning("no engine"))),
            step("elsewhere", raising(NotHere("no such thing"))),
        ),
    )
    found = diagnose([tree], patient(tmp_path))
    assert [(one.what, one.status) for one in found.wrong] == [("cause", "CRITICAL"), ("broken", "UNKNOWN")]
    statuses = [one.status for one in found.trees[0].steps]
    assert statuses == ["CRITICAL", "CRITICAL", "UNKNOWN", "blocked", "blocked", "skipped"]
    assert found.trees[0].steps[1].because == "cause"


def test_a_complaint_that_could_not_be_looked_into_is_not_well(tmp_path: Path) -> None:
    well = Sign("OK", "well")
    found = diagnose(
        [Tree("a", (step("one", lambda _: well), step("two", raising(Blocked("why")))))], patient(tmp_path)
    )
    assert found.trees[0].status == "blocked"


# -- what a person does first -----------------------------------------------------------------------------------------


def test_the_first_thing_to_type_stands_at_the_top(tmp_path: Path) -> None:
    with appliance(tmp_path, engine=False) as one:
        watched(one)
        said, found = doctor(one), doctor(one, "--json").json
    head = said.out.splitlines()[:3]
    assert head[0].endswith("Begin with:")
    assert head[2].strip() == found["first"] == found["wrong"][0]["mend"]
    assert "tradectl run" in found["first"]


def test_every_complaint_ends_in_a_conclusion(running: Appliance) -> None:
    watched(running, ("disk", "OK"), ("orders", "OK"))
    for tree in doctor(running, "--json").json["trees"]:
        assert tree["conclusion"] and tree["mend"], tree["name"]
        assert not tree["mend"].startswith("sudo "), "nobody is another user on a laptop"
    assert all(tree.clear != "nothing" and tree.then for tree in TREES)


def test_a_complaint_that_comes_from_another_thing_ends_in_that_one(tmp_path: Path) -> None:
    bad, late = Sign("CRITICAL", "it is dead", "wake it"), Sign("UNKNOWN", "no answer")
    trees = [
        Tree("one", (step("cause", lambda _: bad),), "fine", "enjoy"),
        Tree("two", (step("consequence", lambda _: late, after=("cause",)),), "fine", "enjoy"),
        Tree("three", (step("well", lambda _: Sign("OK", "well")),), "fine", "enjoy"),
        Tree("four", (step("unasked", raising(Blocked("by the cause", "wake it"))),), "fine", "enjoy"),
    ]
    found = diagnose(trees, patient(tmp_path))
    assert [(one.conclusion, one.mend) for one in found.trees] == [
        ("cause: it is dead", "wake it"),
        ("cause: it is dead", "wake it"),
        ("fine", "enjoy"),
        ("not known: by the cause", "wake it"),
    ]
    assert found.first == "wake it"


def test_what_the_watcher_saw_before_it_was_mended_is_neither_told_as_wrong_nor_as_well(running: Appliance) -> None:
    watched(running, ("live", "CRITICAL"), ("orders", "UNKNOWN"), ("loss", "UNKNOWN"), ("names", "CRITICAL"), age=60)
    found = doctor(running, "--json").json
    told = {one["what"]: one["status"] for one in found["wrong"] if one["what"] not in BUSY}
    assert told == {"names": "CRITICAL", BEFORE: "UNKNOWN"}
    before = next(one for one in found["wrong"] if one["what"] == BEFORE)
    assert all(name in before["text"] for name in ("live", "orders", "loss")) and "names" not in before["text"]
    assert before["mend"] == "tradectl check"
    orders = next(one for tree in found["trees"] for one in tree["steps"] if one["name"] == "orders")
    assert orders["status"] == "blocked"


def test_what_the_watcher_may_not_look_at_hides_nothing_that_it_found(running: Appliance) -> None:
    watched(running, ("live", "UNKNOWN"), ("orders", "CRITICAL"), age=60)
    told = wrong(doctor(running, "--json"))
    assert BEFORE not in told
    assert {"live", "orders"} <= told.keys()


def test_a_full_disk_comes_before_what_it_breaks(tmp_path: Path) -> None:
    signs = {
        "disk": Sign("CRITICAL", "full", "make room"),
        "engine": Sign("CRITICAL", "dead"),
        "API": Sign("OK", "well"),
    }
    steps = {one.name: one for tree in TREES for one in tree.steps}
    tree = Tree("a", tuple(msgspec.structs.replace(steps[name], probe=lambda _, one=one: one, judge=lambda one: one)
                           for name, one in signs.items()))  # fmt: skip
    found = diagnose([tree], patient(tmp_path))
    assert [one.what for one in found.wrong if one.what in signs] == ["disk"]
    assert found.first == "make room"
    assert [one.because for one in found.trees[0].steps] == [None, "disk", None]


def test_another_program_on_our_port_is_told(tmp_path: Path) -> None:
    with another_program(b'{"error": "no such page"}') as port:
        found = tradectl("doctor", "--json", cwd=tmp_path, API_PORT=str(port)).json
    (first,) = [one for one in found["wrong"] if one["what"] == "API"]
    assert first["status"] == "CRITICAL" and "another program answers" in first["text"]


@pytest.mark.parametrize("content", [b"[]", b'"x"', b"7", b"<html>"])
def test_whatever_another_program_answers_the_page_is_shown(tmp_path: Path, content: bytes) -> None:
    with another_program(content) as port:
        said = tradectl("doctor", cwd=tmp_path, API_PORT=str(port))
    assert said.code == 1 and said.err == ""
    assert all(complaint in said.out for complaint in COMPLAINTS)


def test_a_question_that_breaks_leaves_the_others_their_answers(tmp_path: Path) -> None:
    tree = Tree("a", (step("broken", raising(TypeError("odd"))), step("well", lambda _: Sign("OK", "well"))))
    statuses = [one.status for one in diagnose([tree], patient(tmp_path)).trees[0].steps]
    assert statuses == ["UNKNOWN", "OK"]


@pytest.mark.parametrize(
    ("unit", "status", "told", "mend"),
    [
        (Unit("a.service", True, "active", "running", "success", False), "OK", "1 units are well", ""),
        (Unit("a.service", True, "inactive", "dead", "success", True), "OK", "1 units are well", ""),
        (
            Unit("a.service", True, "inactive", "dead", "success", False),
            "CRITICAL",
            "has to be active",
            "start a.service",
        ),
        (
            Unit("a.service", True, "failed", "failed", "exit-code", True),
            "CRITICAL",
            "failed (exit-code)",
            "reset-failed",
        ),
        (Unit("a.service", True, "activating", "auto-restart", "signal", False), "CRITICAL", "started again", "start"),
        (Unit("a.service", False, "inactive", "dead", "success", False), "CRITICAL", "not installed", "daemon-reload"),
    ],
)
def test_a_unit_is_judged_as_it_is_now(unit: Unit, status: str, told: str, mend: str) -> None:
    sign = judge_units([unit])
    assert (sign.status, told in sign.text, mend in sign.mend) == (status, True, True)


@pytest.mark.parametrize(("remains", "status"), [("yes", "CRITICAL"), ("no", "OK")])
def test_a_unit_that_stays_active_after_its_work_is_missed_when_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remains: str, status: str
) -> None:
    shown = f"Id=nftables.service\nType=oneshot\nRemainAfterExit={remains}\nLoadState=loaded\nActiveState=inactive\n"
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", systemctl=f"cat <<'END'\n{shown}SubState=dead\nEND"))
    assert judge_units(list(_shown(["nftables.service"]))).status == status


def test_a_systemd_that_does_not_answer_is_no_machine_without_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", systemctl="echo 'Failed to connect to bus' >&2; exit 1"))
    with pytest.raises(TradingError, match="systemd cannot be asked: Failed to connect to bus"):
        list(_shown(["nftables.service"]))


@pytest.mark.parametrize(("active", "status"), [("active", "OK"), ("inactive", "CRITICAL")])
def test_what_was_stopped_as_a_whole_is_told_as_that(active: str, status: str) -> None:
    sign = judge_target(Unit("trading.target", True, active, "", "success", False))
    assert (sign.status, "stopped by hand" in sign.text) == (status, status != "OK")


def test_a_process_cannot_steer_the_terminal_of_the_doctor() -> None:
    console = Console(file=StringIO(), force_terminal=True)
    _put(console, Text("most has \x1b[2J\x1b[Hx"))
    assert console.file.getvalue().strip() == "most has ?[2J?[Hx"


def test_one_command_starts_all_units_that_are_not_well() -> None:
    timer = Unit("b.timer", True, "inactive", "dead", "success", False)
    service = Unit("c.service", True, "failed", "failed", "signal", False)
    assert judge_units([timer, service]).mend == (
        "sudo systemctl reset-failed c.service && sudo systemctl start c.service b.timer"
    )


@contextmanager
def another_program(content: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
