"""The rules of the tree, read from the source: which file may import which, and how long, late and broad it may be.

Imports point towards `model`, never along the flow of the data. The table below is the whole of it: a new file needs a
line here, and a new arrow is a decision, not an accident.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 10
LONGEST_FILE = 450

CORE = "errors model clock"
STRATEGY = "errors model strategies.indicators"
API = "api.call api.problems errors schemas"
DOOR = "api.auth api.call api.door api.problems errors"
TRADECTL = "cli.client cli.tables cli.words config errors schemas"

PLAIN_FORMS = {"dict", "list", "tuple", "str", "int", "float", "bool", "bytes", "Any"}
# These work out forms when they are asked to: settings at the start, bodies of requests in the event loop alone.
IN_ONE_THREAD = {("app", "config"), ("ops", "config"), ("app", "api.call")}

# file -> what it may import of ours; `app` alone is the package with its version
MAY_IMPORT = {
    "app": "",
    # values and tools: they know nothing of the flow
    "errors": "",
    "secret": "",
    "guard": "",
    "notify": "",
    "ending": "",
    "tokens": "errors secret",
    "performance": "",
    "limits": "",
    "model": "errors",
    "clock": "errors",
    "sessions": "clock model",
    "log": "secret",
    "memory": "clock log",
    "lease": "errors",
    "marker": "errors",
    "fence": "clock errors marker",
    "config": "errors limits model secret",
    # the books
    "ledger": CORE,
    "holdings": "model",
    "portfolio": f"{CORE} holdings ledger",
    "store": f"{CORE} ledger marker portfolio",
    # where events come from, where orders go
    "stream": CORE,
    "feed": "errors model",
    "feed.asking": "feed.lane feed.route feed.source feed.tolerance model",
    "feed.budget": "clock errors feed secret",
    "feed.candles": CORE,
    "feed.doubt": "model",
    "feed.ear": f"{CORE} feed feed.asking feed.join feed.setup feed.tape",
    "feed.finnhub": f"{CORE} feed feed.candles feed.line secret",
    "feed.holes": "clock feed.bars model",
    "feed.join": f"{CORE} feed feed.asking feed.doubt feed.holes feed.lane feed.route feed.source feed.tolerance",
    "feed.lane": "clock model",
    "feed.line": "clock errors feed secret",
    "feed.live": f"{CORE} feed feed.asking feed.ear feed.join feed.socket feed.source log",
    "feed.plan": f"{CORE} feed.budget",
    "feed.providers": f"app {CORE} config feed feed.budget feed.ear feed.finnhub feed.join feed.line feed.live "
    "feed.plan feed.setup feed.socket feed.source feed.tape feed.tolerance feed.twelvedata log secret sessions",
    "feed.route": "clock feed.doubt feed.lane model",
    "feed.setup": "feed.plan feed.tolerance model",
    "feed.socket": f"{CORE} feed",
    "feed.source": f"{CORE} feed feed.budget feed.lane feed.plan",
    "feed.tape": f"{CORE} feed",
    "feed.tolerance": "",
    "feed.trial": f"{CORE} feed feed.budget feed.plan feed.socket",
    "feed.twelvedata": f"{CORE} feed feed.candles feed.line secret",
    "feed.bars": CORE,
    "feed.replay": f"{CORE} feed",
    "feed.simulated": f"{CORE} feed",
    "broker": "model",
    "broker.matching": CORE,
    "broker.simulated": f"{CORE} broker broker.matching",
    # decisions
    "strategies": "model",
    "strategies.indicators": "errors",
    "strategies.bollinger": STRATEGY,
    "strategies.donchian": STRATEGY,
    "strategies.momentum": STRATEGY,
    "strategies.rsi_reversion": STRATEGY,
    "strategies.sma_cross": STRATEGY,
    "strategies.registry": "errors strategies strategies.bollinger strategies.donchian strategies.momentum "
    "strategies.rsi_reversion strategies.sma_cross",
    "sizing": "holdings model portfolio",
    "risk": "clock holdings limits model portfolio",
    "watch": "clock holdings limits model portfolio risk",
    "marking": "clock ledger portfolio",
    "reconcile": "broker ledger model portfolio",
    "decision": "ledger limits model",
    "desk": "holdings model portfolio risk strategies",
    "control": "errors ledger marker model portfolio",
    "recovery": "broker decision holdings ledger model portfolio reconcile",
    "engine": f"{CORE} broker control decision desk holdings ledger marking portfolio recovery risk sizing stream "
    "watch",
    "loop": "broker decision engine ledger model stream",
    # what the engine shows
    "narrate": "ledger log model",
    "telemetry": "engine ledger model risk",
    "snapshot": "desk feed risk",
    "cache": "secret",
    "publisher": "cache clock engine feed model risk snapshot telemetry",
    # the composition roots
    "backtest": f"{CORE} broker.simulated decision desk engine ledger limits loop performance portfolio "
    "strategies.registry",
    "market": f"{CORE} config feed feed.providers feed.replay feed.simulated portfolio sessions",
    "live": f"app {CORE} broker.simulated cache config control decision desk engine feed feed.bars feed.replay "
    "fence guard lease ledger log loop market marker memory narrate notify portfolio publisher recording store "
    "strategies strategies.registry stream telemetry",
    "reconciling": f"app {CORE} broker config control engine fence holdings ledger lease live market marker portfolio "
    "store",
    "chain": f"{CORE} lease ledger marker portfolio store",
    "export": f"{CORE} chain lease ledger portfolio store",
    "cutting": f"{CORE} chain control fence ledger marker portfolio store",
    "recording": f"{CORE} log portfolio stream",
    "replay": f"{CORE} backtest config desk engine guard ledger live loop market portfolio recording store",
    # answers: they read, and leave commands
    # who may sign in, and who is: apart from the account
    "lockout": "",
    "passwords": "errors",
    "people": "errors marker tokens",
    "signed_in": "errors lockout",
    "signins": "clock errors lockout log passwords people signed_in tokens",
    "view": f"{CORE} cache fence lease ledger performance portfolio snapshot store",
    "schemas": "model performance",
    "queries": "app config errors feed holdings model performance portfolio schemas snapshot strategies.registry view",
    "history": "errors ledger model schemas view",
    # what was logged, by whichever process
    "machine": "",
    "journal": "errors log",
    "logged": "errors journal log",
    # what the watcher left: it is another program
    "watched": "",
    "watcher": "watched",
    # the web
    "api": "",
    "api.auth": "log tokens",
    "api.call": "config errors schemas view",
    "api.commands": f"{API} api.described control history ledger model queries view",
    "api.described": "app",
    "api.door": "api.auth api.call api.problems clock errors signins tokens",
    "api.events": f"{API} api.door history ledger view",
    "api.health": f"{API} queries",
    "api.market": f"{API} queries",
    "api.metrics": f"{API} api.door api.events log queries snapshot view",
    "api.ops": f"{API} watched watcher",
    "api.problems": "api.call errors log schemas",
    "api.questions": "errors",
    "api.trading": f"{API} clock history performance queries",
    "web": "",
    "web.account": f"{DOOR} signins web.room web.signing",
    "web.achieved": "api.call api.trading clock errors performance queries schemas view web.overview web.room "
    "web.signing",
    "web.acting": "api.call api.commands api.problems errors schemas web.room web.signing",
    "web.assets": "api.call api.problems errors",
    "web.asking": "api.call api.problems errands errors log watcher web.room web.signing",
    "web.books": "errors history schemas view web.halts web.words",
    "web.glance": "config errors queries schemas view watched watcher web.rules web.words",
    "web.halts": "history schemas view",
    "web.ledgers": "api.call errors queries schemas view web.achieved web.books web.room web.signing web.stops",
    "web.live": "log",
    "web.logs": "api.call api.trading clock web.ledgers web.room web.signing web.tail web.wire",
    "web.looks": "history queries schemas view web.acting web.halts web.room web.rules web.words",
    "web.ops": "errands watched watcher web.room web.words",
    "web.overview": "clock history ledger performance queries view web.books web.room",
    "web.packing": "",
    "web.pages": "api.call api.problems errors performance web.account web.achieved web.acting web.asking "
    "web.ledgers web.logs web.looks web.ops web.overview web.reading web.room web.signing web.wire",
    "web.reading": "api.call api.problems watched watcher web.room web.signing",
    "web.room": "app api.auth api.call api.problems errors queries schemas view watched watcher web.assets web.glance "
    "web.live web.signing web.tail web.words",
    "web.rules": "schemas web.words",
    "web.sign_in": f"{DOOR} signins web.room web.signing",
    "web.signing": f"{DOOR} passwords signins",
    "web.stops": "holdings limits schemas",
    "web.tail": "app config errors journal log logged machine",
    "web.wire": "api.call api.door api.problems web.room web.signing",
    "web.words": "watched",
    "main": "api.call api.commands api.described api.door api.events api.health api.market api.metrics api.ops "
    "api.problems api.questions api.trading cache config ending log memory signins tokens view web.account web.assets "
    "web.packing web.pages web.room web.sign_in web.signing",
    # the command line, and everything at once
    "address": "config errors",
    "child": "log",
    "rounds": "address child clock config log",
    "errands": "config errors rounds watcher",
    "supervisor": "app address cache child config errors feed.replay lease log rounds store",
    "cli": "errors",
    "cli.__main__": "cli",
    "cli.shell": "app cli",
    "cli.words": "clock",
    "cli.tables": "journal",
    "cli.client": "address config errors",
    "cli.acting": f"{TRADECTL} address control lease store",
    "cli.backtest": f"{TRADECTL} backtest cli.looking feed.replay model strategies.registry",
    "cli.books": TRADECTL,
    "cli.diagnosis": "cli.patient errors watched watcher",
    "cli.doctor": f"app {TRADECTL} cli.diagnosis cli.page cli.patient cli.process cli.settling cli.trees clock "
    "feed.line feed.providers feed.trial lease",
    "cli.fencing": f"{TRADECTL} cli.ledger cli.process clock fence lease marker store",
    "cli.ledger": f"app {TRADECTL} cli.process cutting export history portfolio store",
    "cli.logs": "app cli.tables clock config errors journal log logged machine",
    "cli.looking": f"{TRADECTL} strategies.registry",
    "cli.page": "cli.diagnosis journal",
    "cli.patient": f"{TRADECTL} address cache fence lease machine rounds secret signins tokens watched watcher",
    "cli.holding": "cli.tables clock config errors journal log machine memory",
    "cli.profile": f"{TRADECTL} cli.holding cli.logs cli.patient clock lease machine",
    "cli.reconciling": "cli.tables config holdings reconciling schemas",
    "cli.replaying": "cli.ledger cli.tables errors history replay schemas",
    "cli.process": "config log machine",
    "cli.running": f"{TRADECTL} cache cli.looking cli.process cli.reconciling feed.replay live log queries supervisor "
    "view",
    "cli.serving": "address cli.process config main notify tokens",
    "cli.settling": "clock config errors feed.providers live machine tokens",
    "cli.token": "app cli.client cli.process cli.tables clock config log signins tokens",
    "cli.users": f"app {TRADECTL} cli.process clock log passwords signins tokens",
    "cli.judges": "cli.diagnosis cli.patient errors fence tokens watched watcher",
    "cli.trees": "cli.diagnosis cli.judges cli.patient cli.settling errors watched",
    "cli.watching": f"{TRADECTL} errands",
}

# the same for the watcher, which knows nothing of the application
OPS_MAY_IMPORT = {
    "ops": "",
    "errors": "",
    "moment": "",
    "jobs": "",
    "outside": "errors",
    "config": "errors jobs",
    "x509": "errors",
    "client": "errors outside",
    "slope": "",
    "check": "config errors outside slope",
    "leaks": "slope",
    "verdicts": "check config leaks moment slope",
    "processes": "checks.services config errors slope",
    "held": "config errors moment outside slope",
    "evidence": "config errors held moment slope verdicts",
    "restarting": "check checks.services client config errors moment outside slope",
    "series": "checks.disk config copies errors memory moment processes slope stamps verdicts",
    "stamps": "config errors moment",
    "rules": "check",
    "flips": "check rules",
    "spare": "",
    "schema": "",
    "memory": "check config errors flips moment schema spare",
    "records": "check flips memory moment",
    "meanings": "",
    "heartbeat": "client errors outside",
    "channel": "errors memory outside",
    "sending": "channel memory moment outside records rules",
    "alerts": "channel check config errors flips memory moment records rules sending",
    "machine": "alerts check config flips meanings memory records rules",
    "errands": "alerts channel check config errors failure flips heartbeat machine memory moment outside published "
    "records",
    "acting": "config errands errors memory moment records",
    "asked": "config errands errors moment published stamps",
    "checks": "check checks.api checks.app checks.certificate checks.clock checks.disk checks.host checks.jobs "
    "checks.keeper checks.kernel checks.leaks checks.money checks.network checks.redis checks.services checks.storage "
    "checks.upkeep",
    "checks.api": "check client errors",
    "checks.app": "check client errors moment",
    "checks.certificate": "check checks.services config errors moment x509",
    "checks.clock": "check config errors outside",
    "checks.disk": "check config moment slope",
    "checks.events": "check moment",
    "checks.host": "check config errors",
    "checks.jobs": "check errors jobs moment stamps",
    "checks.keeper": "check checks.services config errors moment",
    "checks.kernel": "check checks.events checks.services config errors",
    "checks.leaks": "check checks.services evidence leaks restarting slope verdicts",
    "checks.money": "check checks.app config errors moment",
    "checks.network": "check config errors outside",
    "checks.redis": "check checks.events config errors moment",
    "checks.services": "check config errors jobs moment outside",
    "checks.storage": "check checks.services config errors moment restic stamps",
    "checks.upkeep": "check checks.services config errors moment outside",
    "checking": "alerts channel check checks checks.services config errors failure heartbeat machine meanings memory "
    "moment published records series stamps",
    "failure": "alerts check config errors machine meanings memory moment outside records",
    "published": "archive check checks checks.services config errors memory moment outside processes records series "
    "shown stamps",
    "shown": "alerts check checks.certificate checks.disk config errors jobs memory moment series slope stamps",
    "watch": "config errors moment outside stamps",
    "copies": "config errors outside",
    "snapshot": "moment",
    "restic": "config errors moment outside snapshot",
    "keeping": "moment snapshot",
    "content": "config copies errors outside saving",
    "backup": "config content copies errors keeping moment outside restic snapshot stamps",
    "archiving": "backup config content copies errors moment outside restic snapshot stamps",
    "restoring": "config content copies errors moment outside restic snapshot",
    "verifying": "config content copies errors keeping moment restic snapshot stamps",
    "drill": "config content copies errors moment outside restic restoring snapshot stamps",
    "archive": "config errors",
    "facts": "client config errors memory moment stamps",
    "journal": "errors outside",
    "saving": "config errors",
    "reportform": "check moment",
    "reportpage": "check moment reportform",
    "picture": "reportform",
    "report_trading": "check facts moment picture reportform",
    "report_change": "facts moment reportform",
    "report_machine": "alerts check checks checks.services facts jobs journal memory moment records "
    "reportform saving stamps",
    "report_upkeep": "backup channel check checks.certificate checks.services checks.upkeep facts memory moment "
    "outside report_machine reportform stamps",
    "report": "alerts archive channel config errors facts memory moment report_change report_machine report_trading "
    "report_upkeep reportform reportpage stamps",
    "__main__": "errors jobs stamps",
}

# package of others -> the only files that may import it
ONLY_IN = {
    "sqlite3": "store signed_in",
    "argon2": "passwords",
    "jinja2": "web",
    "redis": "cache",
    "dotenv": "config",
    "structlog": "log",
    "fcntl": "lease supervisor feed log",
    "signal": "guard live child supervisor ending",
    "ctypes": "child memory",
    "subprocess": "cli journal logged",
    "psutil": "address cli",
    "prometheus_client": "telemetry api",
    "holidays": "sessions",
    "litestar": "api main web",
    "markupsafe": "web",
    "uvicorn": "cli",
    "click": "cli",
    "rich": "cli",
    "httpx": "cli supervisor feed broker",
    "websockets": "feed",
    "importlib": "cli supervisor",
}

OPS_ONLY_IN = {
    "sqlite3": "memory copies spare",
    "subprocess": "outside",
    "apprise": "channel",
    "httpx": "",  # 8 MB of each check; what Python brings is enough to ask
    "yaml": "channel",
    "redis": "checks saving",
    "psutil": "checks checking evidence processes",
    "ssl": "checks x509",
    "signal": "__main__",
    "importlib": "__main__",
    "threading": "outside",
}
SQL_OF_OPS = ("memory", "records", "schema", "series", "spare")
OPS_BROAD_EXCEPTS = {
    ("check", "_look"): "the wall around one check",
    ("channel", "_notify"): "the wall around one alert",
}

# file and function -> why it may catch everything
BROAD_EXCEPTS = {
    ("desk", "think"): "the wall around one strategy",
}

# file -> why it may ask for the time
ASKS_FOR_THE_TIME = {
    "clock": "it is the clock",
    "log": "a line is stamped when it is written, whatever the account's time is",
}

REVEALING = ("log", "feed", "broker", "cache", "tokens")
NO_FLOATS = ("ledger", "store", "sizing", "reconcile", "control", "broker.simulated")
SQL = re.compile(r"^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|BEGIN|VACUUM)\s+\w")
TIME_CALLS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
              ("time", "time"), ("time", "time_ns")}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """One file of ours, parsed."""

    def __init__(self, path: Path, package: str = "app") -> None:
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        self.name = ".".join(part for part in parts if part != "__init__") or package
        self.package = package
        self.path = path
        self.source = path.read_text()
        self.tree = ast.parse(self.source)

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def imports(self) -> Iterator[ast.Import | ast.ImportFrom]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Import | ast.ImportFrom))


def read_modules(package: str = "app") -> dict[str, Module]:
    modules = [Module(path, package) for path in sorted((ROOT / package).rglob("*.py"))]
    return {module.name: module for module in modules}


MODULES = read_modules()
WATCHER = read_modules("ops")
BOTH = [*MODULES.values(), *WATCHER.values()]
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))
every_module_of_ops = pytest.mark.parametrize("module", WATCHER.values(), ids=list(WATCHER))
every_module_of_both = pytest.mark.parametrize("module", BOTH, ids=lambda module: f"{module.package}: {module.name}")


def ours(module: Module) -> set[str]:
    """Return the names of our files that a file imports."""
    found: set[str] = set()
    for node in module.imports():
        if isinstance(node, ast.ImportFrom):
            package = node.module or ""
            found |= {_module_of(f"{package}.{alias.name}", package) for alias in node.names}
        else:
            found |= {alias.name for alias in node.names}
    return {name.removeprefix(f"{module.package}.") for name in found if name.split(".")[0] == module.package}


def theirs(module: Module) -> set[str]:
    """Return the packages of others that a file imports."""
    names: set[str] = set()
    for node in module.imports():
        names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
    return {name.split(".")[0] for name in names}


def lines(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def calls(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Yield every call of the form name.attribute(…) or name(…): its two names and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            holder = node.func.value
            owner = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            yield owner, node.func.attr, node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id, node.lineno


def handlers(module: Module) -> Iterator[tuple[str, ast.ExceptHandler]]:
    """Yield every except clause with the name of the function it stands in."""
    for function in module.functions():
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler):
                yield function.name, node


def _module_of(full: str, package: str) -> str:
    path = ROOT.joinpath(*full.split("."))
    return full if path.with_suffix(".py").exists() or (path / "__init__.py").exists() else package


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(one is None or getattr(one, "id", "") in ("Exception", "BaseException") for one in caught)


# -- who may know whom --------------------------------------------------------------------------------------------


def test_every_file_has_its_line_in_the_table() -> None:
    assert sorted(MODULES) == sorted(MAY_IMPORT)


@every_module
def test_a_file_imports_only_what_the_table_allows(module: Module) -> None:
    forbidden = ours(module) - set(MAY_IMPORT.get(module.name, "").split())
    assert not forbidden, f"{module.name} may not import {', '.join(sorted(forbidden))}"


def test_no_two_files_import_each_other_over_any_number_of_steps() -> None:
    assert circle({name: ours(module) for name, module in MODULES.items()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}), "a circle would be seen"


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Return files of which each imports the next one and the last is the first; none if there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as fault:
        return list(fault.args[1])
    return []


@every_module_of_both
def test_nothing_is_imported_inside_a_function(module: Module) -> None:
    late = [
        f"{module.path.name}:{node.lineno}"
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not late


@every_module_of_both
def test_no_form_of_a_message_is_first_worked_out_while_threads_run(module: Module) -> None:
    """msgspec works out a Struct's form at its first use, and two threads that do so at once end the process.

    So a decoder is made where its module is imported. Forms without a Struct need no working out.
    """
    late = [
        f"{module.path.name}:{node.lineno}"
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and _works_out_a_form(node)
    ]
    assert not late or (module.package, module.name) in IN_ONE_THREAD


def _works_out_a_form(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    kinds = [word.value for word in call.keywords if word.arg == "type"]
    if name == "msgspec.convert" or name.endswith(".Decoder"):
        kinds = call.args[-1:] if name == "msgspec.convert" else call.args
    elif not name.startswith("msgspec."):
        return False
    words = {node.id for kind in kinds for node in ast.walk(kind) if isinstance(node, ast.Name)}
    return not words <= PLAIN_FORMS


@every_module
def test_a_package_of_others_stays_behind_its_door(module: Module) -> None:
    top = module.name.split(".")[0]
    strayed = {package: ONLY_IN[package] for package in theirs(module) if top not in ONLY_IN.get(package, top).split()}
    assert not strayed, f"{module.name} imports what only these may: {strayed}"


@every_module_of_both
def test_watcher_and_watched_never_import_each_other(module: Module) -> None:
    assert ("app" if module.package == "ops" else "ops") not in theirs(module)


def test_every_file_of_the_watcher_has_its_line_in_the_table() -> None:
    assert sorted(WATCHER) == sorted(OPS_MAY_IMPORT)


@every_module_of_ops
def test_a_file_of_the_watcher_imports_only_what_the_table_allows(module: Module) -> None:
    assert ours(module) <= set(OPS_MAY_IMPORT.get(module.name, "").split())
    top = module.name.split(".")[0]
    assert not [package for package in theirs(module) if top not in OPS_ONLY_IN.get(package, top).split()]


def test_no_two_files_of_the_watcher_import_each_other_over_any_number_of_steps() -> None:
    order = TopologicalSorter({name: ours(module) for name, module in WATCHER.items()}).static_order()
    assert set(order) >= WATCHER.keys()


# -- what may be written where ------------------------------------------------------------------------------------


@every_module_of_ops
def test_the_watcher_has_its_own_walls_clock_and_books(module: Module) -> None:
    broad = {(module.name, function) for function, handler in handlers(module) if _is_broad(handler)}
    assert broad == {wall for wall in OPS_BROAD_EXCEPTS if wall[0] == module.name}
    asked = [name for owner, name, _ in calls(module.tree) if (owner, name) in TIME_CALLS]
    assert bool(asked) == (module.name == "moment")
    texts = [str(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Constant)]
    assert bool([text for text in texts if SQL.match(text)]) == (module.name in SQL_OF_OPS)


@every_module
def test_everything_is_caught_only_at_the_named_walls(module: Module) -> None:
    broad = {(module.name, function) for function, handler in handlers(module) if _is_broad(handler)}
    assert broad <= BROAD_EXCEPTS.keys()


def test_a_named_wall_still_stands() -> None:
    standing = {
        (name, function) for name, module in MODULES.items() for function, one in handlers(module) if _is_broad(one)
    }
    assert standing >= BROAD_EXCEPTS.keys()


@every_module
def test_only_the_clock_asks_for_the_time(module: Module) -> None:
    asked = [f"{module.path.name}:{line}" for owner, name, line in calls(module.tree) if (owner, name) in TIME_CALLS]
    assert not asked or module.name in ASKS_FOR_THE_TIME, f"{asked}: take a Clock instead"


@every_module
def test_sql_is_written_in_the_two_books_alone(module: Module) -> None:
    texts = [
        node.value for node in ast.walk(module.tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [text for text in texts if SQL.match(text)]
    assert bool(found) == (module.name in ("store", "signed_in")), found


@pytest.mark.parametrize("name", NO_FLOATS)
def test_money_is_not_turned_into_a_float_where_it_is_booked(name: str) -> None:
    assert not [line for owner, called, line in calls(MODULES[name].tree) if (owner, called) == ("", "float")]


@every_module
def test_a_secret_is_revealed_only_where_it_is_used(module: Module) -> None:
    revealed = [line for _, name, line in calls(module.tree) if name == "reveal"]
    assert not revealed or module.name.split(".")[0] in ("log", "feed", "broker", "cache", "tokens"), (
        f"{module.name}: lines {revealed}"
    )


# -- how long it may be -------------------------------------------------------------------------------------------


@every_module_of_both
def test_no_function_is_longer_than_a_screen(module: Module) -> None:
    long = {
        f"{function.name} has {lines(function)} lines"
        for function in module.functions()
        if lines(function) > LONGEST_FUNCTION
    }
    assert not long


@pytest.mark.parametrize("modules", [MODULES, WATCHER], ids=["app", "ops"])
def test_half_of_all_functions_are_at_most_ten_lines_long(modules: dict[str, Module]) -> None:
    assert median(lines(function) for module in modules.values() for function in module.functions()) <= MEDIAN_FUNCTION


@every_module_of_both
def test_no_file_is_longer_than_a_person_reads_at_once(module: Module) -> None:
    assert len(module.source.splitlines()) <= LONGEST_FILE


@every_module_of_both
def test_every_file_begins_with_its_one_idea(module: Module) -> None:
    assert ast.get_docstring(module.tree) or not module.source.strip()
