"""The trees of the doctor: for each complaint the questions to ask, in which order, and what mends it.

A probe asks and returns what it found; judges.py says what it means. What the watcher measures better over time is
taken from it. Each tree ends in a conclusion: a step that is not well, or what it means that all of them are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.cli.diagnosis import AS_ROOT, WATCHER, Blocked, NotHere, Sign, Step, Tree
from app.cli.judges import (
    judge_access,
    judge_answers,
    judge_callers,
    judge_checks,
    judge_disk,
    judge_engine,
    judge_files,
    judge_gates,
    judge_health,
    judge_lag,
    judge_leaks,
    judge_life,
    judge_limits,
    judge_load,
    judge_loop,
    judge_memory,
    judge_prices,
    judge_redis,
    judge_settings,
    judge_speed,
    judge_state,
    judge_strategies,
    judge_target,
    judge_units,
    judge_use,
    judge_watcher,
)
from app.cli.patient import METRICS, Answer, Machine, Patient, Process, Unit
from app.cli.settling import refuse_unusable
from app.errors import TradingError
from app.watched import CheckAnswer

START, RUN = "sudo systemctl start trading.target", "tradectl run (where it runs already: Ctrl-C first)"
RESTART_API, RESTART_ENGINE = "sudo systemctl restart trading-api", "sudo systemctl restart trading-engine"
LOOK_AGAIN = "sudo tradectl check"
MAKE_ROOM = "sudo journalctl --vacuum-size=200M && sudo apt-get clean && sudo du -xh --max-depth=2 /var"
ANEW = "stop tradectl run (Ctrl-C), and start it again"
GONE = ("api", "live", "ready", "loop", "trading", "orders", "providers", "loss", "no_trade", "services")
TOLD = {  # units whose state is the matter of another step, by the name of that step
    "engine": ("trading-engine.service", "trading.target"),
    "API": ("trading-api.service", "trading-api.socket"),
    "Redis": ("redis-server.service",),
}


# -- probes -----------------------------------------------------------------------------------------------------------


def answer(path: str) -> Callable[[Patient], Answer]:
    """Return a probe that asks the API; if nobody is there, that is told by another step."""

    def probe(patient: Patient) -> Answer:
        if patient.silent:
            raise Blocked("the API does not answer", RESTART_API if patient.appliance else RUN)
        return patient.ask(path)

    return probe


def of_engine(path: str) -> Callable[[Patient], Any]:
    """Return a probe for an answer that is worth something only while an engine runs."""

    def probe(patient: Patient) -> Any:
        asked = answer(path)(patient)
        if answer("/api/v1/trading/status")(patient).body["state"] == "down":
            raise Blocked("no engine runs", START if patient.appliance else RUN)
        return asked.body

    return probe


def of_watcher(*names: str) -> Callable[[Patient], list[CheckAnswer]]:
    """Return a probe for what the watcher found last."""

    def probe(patient: Patient) -> list[CheckAnswer]:
        if patient.checks.reason:
            raise Blocked(patient.checks.reason, LOOK_AGAIN if patient.appliance else "tradectl check")
        found = patient.found(names)
        if not found:
            raise NotHere("the watcher does not look at this here")
        if patient.outdated.issuperset(one.name for one in found):
            raise Blocked("the watcher looked before this was mended", LOOK_AGAIN)
        return [one for one in found if one.name not in patient.outdated]

    return probe


def of_systemd(patient: Patient) -> list[Unit]:
    """Return the units that no other step speaks of while it is not well."""
    if not patient.appliance:
        raise NotHere("no units run this")
    dead = {"engine": _no_engine(patient), "API": patient.silent, "Redis": _no_redis(patient)}
    told = {name for step, names in TOLD.items() if dead[step] for name in names}
    return [one for one in patient.units if one.name not in told]


def of_target(patient: Patient) -> Unit:
    if not patient.appliance:
        raise NotHere("no units run this")
    return next(one for one in patient.units if one.name == "trading.target")


def _no_engine(patient: Patient) -> bool:
    try:
        return patient.engine is None
    except PermissionError:
        return False


def _no_redis(patient: Patient) -> bool:
    try:
        return patient.redis is False
    except PermissionError:
        return False


def of_machine(patient: Patient) -> Machine:
    return patient.machine


def of_processes(patient: Patient) -> list[Process]:
    if not patient.processes:
        raise Blocked("no process of ours runs, or this user may not see it", AS_ROOT)
    return patient.processes


def refusal(patient: Patient) -> TradingError | None:
    if not patient.secrets_seen:
        raise Blocked("this user may not see the secrets, without which they cannot be tried", AS_ROOT)
    try:
        refuse_unusable(patient.settings)
    except TradingError as fault:
        return fault
    return None


def itself(patient: Patient) -> Patient:
    return patient


# -- the trees --------------------------------------------------------------------------------------------------------

STATUS = of_engine("/api/v1/trading/status")
STOPPED = Step("stopped", "Is it meant to run?", of_target, judge_target, START, "A unit failed", "", (*GONE, "timers"))
API = Step("API", "Does the API answer?", itself, judge_life, RESTART_API, "The web process does not answer", RUN, GONE,
           ("stopped",), same=("live",), dire=("disk",))  # fmt: skip
ENGINE = Step(
    "engine", "Does an engine have the account?", lambda one: one.trader, judge_engine, START,
    "the engine is not running", RUN, GONE, ("stopped",), same=("loop",), dire=("disk",),
)  # fmt: skip
LOOP = Step(
    "loop", "Does its loop move?", lambda one: one.loop_age(), judge_loop, RESTART_ENGINE,
    "the engine's loop has not moved for … s", ANEW, GONE, ("engine",), ("loop",), ("disk",),
)  # fmt: skip
DISK = Step("disk", "Is there room on the disks?", of_machine, judge_disk, MAKE_ROOM, "Disk", "df -h", ("disk",))
REDIS = Step(
    "Redis", "Does Redis answer?", lambda one: one.redis, judge_redis, "sudo systemctl restart redis-server",
    "Redis is down", ANEW, tuple(f"redis{what}" for what in ("", "_memory", "_evictions", "_saves", "_latency", "_slow",
    "_config")), (), ("redis",), ("disk",),
)  # fmt: skip
STATE = Step(
    "state", "Is trading active?", STATUS, judge_state, "tradectl status", "States", explains=("trading", "ready"),
    after=("engine",), same=("trading",),
)  # fmt: skip
MEMORY = Step(
    "memory", "Is there memory?", of_machine, judge_memory, "free -h", "Memory, swap and load", "", ("memory",)
)
LOAD_STEP = Step(
    "load", "Has the processor time?", of_machine, judge_load, "uptime", "Memory, swap and load", "", ("load",)
)
USE = Step(
    "use", "Do our own processes take little?", of_processes, judge_use, "sudo tradectl profile engine 30s",
    "Where the time goes", "tradectl profile engine 30s",
)  # fmt: skip

TREES = (
    Tree(
        "not responding",
        (
            DISK,
            STOPPED,
            API,
            ENGINE,
            LOOP,
            Step("health", "Is it well by its own word?", answer("/health"), judge_health,
                 "curl http://localhost:8000/health", "Reasons of the health answer", "", ("api", "ready"),
                 ("engine", "loop", "Redis", "state"), ("api",), ("disk",)),
            Step("units", "Are all units well?", of_systemd, judge_units,
                 "systemctl list-units --failed", "A unit failed", "", ("services", "timers"), ("stopped",),
                 ("services",)),
            Step(WATCHER, "Does the watcher look?", itself, judge_watcher, "sudo systemctl start trading-check",
                 "A job did not run", "tradectl check"),
        ),
        "it responds on this machine; who cannot reach it is stopped on the way: name, firewall, certificate or token",
        "tradectl status",
    ),
    Tree(
        "no trades",
        (
            STATE,
            Step("prices", "Do prices come in?", STATUS, judge_prices, "tradectl providers", "Stale feed", "",
                 ("providers",), ("engine", "Redis")),
            Step("strategies", "Do the strategies run?", of_engine("/api/v1/trading/strategies"), judge_strategies,
                 "tradectl strategies", "A strategy is in quarantine"),
            Step("gates", "What stands before the next trade?", of_engine("/api/v1/trading/explain"), judge_gates,
                 "tradectl explain", "Is it running", after=("state", "prices")),
            Step("limits", "Do the limits leave room?", of_engine("/api/v1/trading/limits"), judge_limits,
                 "tradectl limits", "Risk rules", after=("state",)),
            Step("orders", "Is the fate of every order known?", of_watcher("orders"), judge_checks,
                 "tradectl orders --limit 20", "the broker did not say what became of …", "", ("orders",),
                 ("engine", "API")),
            Step("last trade", "Was there a trade of late?", of_watcher("no_trade"), judge_checks,
                 "tradectl explain", "No trade", "", ("no_trade",), ("engine", "API", "state", "prices")),
        ),
        "nothing is in the way: the strategies see no reason to trade now, which is no fault",
        "tradectl explain",
    ),
    Tree(
        "high resource use",
        (
            LOAD_STEP,
            MEMORY,
            Step("swap", "Is it not swapping?", of_watcher("swap", "pressure"), judge_checks, "free -h",
                 "Memory, swap and load", "", ("swap", "pressure")),
            USE,
            Step("killed", "Was nothing killed for memory?", of_watcher("oom"), judge_checks,
                 "journalctl -k -n 50", "A process was killed for memory", "", ("oom",)),
            DISK,
        ),
        "nothing takes much now; if it comes and goes, watch the engine while it does",
        "sudo tradectl profile engine 10min",
    ),
    Tree(
        "API errors",
        (
            API,
            Step("answers", "Are its answers free of faults?", answer(METRICS), judge_answers,
                 "sudo tradectl logs --errors --since 24h", "The log", "tradectl logs --errors --since 24h"),
            Step("settings", "Are the settings usable?", refusal, judge_settings, "sudo tradectl doctor settings",
                 "The ledger cannot be used", "tradectl doctor settings"),
            Step("callers", "May callers come in?", itself, judge_callers, "sudo tradectl doctor settings",
                 "Who may call from outside"),
            Step("access", "Does nobody's access end soon?", itself, judge_access, "sudo tradectl user tokens",
                 "Who may call from outside", "tradectl user tokens"),
            Step("certificate", "Is the certificate good?", of_watcher("certificate"), judge_checks,
                 "sudo trading-status", "The certificate", "", ("certificate",)),
            Step("account", "Can the account be read?", answer("/api/v1/trading/portfolio"),
                 lambda said: Sign("OK", f"it is worth {said.body['total_value']:,.2f}"),
                 "sudo tradectl ledger verify", "The ledger cannot be used"),
        ),
        "no answer was a fault; a caller who is refused has a wrong address, name or token, and the answer says which",
        "sudo tradectl logs --unit api --since 1h",
    ),
    Tree(
        "Redis problems",
        (
            REDIS,
            *(
                Step(f"Redis: {name}", question, of_watcher(f"redis_{name}"), judge_checks, command, section, "",
                     (f"redis_{name}",), ("Redis",))
                for name, question, command, section in (
                    ("memory", "Has it memory left?", "redis-cli info memory", "How Redis is"),
                    ("evictions", "Does it keep its keys?", "redis-cli info stats", "How Redis is"),
                    ("saves", "Does it save?", "redis-cli info persistence", "How Redis is"),
                    ("latency", "Is it quick?", "sudo redis-operator LATENCY LATEST", "How Redis is"),
                    ("slow", "Are its commands quick?", "sudo redis-operator SLOWLOG GET 10", "How Redis is"),
                    ("config", "Is it set as it was deployed?", "sudo redis-operator CONFIG GET save",
                     "Settings that drifted"),
                )
            ),
        ),
        "Redis is well",
        "sudo tradectl doctor --all",
    ),
    Tree(
        "slow",
        (
            Step("speed", "Does the API answer quickly?", answer("/health/live"), judge_speed,
                 "sudo tradectl logs --slow --since 24h", "The log", "tradectl logs --slow --since 24h"),
            Step("lag", "Are events handled at once?", STATUS, judge_lag, "sudo tradectl profile engine 30s",
                 "Where the time goes", "tradectl profile engine 30s", ("loop",), ("engine", "loop")),
            LOAD_STEP,
            MEMORY,
            REDIS,
        ),
        "nothing is slow now; what was slow is in the log",
        "sudo tradectl logs --slow --since 24h",
    ),
    Tree(
        "leaking",
        (
            Step("leaks", "Does nothing grow without end?", itself, judge_leaks,
                 "curl http://localhost:8000/api/v1/ops/leaks", "A leak", "", ("leaks",)),
            Step("files", "Are few files open?", of_processes, judge_files, "sudo ls /proc/PID/fd", "Open files", "",
                 ("descriptors",)),
            USE,
        ),
        "nothing grows without end",
        "curl http://localhost:8000/api/v1/ops/leaks",
    ),
)  # fmt: skip
