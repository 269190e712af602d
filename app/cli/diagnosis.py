"""What a diagnosis is: trees of steps, each a question that is asked, judged, and answered with what mends it.

A tree belongs to one complaint ("it does not trade"). Its steps are asked for real; what another thing that is broken
keeps from being asked is skipped, and what follows from it is not told twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from app.cli.patient import Patient
from app.errors import NotRunning, TradingError
from app.watched import CheckAnswer, Status
from app.watcher import RANKS

Verdict = Literal["OK", "WARN", "CRITICAL", "UNKNOWN", "blocked", "skipped"]
UNASKED = ("blocked", "skipped")  # by something that is told elsewhere; for want of its subject on this machine
AS_ROOT = "sudo tradectl doctor"
BEFORE = "last look"  # the finding that says what has to be looked at again
# What asking and judging raise when something is not as it should be.
BROKEN = (TradingError, OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
WATCHER = "watcher"  # the step that says whether what it left can be believed


class Blocked(Exception):
    """A step cannot be asked, for a reason that is told elsewhere; `mend` is what lets it be asked."""

    def __init__(self, why: str, mend: str = "") -> None:
        super().__init__(why)
        self.mend = mend


class NotHere(Exception):
    """A step has nothing to ask for on this machine."""


class Sign(Struct, frozen=True):
    """What a step showed; `mend` goes before what its step says in general."""

    status: Verdict
    text: str
    mend: str = ""


class Step(Struct, frozen=True):
    """A question of a tree.

    `remedy` is what to do on the appliance, `laptop` on a laptop where that differs. `explains` names the checks of
    the watcher that this one explains, `after` the steps that explain this one while those are not well, and `dire`
    those that do while they are CRITICAL. `same` are the checks that ask what this one asks: where it is well now and
    they were not, the watcher looked before that was mended.
    """

    name: str
    question: str
    probe: Callable[[Patient], Any]
    judge: Callable[[Any], Sign]
    remedy: str
    section: str
    laptop: str = ""
    explains: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    dire: tuple[str, ...] = ()


class Tree(Struct, frozen=True):
    """The steps of one complaint, in the order in which a person would ask.

    `clear` is what it means that all of them are well, and `then` what to type about the complaint all the same.
    """

    name: str
    steps: tuple[Step, ...]
    clear: str = "nothing"
    then: str = ""


class Answered(Struct, frozen=True):
    """A step and what came of it; `because` names the step that explains it."""

    name: str
    question: str
    status: Verdict
    text: str
    remedy: str
    section: str
    because: str | None = None


class Finding(Struct, frozen=True):
    """Something that is wrong now, and how to mend it."""

    status: Status
    what: str
    text: str
    mend: str
    section: str
    since: datetime | None = None


class Branch(Struct, frozen=True):
    """What came of a tree: the worst of its steps, and not well for want of answers.

    `conclusion` says what the complaint comes from, or that it comes from nothing that was asked for; `mend` is what
    to type about it.
    """

    name: str
    status: Verdict
    conclusion: str
    mend: str
    steps: list[Answered]


class Diagnosis(Struct, frozen=True):
    """Everything on one page. `first` is the one thing to type first, null where nothing is wrong."""

    status: Status
    first: str | None
    at: datetime
    watched_at: datetime | None
    wrong: list[Finding]
    trees: list[Branch]


def diagnose(trees: Sequence[Tree], patient: Patient) -> Diagnosis:
    """Ask every step of every tree once; put what is wrong in one list, worst first."""
    steps = {step.name: step for tree in trees for step in tree.steps}
    signs = {name: _sign(step, patient) for name, step in steps.items() if step.same}
    patient.outdated = _outdated(steps, signs, patient)
    signs |= {name: _sign(step, patient) for name, step in steps.items() if not step.same}
    answered = {name: _answered(step, signs, patient.appliance) for name, step in steps.items()}
    branches = [_branch(tree, answered, patient.appliance) for tree in trees]
    wrong = [*_of_steps(answered), *_of_checks(steps, signs, patient), *_of_before(patient)]
    wrong.sort(key=lambda one: -RANKS.index(one.status))
    verdict: Status = wrong[0].status if wrong else "OK"
    return Diagnosis(verdict, wrong[0].mend if wrong else None, patient.now, patient.checks.at, wrong, branches)


def _outdated(steps: Mapping[str, Step], signs: Mapping[str, Sign], patient: Patient) -> frozenset[str]:
    """Return the checks whose last result is of before something was mended: the watcher has not looked since."""
    if patient.checks.reason:
        return frozenset()
    bad = {one.name for one in patient.checks.items if one.status in ("CRITICAL", "UNKNOWN")}
    # UNKNOWN: the watcher could not look, which our own answer does not mend.
    down = {one.name for one in patient.checks.items if one.status == "CRITICAL"}
    mended = [steps[name] for name, sign in signs.items() if sign.status == "OK" and down & set(steps[name].same)]
    explained = {check for name, sign in signs.items() if _bad(sign) for check in steps[name].explains}
    return frozenset(bad & {check for one in mended for check in (*one.same, *one.explains)} - explained)


def _sign(step: Step, patient: Patient) -> Sign:
    """Ask one step; an answer that does not come is not known, whatever the reason."""
    try:
        return step.judge(step.probe(patient))
    except NotHere as why:
        return Sign("skipped", str(why))
    except Blocked as why:
        return Sign("blocked", str(why), why.mend)
    except NotRunning as why:  # whatever it is that does not run has a step of its own
        return Sign("blocked", str(why))
    except PermissionError as fault:
        return Sign("blocked", f"only root may look at {fault.filename}", AS_ROOT)
    except BROKEN as fault:  # the other questions keep their answers
        kind = "" if isinstance(fault, TradingError) else f" ({type(fault).__name__})"
        return Sign("UNKNOWN", f"cannot be told: {fault}{kind}")


def _branch(tree: Tree, answered: Mapping[str, Answered], appliance: bool) -> Branch:
    steps = [answered[step.name] for step in tree.steps]
    known = [one.status for one in steps if one.status not in UNASKED]
    status: Verdict = max(known, key=RANKS.index) if known else "blocked"
    if status == "OK" and any(one.status == "blocked" for one in steps):
        status = "blocked"
    said, mend = _conclusion(tree, status, steps, answered)
    return Branch(tree.name, status, said, mend if appliance else mend.removeprefix("sudo "), steps)


def _conclusion(
    tree: Tree, status: Verdict, steps: Sequence[Answered], answered: Mapping[str, Answered]
) -> tuple[str, str]:
    """Return what a complaint comes from, and what to type: of what is bad the worst, and of that what explains it."""
    if status == "OK":
        return tree.clear, tree.then
    found = next((one for one in steps if one.status == status), None)
    if found is None:
        return "there is nothing to ask for here", tree.then
    if status == "blocked":
        return f"not known: {found.text}", found.remedy
    while found.because is not None:
        found = answered[found.because]
    return f"{found.name}: {found.text}", found.remedy


def _answered(step: Step, signs: Mapping[str, Sign], appliance: bool) -> Answered:
    sign = signs[step.name]
    because = next(_causes(step, signs), None) if _bad(sign) else None
    remedy = sign.mend or (step.remedy if appliance or not step.laptop else step.laptop)
    return Answered(step.name, step.question, sign.status, sign.text, remedy, step.section, because)


def _causes(step: Step, signs: Mapping[str, Sign]) -> Iterator[str]:
    yield from (name for name in step.dire if name in signs and signs[name].status == "CRITICAL")
    yield from (name for name in step.after if _bad(signs.get(name)))


def _bad(sign: Sign | None) -> bool:
    return sign is not None and sign.status not in ("OK", *UNASKED)


def _of_steps(answered: Mapping[str, Answered]) -> Iterator[Finding]:
    for name, one in answered.items():
        if one.status not in ("OK", *UNASKED) and one.because is None:
            yield Finding(one.status, name, one.text, one.remedy, one.section)  # type: ignore[arg-type]


def _of_checks(steps: Mapping[str, Step], signs: Mapping[str, Sign], patient: Patient) -> Iterator[Finding]:
    """Yield what the watcher found and no step explains; what it left long ago says nothing about now."""
    if _bad(signs.get(WATCHER)):
        return
    explained = {check for name, step in steps.items() if _bad(signs[name]) for check in step.explains}
    for check in patient.checks.items:
        if check.status != "OK" and check.name not in explained | patient.outdated:
            yield _told(check)


def _of_before(patient: Patient) -> Iterator[Finding]:
    """Yield one finding for all that was so before something was mended: it may be well, and nobody has looked."""
    if patient.outdated:
        names = ", ".join(one.name for one in patient.checks.items if one.name in patient.outdated)
        text = (
            f"the watcher looked {patient.checks.age_seconds or 0:.0f} s ago, before something was mended that is well "
            f"now; how it is with {names} is not known before it looks again"
        )
        mend = "sudo tradectl check" if patient.appliance else "tradectl check"
        yield Finding("UNKNOWN", BEFORE, text, mend, "What the watcher knows")


def _told(check: CheckAnswer) -> Finding:
    return Finding(check.status, check.name, check.summary, check.first, check.section, check.since)
