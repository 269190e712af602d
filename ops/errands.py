"""What a person may have done about alerts, whoever asks for it: somebody at a terminal, or the page for somebody.

Four errands, and no others. Each is kept with who had it done, when and why. One that has a number is done once: what
is known of it is the answer to whoever asks for the same again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase
from secrets import token_hex

import msgspec
from msgspec import Struct

from ops import machine, moment, published, records
from ops.alerts import host
from ops.channel import Channel, Receiver, open_channel
from ops.check import Status
from ops.config import Settings
from ops.errors import Misused, OpsError
from ops.failure import PREFIX
from ops.flips import Ack, State, acknowledge
from ops.heartbeat import beat
from ops.memory import Memory, Message, open_memory
from ops.outside import Task
from ops.records import Errand, Silence

LENGTH = re.compile(r"(\d{1,4})(min|m|h|d)")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
UNITS = {"min": timedelta(minutes=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
LONGEST = timedelta(days=30)
SECONDS = 40.0  # a channel has so long for a test
CHARACTERS = 200  # of a name or a reason
PAGE, TERMINAL = "page", "terminal"  # from where it was asked for
OPEN = "it was begun, and it is not known how it ended"
NOBODY = (
    "nobody would be told: {} names no service; on the appliance name two in trading_apprise of the inventory and "
    'deploy: docs/operations.md, "Alerts"'
)
BETWEEN_TESTS = timedelta(minutes=1)  # that the page asks for: each reaches people


class Wish(Struct, frozen=True):
    """What somebody wants done. `id` is empty where nobody can ask for the same again."""

    name: str
    by: str
    about: str = ""
    why: str = ""
    length: str = ""
    id: str = ""
    via: str = TERMINAL


class Answer(Struct, frozen=True):
    """What came of it, in lines; `fault` is what went wrong besides. `ok`: it is done, all of it."""

    lines: tuple[str, ...]
    ok: bool = True
    fault: str = ""


class Known(OpsError):
    """It was begun before; `errand` is what is known of it."""

    def __init__(self, errand: Errand | None) -> None:
        super().__init__(errand.said if errand else OPEN)
        self.errand = errand


def do(settings: Settings, wish: Wish) -> Answer:
    """Do what somebody wants. Raise Misused for what cannot be meant, OpsError for what cannot be done."""
    try:
        return ERRANDS[wish.name](settings, wish)
    except Known as known:
        return Answer((f"{known}",), ok=known.errand is not None and known.errand.ok)


def text(given: str, what: str) -> str:
    """Return a text of a person in one line, without what would steer a terminal. Raise Misused if it is empty."""
    line = CONTROL.sub("?", " ".join(given.split()))[:CHARACTERS]
    if not line:
        raise Misused(f"{what} is empty; others will want to know")
    return line


# -- how an errand is kept ----------------------------------------------------------------------------------------


@contextmanager
def _lasting(settings: Settings) -> Iterator[Memory]:
    """Open the memory for something that has to stay there. Raise OpsError if nothing would."""
    with closing(open_memory(settings)) as memory:
        if memory.path is None:
            raise OpsError(f"this cannot be kept, so nothing was done: {memory.fault}")
        yield memory


def _begin(memory: Memory, wish: Wish, now: datetime) -> Errand:
    """Keep that an errand is begun. Raise Known if it was before."""
    given = (text(wish.by, "--by"), wish.via, text(wish.about, "NAME") if wish.about else "")
    one = Errand(wish.id or token_hex(16), now, wish.name, *given, why=text(wish.why, "--why") if wish.why else "")
    begun = msgspec.structs.replace(one, said=OPEN, ok=False)
    if not records.begin_errand(memory, begun):
        raise Known(records.errand(memory, begun.id))
    return begun


def _end(memory: Memory, begun: Errand, said: str, *, ok: bool = True, about: str = "") -> None:
    """Keep how it ended; `about` is the name that was meant."""
    records.end_errand(memory, msgspec.structs.replace(begun, said=said, ok=ok, about=about or begun.about))


def _publish(memory: Memory, settings: Settings, now: datetime) -> None:
    """Tell readers at once what a person changed."""
    for topic in ("alerts", "silences", "errands"):
        published.again(memory, settings, topic, now)


# -- the four -----------------------------------------------------------------------------------------------------


def ack(settings: Settings, wish: Wish) -> Answer:
    """Take an alert in hand."""
    wish = msgspec.structs.replace(wish, by=text(wish.by, "--by"), why=text(wish.why or "no reason given", "--why"))
    now = moment.now()
    with _lasting(settings) as memory:
        with memory.transaction():
            begun = _begin(memory, wish, now)
            acked = _acknowledged(_state(memory, wish.about), Ack(wish.by, now, wish.why))
            records.keep_state(memory, acked)
            _track(memory, acked, now)
            said = f"{acked.name} is acknowledged by {wish.by}; it ends by itself, and you are told if it gets worse"
            _end(memory, begun, said, about=acked.name)
        _publish(memory, settings, now)
    return Answer((said,))


def silence(settings: Settings, wish: Wish) -> Answer:
    """Tell nothing of something for a while."""
    found = LENGTH.fullmatch(wish.length.replace(" ", ""))
    lasts = int(found[1]) * UNITS[found[2]] if found else timedelta()
    if not timedelta() < lasts <= LONGEST:
        raise Misused(f"--for {wish.length!r} cannot be used; write 30min, 2h or 1d, and 30 days at most")
    by, why, name = text(wish.by, "--by"), text(wish.why, "--why"), text(wish.about, "NAME")
    now = moment.now()
    with _lasting(settings) as memory:
        with memory.transaction():
            begun = _begin(memory, wish, now)
            name = _meant(memory, settings, name)
            records.silence(memory, Silence(name, now, now + lasts, by, why))
            until = moment.told(now + lasts)
            said = f"nothing is told of {name} until {until}; what is still wrong then is told then"
            _end(memory, begun, said, about=name)
        _publish(memory, settings, now)
    return Answer((said,))


def unsilence(settings: Settings, wish: Wish) -> Answer:
    """End a silence before its time."""
    now, name = moment.now(), wish.about
    with _lasting(settings) as memory:
        with memory.transaction():
            begun = _begin(memory, wish, now)
            names = sorted({name, f"{PREFIX}{name}", f"{PREFIX}{name}.service"})
            ended = [one for one in names if records.unsilence(memory, one)]
            if not ended:
                there = ", ".join(one.name for one in records.silences(memory, now)) or "none"
                raise OpsError(f"there is no silence of {name!r}; there are: {there}")
            said = f"the silence of {ended[0]} is over; what is wrong is told by the next check"
            _end(memory, begun, said, about=ended[0])
        _publish(memory, settings, now)
    return Answer((said,))


def selftest(settings: Settings, wish: Wish) -> Answer:
    """Send a test message through every channel, and tell each answer."""
    by, now = text(wish.by, "--by"), moment.now()
    channel = open_channel(settings.apprise)
    if channel.fault:
        raise OpsError(channel.fault)
    if channel.nobody and not settings.heartbeat:
        raise OpsError(NOBODY.format(settings.ops_apprise))
    with closing(open_memory(settings)) as memory:  # also one that does not last: just then one wants to know
        _see_pause(memory, wish, now)
        begun = _begin(memory, msgspec.structs.replace(wish, by=by), now)
        bad = any(state.status is Status.CRITICAL for state in memory.states().values())
    answers = _tried(channel, settings, bad)
    failed = [shown for shown, fault in answers if fault]
    lines = [f"{'FAILED' if fault else 'ok':<7} {shown}{f': {fault}' if fault else ''}" for shown, fault in answers]
    answer = _told(channel, settings, lines, failed)
    with closing(open_memory(settings)) as memory:
        said = answer.fault or f"{len(answers) - len(failed)} of {len(answers)} took it"
        _end(memory, begun, said, ok=answer.ok)
        _publish(memory, settings, now)
    return answer


ERRANDS: Mapping[str, Callable[[Settings, Wish], Answer]] = {
    "ack": ack,
    "silence": silence,
    "unsilence": unsilence,
    "selftest": selftest,
}


# -- what they stand on -------------------------------------------------------------------------------------------


def _acknowledged(state: State, one: Ack) -> State:
    try:
        return acknowledge(state, one)
    except ValueError as fault:
        raise OpsError(str(fault)) from fault


def _state(memory: Memory, alert: str) -> State:
    """Return the state of an alert by its name, its number or the name of its unit. Raise OpsError if there is none."""
    states: dict[str, State] = memory.states() | {name: one.state for name, one in records.sources(memory).items()}
    numbers = {str(one.id): one.name for one in records.alerts(memory, moment.now()) if not one.ended}
    for name in (alert, f"{PREFIX}{alert}", f"{PREFIX}{alert}.service", numbers.get(alert, "")):
        if name in states:
            return states[name]
    known = sorted(name for name, state in states.items() if state.open)
    raise OpsError(f"there is no alert {alert!r}; {_close(alert, known)}open are: {', '.join(known) or 'none'}")


def _close(given: str, known: Iterable[str]) -> str:
    """Return a hint at what was meant."""
    found = get_close_matches(given, list(known), n=1)
    return f"did you mean {found[0]}? " if found else ""


def _track(memory: Memory, state: State, now: datetime) -> None:
    """Show at once what the next look would."""
    for one in records.alerts(memory, now):
        if one.name == state.name and not one.ended:
            records.track(memory, state, one.summary, one.section, now, silenced=one.silenced is not None)


def _meant(memory: Memory, settings: Settings, name: str) -> str:
    """Return the name of a source. Raise OpsError for one that would silence nothing, such as a misspelt one."""
    known = {*memory.states(), *records.sources(memory)}
    if name in known or name.startswith(PREFIX) or fnmatchcase("", name):
        return name
    if "*" in name:
        units = {f"{PREFIX}{unit}" for unit in settings.ops_units.split()}
        if any(fnmatchcase(one, name) for one in known | units):
            return name
    elif "." in name:
        return f"{PREFIX}{name}"
    hint = _close(name, known)
    checks = ", ".join(sorted(one for one in known if not one.startswith(PREFIX))) or "none yet"
    there = "" if hint else f"there are {checks}, and {PREFIX}NAME"
    raise OpsError(f"there is no check {name!r}; {hint}{there}".rstrip())


def _see_pause(memory: Memory, wish: Wish, now: datetime) -> None:
    """Raise OpsError if the page has just had the alerts tested, for another wish than this one."""
    if wish.via != PAGE:
        return
    for one in records.errands(memory):
        if one.name == wish.name and one.id != wish.id and timedelta() <= now - one.at < BETWEEN_TESTS:
            raise OpsError(f"{one.by} had the alerts tested at {moment.told(one.at)}; ask again a minute later")


def _told(channel: Channel, settings: Settings, lines: Sequence[str], failed: Sequence[str]) -> Answer:
    """Return what is told of a test."""
    if channel.nobody:
        return Answer(tuple(lines), ok=False, fault=NOBODY.format(settings.ops_apprise))
    said = [*lines, *([f"{'FAILED':<7} {channel.left_out}"] if channel.left_out else [])]
    if machine.is_quiet(settings, moment.now()):
        said.append("These are quiet hours: warnings wait, critical alerts do not.")
    return Answer(tuple(said), ok=not (channel.left_out or failed))


def _tried(channel: Channel, settings: Settings, bad: bool) -> list[tuple[str, str]]:
    where, now = host(settings), moment.now()
    body = f"This is a test, nothing is wrong. Whoever reads it is told of alerts.\n\nHost: {where}"
    message = Message(now, (), "info", f"{where}: test of the alerts", body)

    def begin(receiver: Receiver) -> Task[str]:
        return Task(receiver.name, SECONDS, lambda: channel.send(receiver, message))

    tasks = [(f"{one.name} ({', '.join(sorted(one.tags)) or 'everything'})", begin(one)) for one in channel.all]
    answers = [(shown, _fault(task)) for shown, task in tasks]
    if settings.heartbeat:
        answers.append(("the heartbeat", beat(settings.heartbeat, bad)))
    return answers


def _fault(task: Task[str]) -> str:
    """Return what a channel complains of; one that hangs is a fault of its own."""
    try:
        return task.result()
    except OpsError as fault:
        return str(fault)
