"""What an operator may ask for: each call leaves a command for the engine and waits to hear what came of it.

The engine alone acts. Where it does not run, what can only make things safer (stop, halt, disable) is kept for its next
start; everything else is refused, so that nothing trades by surprise hours later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Annotated

import msgspec
from litestar import Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, PathParameter

from app import history
from app.api.call import HIGHEST, Answer, Call
from app.api.described import BodyOptional
from app.api.problems import NotFound, documented
from app.control import HALT_FILE, lay_halt
from app.errors import Halted, NotRunning, Refused, StoreError, TimedOut
from app.ledger import CommandHandled
from app.model import Command
from app.queries import is_running, standstill
from app.schemas import CashRequest, CommandAnswer, OperatorRequest, StartRequest
from app.view import View

PATIENCE = 5.0  # seconds to wait for the engine
POLL = 0.03
KEPT_FOR_LATER = frozenset({"stop", "halt", "disable"})

Key = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        max_length=200,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key again is the same command: it is carried out once and gets the same answer.",
    ),
]
Operator = OperatorRequest | None
RESPONSES = documented(409, 413, 504)
RESPONSES_OF_KEPT = {
    **RESPONSES,
    202: ResponseSpec(
        CommandAnswer, generate_examples=False, description="Nobody takes it now; it is kept for when the engine does."
    ),
}


@post("/start", status_code=200, responses=RESPONSES, operation_class=BodyOptional)
async def start(request: Call, data: JSONBody[StartRequest | None] = None, key: Key = None) -> Answer[CommandAnswer]:
    """Resume trading after a stop. An existing account keeps its capital, whatever is given here."""
    given = data or StartRequest()
    capital = {} if given.initial_capital is None else {"initial_capital": f"{given.initial_capital:f}"}
    return await carry(request, "start", OperatorRequest(given.reason, given.who), key, capital)


@post("/stop", status_code=200, responses=RESPONSES_OF_KEPT, operation_class=BodyOptional)
async def stop(request: Call, data: JSONBody[Operator] = None, key: Key = None) -> Answer[CommandAnswer]:
    """Stop trading: no order leaves, not even a protective one; positions are kept. A halt keeps them guarded."""
    return await carry(request, "stop", data, key)


@post("/halt", status_code=200, responses=RESPONSES_OF_KEPT, operation_class=BodyOptional)
async def halt(request: Call, data: JSONBody[Operator] = None, key: Key = None) -> Answer[CommandAnswer]:
    """Halt trading until it is released: the kill switch. Where the ledger cannot be written to, a file does it."""
    return await carry(request, "halt", data, key)


@post("/release", status_code=200, responses=RESPONSES, operation_class=BodyOptional)
async def release(request: Call, data: JSONBody[Operator] = None, key: Key = None) -> Answer[CommandAnswer]:
    """Release a halt, saying who and why."""
    return await carry(request, "release", data, key)


@post("/flatten", status_code=200, responses=RESPONSES, operation_class=BodyOptional)
async def flatten(request: Call, data: JSONBody[Operator] = None, key: Key = None) -> Answer[CommandAnswer]:
    """Stop trading and close every position at the market."""
    return await carry(request, "flatten", data, key)


@post("/deposit", status_code=200, responses=RESPONSES)
async def deposit(request: Call, data: JSONBody[CashRequest], key: Key = None) -> Answer[CommandAnswer]:
    """Pay cash into a paper account; it counts as no profit."""
    return await carry(request, "deposit", OperatorRequest(data.reason, data.who), key, {"amount": f"{data.amount:f}"})


@post("/withdraw", status_code=200, responses=RESPONSES)
async def withdraw(request: Call, data: JSONBody[CashRequest], key: Key = None) -> Answer[CommandAnswer]:
    """Take cash out of a paper account; it counts as no loss."""
    return await carry(request, "withdraw", OperatorRequest(data.reason, data.who), key, {"amount": f"{data.amount:f}"})


@post("/strategies/{name:str}/enable", status_code=200, responses=RESPONSES, operation_class=BodyOptional)
async def enable(
    request: Call, name: FromPath[str], data: JSONBody[Operator] = None, key: Key = None
) -> Answer[CommandAnswer]:
    """Let a strategy trade again."""
    return await carry(request, "enable", data, key, {"strategy": name})


@post("/strategies/{name:str}/disable", status_code=200, responses=RESPONSES_OF_KEPT, operation_class=BodyOptional)
async def disable(
    request: Call, name: FromPath[str], data: JSONBody[Operator] = None, key: Key = None
) -> Answer[CommandAnswer]:
    """Let a strategy enter no more; what it holds it may still leave."""
    return await carry(request, "disable", data, key, {"strategy": name})


@get("/commands/{command_id:int}", responses=documented(404), sync_to_thread=False)
def command(request: Call, command_id: Annotated[int, PathParameter(ge=1, le=HIGHEST)]) -> CommandAnswer:
    """What came of a command."""
    left = next(iter(request.view.store.commands(command_id - 1)), None)
    if left is None or left.id != command_id:
        raise NotFound(f"there is no command {command_id}; GET /api/v1/trading/audit lists those carried out")
    handled = history.outcome(request.view, command_id)
    return answer_of(handled) if handled else waiting(left, request.view, "it waits for the engine")


async def carry(
    request: Call, name: str, data: Operator, key: str | None, arguments: Mapping[str, str] | None = None
) -> Answer[CommandAnswer]:
    """Have a command carried out, for a call of the API as for a form of the page.

    A halt that the ledger does not take is made by a file; a release tells of a file that would halt again. Raise what
    `give` raises, and StoreError where a command cannot be left.
    """
    said = data or OperatorRequest()
    try:
        answer = await give(request, name, said, key, arguments)
    except StoreError as fault:  # a frozen engine may keep the ledger, and then nothing is as urgent as a halt
        if name != "halt":
            raise
        return Answer(by_file(request, said, fault), status_code=202)
    return warned(answer, request.view) if name == "release" else answer


def by_file(request: Call, said: OperatorRequest, fault: StoreError) -> CommandAnswer:
    """Halt by the file that the engine looks for. Raise the fault of the ledger if that cannot be laid either."""
    wanted = Command(0, "halt", said.who, request.origin, request.view.wall(), said.reason)
    try:
        path = lay_halt(request.view.directory, f"{said.who} from {request.origin}: {said.reason or 'no reason given'}")
    except OSError:
        raise fault from None
    return waiting(wanted, request.view, f"{fault}; {path} is laid instead, and the engine halts as soon as it moves")


def warned(answer: Answer[CommandAnswer], view: View) -> Answer[CommandAnswer]:
    """Return the answer to a release, with a warning where the file that halts is still there."""
    file = view.directory / HALT_FILE
    if not file.exists():
        return answer
    said = f"{answer.content.message}; but {file} is still there and halts again at the next start: remove it"
    return Answer(msgspec.structs.replace(answer.content, message=said))


async def give(
    request: Call, name: str, said: OperatorRequest, key: str | None, arguments: Mapping[str, str] | None = None
) -> Answer[CommandAnswer]:
    """Leave a command and wait for its outcome.

    Raise NotRunning if nobody would take it, Refused or Halted if the engine says no, TimedOut if it does not answer.
    """
    view = request.view
    running = is_running(view)
    if not running and name not in KEPT_FOR_LATER:
        raise NotRunning(f"{standstill(view)}, so nothing was done; get it to run, then ask for {name} again")
    wanted = Command(0, name, said.who, request.origin, view.wall(), said.reason, dict(arguments or {}))
    left = view.store.add_command(wanted, key)
    handled = await taken(view, left, PATIENCE if running else 0.0)
    if handled:
        view.look()  # what the caller reads next must show what was done
        return Answer(refuse_or_answer(handled))
    if running:
        where = f"GET /api/v1/trading/commands/{left.id}"
        raise TimedOut(f"the engine did not answer within {PATIENCE:g} s; the {name} is kept, ask for it: {where}")
    kept = f"{standstill(view) or 'the engine stopped'}; the {name} is kept and will be carried out as soon as it runs"
    return Answer(waiting(left, view, kept), status_code=202)


async def taken(view: View, left: Command, seconds: float) -> CommandHandled | None:
    """Wait for the engine to take a command; None if it did not in time."""
    until = monotonic() + seconds
    while (handled := history.outcome(view, left.id)) is None and monotonic() < until:  # noqa: ASYNC110 - another process
        await asyncio.sleep(POLL)
    return handled


def refuse_or_answer(handled: CommandHandled) -> CommandAnswer:
    """Return the answer. Raise Halted or Refused with the engine's own words."""
    if handled.outcome == "refused":
        latched = handled.name == "start" and handled.after == "halted"
        raise Halted(handled.message) if latched else Refused(handled.message)
    return answer_of(handled)


def answer_of(handled: CommandHandled) -> CommandAnswer:
    done = handled.outcome == "done"
    return CommandAnswer(handled.command_id, handled.name, done, handled.message, handled.after, handled.outcome)


def waiting(left: Command, view: View, message: str) -> CommandAnswer:
    state = view.book.state if is_running(view) else "down"
    return CommandAnswer(left.id, left.name, False, message, state, "waiting")


COMMANDS = Router(
    "/api/v1/trading",
    route_handlers=[start, stop, halt, release, flatten, deposit, withdraw, enable, disable, command],
    tags=["commands"],
)
