"""Signing in: who may, for how long, and what is written of it. The web process and `tradectl` both act through here.

A person's session ends after half a day in which no page was opened, and after a week in any case. A screen on a wall
is let in by somebody who is signed in, only reads, and stays for ninety days or until that is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from secrets import choice, token_urlsafe
from typing import Final

import msgspec
from msgspec import Struct

from app import lockout, passwords, tokens
from app.clock import Clock, LiveClock
from app.errors import InputError, Refused, StoreError, TooManyTries, WrongPassword
from app.lockout import OF_A_NAME, OF_AN_ADDRESS, Knocks, Rule
from app.log import get_logger
from app.people import People, Register, User, new_user
from app.signed_in import Event, Row, SignedIn
from app.tokens import Scope, Token

IDLE: Final = timedelta(hours=12)
LONGEST: Final = timedelta(days=7)
SCREEN: Final = timedelta(days=90)
ASKING: Final = timedelta(minutes=10)  # for which a screen waits to be let in
QUIET: Final = timedelta(days=1)  # after which nothing is left of a failure
KNOWN_FOR: Final = timedelta(days=180)  # after a sign-in a browser is known
USED_EVERY: Final = timedelta(minutes=1)  # a session's last use is written no more often
MOST_SESSIONS: Final = 20  # of a person; the oldest ends for one more
MOST_ASKING: Final = 50  # screens that wait at once
MOST_ASKING_THERE: Final = 3  # of them, from one address; the oldest goes for one more
CODE_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words; RFC 8628, 6.1
UNKNOWN_NAME: Final = ""  # of a try with a name that nobody has: what was typed may be a password


class Session(Struct, frozen=True):
    """Somebody, or a screen, who is signed in now, and what that allows now."""

    id: int
    kind: str
    name: str
    label: str
    roles: frozenset[str]
    address: str
    agent: str
    made: datetime
    used: datetime
    ends: datetime

    @property
    def who(self) -> str:
        """How the audit names it."""
        return f"screen:{self.label}" if self.kind == "screen" else self.name


class Asker(Struct, frozen=True):
    """From where something is asked, and by whom as far as that is known."""

    address: str
    by: str = ""
    agent: str = ""


class SignIns:
    """All of it, for one directory."""

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        self.people = People(directory)
        self.book = SignedIn(directory)
        self._clock = clock or LiveClock()
        self._knocks = Knocks()
        self._unwritten = False  # the last use of a session that was to be written

    def close(self) -> None:
        self.book.close()

    # -- people ---------------------------------------------------------------------------------------------------

    def sign_in(self, name: str, password: str, asker: Asker, browser: str = "") -> str:
        """Return the token of a new session. It takes its time, so do not call it in an event loop.

        Raise WrongPassword, or TooManyTries before anything is compared. The failure is counted first and taken back
        if it was none, so that many tries at once are many tries.
        """
        name = name.strip()
        user = self.people.read().user(name)
        keys = self._keys(name, asker.address, browser)
        told = user.name if user else UNKNOWN_NAME
        waits = self._count(keys, told, asker)
        if not passwords.fits(user.password if user else None, password) or user is None:
            self._refused(told, waits, asker)
            raise WrongPassword("the name or the password is wrong")
        if passwords.is_outdated(user.password):
            user = self._rehash(user, password)
        with self.book.changing():
            self._take_back(keys)
            if browser:
                self.book.learn(browser, user.name.lower(), self._clock.now())
            self._note("signed in", user.name, asker, by=user.name)
            return self._begin(user, asker)

    def session(self, token: str) -> Session | None:
        """Return the session of a token, None if there is none any more."""
        row, now = self.book.find(token), self._clock.now()
        return self._resolve(row, self.people.read(), now) if row else None

    def use(self, session: Session) -> None:
        """Write down that somebody is there. What a page asks for by itself is no use of it.

        Where that cannot be written it is told once and tried again with the next page: a full disk, or a book that
        somebody keeps, is no reason to keep somebody from the kill switch.
        """
        now = self._clock.now()
        if session.kind != "person" or now - session.used < USED_EVERY:
            return
        try:
            self.book.use(session.id, now)
        except StoreError as fault:
            if not self._unwritten:
                get_logger().warning("a session's use is not written", why=str(fault))
            self._unwritten = True
        else:
            self._unwritten = False

    def sign_out(self, session: Session, asker: Asker) -> None:
        with self.book.changing():
            self.book.end([session.id])
            self._note("signed out", session.who, asker)

    def sessions(self, name: str | None = None) -> list[Session]:
        """Return who is signed in, screens too; those of one name, if one is given."""
        register, now = self.people.read(), self._clock.now()
        found = [self._resolve(row, register, now) for row in self.book.all()]
        return [one for one in found if one and (name is None or one.name.lower() == name.lower())]

    def end(self, number: int, asker: Asker, owner: str | None = None) -> None:
        """End a session, of `owner` if one is given. Raise InputError if there is none of that number."""
        with self.book.changing():
            found = next((one for one in self.sessions(owner) if one.id == number), None)
            if found is None:
                raise InputError(f"there is no session {number}, it may have ended; look at the list again")
            self.book.end([number])
            self._note("session ended", found.who, asker)

    def end_all(self, name: str, asker: Asker, but: int | None = None) -> int:
        """End every session of a name but one; return how many those were."""
        with self.book.changing():
            found = [one.id for one in self.sessions(self.people.read().known(name).name) if one.id != but]
            self.book.end(found)
            self._note("sessions ended", name, asker, str(len(found)))
        return len(found)

    # -- the register ---------------------------------------------------------------------------------------------

    def add_user(self, name: str, roles: Sequence[Scope], password: str, asker: Asker) -> None:
        """Add somebody. Raise InputError for a name that is taken or cannot be one, or a weak password."""
        passwords.refuse_weak(name, password)
        user = new_user(name, roles, passwords.hashed(password), self._clock.now())
        with self.book.changing():
            if self.people.read().user(name):
                raise InputError(f"there is a user {name} already; see tradectl user passwd, and tradectl user roles")
            self._forget(user.name)
            self.people.write(self.people.read().with_user(user))
            self._note("user added", user.name, asker, " ".join(user.roles))

    def set_password(self, name: str, password: str, asker: Asker) -> None:
        """Give somebody another password; every session of theirs is over, and every wait."""
        known = self.people.read().known(name)
        passwords.refuse_weak(known.name, password)
        new = new_user(known.name, known.roles, passwords.hashed(password), known.made)
        with self.book.changing():
            now = self.people.read().known(name)
            self.people.write(self.people.read().with_user(msgspec.structs.replace(new, roles=now.roles)))
            self._forget(new.name)
            self._note("password set", new.name, asker)

    def change_password(self, session: Session, old: str, new: str, asker: Asker) -> str:
        """Give somebody who is signed in the password they want; return the token of their new session.

        Raise WrongPassword if the old one is not theirs: who finds a browser open gets no account by it; and InputError
        for a weak one, before anything is compared or counted.
        """
        passwords.refuse_weak(session.name, new)
        keys = {f"session {session.id}": OF_A_NAME}
        waits = self._count(keys, session.name, asker)
        if not passwords.fits(self.people.read().known(session.name).password, old):
            self._refused(session.name, waits, asker)
            raise WrongPassword("the password of today is wrong")
        self.set_password(session.name, new, asker)
        with self.book.changing():
            self._take_back(keys)
            return self._begin(self.people.read().known(session.name), asker)

    def set_roles(self, name: str, roles: Sequence[Scope], asker: Asker) -> None:
        """Give somebody other roles; they hold at once, in open sessions too."""
        with self.book.changing():
            register = self.people.read()
            known = register.known(name)
            chosen = new_user(known.name, roles, "", known.made).roles
            self.people.write(register.with_user(msgspec.structs.replace(known, roles=chosen)))
            self._note("roles set", known.name, asker, " ".join(chosen))

    def remove_user(self, name: str, asker: Asker) -> None:
        """Remove somebody, with their sessions and the screens that they let in."""
        with self.book.changing():
            register = self.people.read()
            known = register.known(name)
            self.people.write(register.without_user(name))
            self._forget(known.name)
            self._note("user removed", known.name, asker)

    def unlock(self, name: str, asker: Asker) -> None:
        """Let somebody try again at once, who guessed wrong too often."""
        with self.book.changing():
            known = self.people.read().known(name)
            self.book.count(_of_name(known.name), None)
            self._note("unlocked", known.name, asker)

    def waits(self, name: str) -> timedelta:
        """Return how long a name has to wait in a browser that is not known."""
        return lockout.wait_of(self.book.tally(_of_name(name)), self._clock.now())

    # -- tokens ---------------------------------------------------------------------------------------------------

    def tokens(self) -> tuple[Token, ...]:
        """Return the tokens that were made here and are not over."""
        now = self._clock.now()
        return tuple(one for one in self.people.tokens() if not one.is_over(now))

    def make_token(self, name: str, scopes: Sequence[Scope], last: date | None, asker: Asker) -> str:
        """Return a new token, known at once. Raise InputError for a name that is taken or cannot be one."""
        made, entry = tokens.make(name, scopes, last)
        with self.book.changing():
            self.people.write(self.people.read().with_token(entry))
            self._note("token made", name, asker, f"{'+'.join(scopes)} {f'until {last}' if last else 'without end'}")
        return made

    def revoke_token(self, name: str, asker: Asker) -> None:
        with self.book.changing():
            self.people.write(self.people.read().without_token(name))
            self._note("token revoked", name, asker)

    # -- screens on the wall --------------------------------------------------------------------------------------

    def ask_for_screen(self, asker: Asker) -> str:
        """Return the token of a screen that shows a code until somebody lets it in. Raise Refused for one too many.

        A further one of the same network takes the place of its oldest: nobody alone keeps the screens of others out.
        """
        now, token = self._clock.now(), token_urlsafe(32)
        with self.book.changing():
            self._tidy(now)
            there = [row.id for row in self.book.all("asked") if network(row.address) == network(asker.address)]
            self.book.end(there[: max(len(there) - MOST_ASKING_THERE + 1, 0)])
            if len(self.book.all("asked")) >= MOST_ASKING:
                raise Refused("too many screens wait to be let in; try again in ten minutes")
            code = "".join(choice(CODE_LETTERS) for _ in range(8))
            self.book.add(token, Row(0, "asked", "", "", code, asker.address, asker.agent, now, now, now + ASKING))
        return token

    def code_of(self, token: str) -> str | None:
        """Return the code that a screen has to show, None if it no longer waits."""
        row = self.book.find(token)
        if row is None or row.kind != "asked" or row.ends <= self._clock.now():
            return None
        return f"{row.label[:4]}-{row.label[4:]}"

    def let_screen_in(self, code: str, label: str, by: Session, asker: Asker) -> None:
        """Let the screen in that shows a code. Raise InputError if none does, or its name is none."""
        asked = "".join(letter for letter in code.upper() if letter in CODE_LETTERS)
        label, now = " ".join(label.split())[:40] or "wall", self._clock.now()
        if not label.isprintable():
            raise InputError("the name of a screen is one line, without control characters; type another one")
        with self.book.changing():
            row = next((one for one in self.book.all("asked") if one.label == asked and one.ends > now), None)
            user = self.people.read().user(by.name)
            if row is None or user is None:
                raise InputError("no screen shows this code; codes last ten minutes, look at the screen again")
            screen = {"name": user.name, "stamp": user.stamp, "label": label, "used": now, "ends": now + SCREEN}
            self.book.let_in(msgspec.structs.replace(row, **screen))
            self._note("screen let in", f"screen:{label}", asker, f"shown at {row.address}")

    # -- what happened --------------------------------------------------------------------------------------------

    def events(self, most: int = 100, before: int = 0) -> list[Event]:
        """Return what happened at the door, the newest first."""
        return self.book.events(most, before)

    def last_sign_ins(self) -> Mapping[str, datetime]:
        return self.book.last("signed in")

    def note(self, what: str, name: str, asker: Asker, detail: str = "") -> None:
        """Write down what happened elsewhere."""
        with self.book.changing():
            self._note(what, name, asker, detail)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _note(self, what: str, name: str, asker: Asker, detail: str = "", by: str = "") -> None:
        by = by or asker.by
        self.book.note(Event(0, self._clock.now(), what, name, by, asker.address, detail))
        log = get_logger().warning if what in ("sign-in refused", "locked out") else get_logger().info
        known = {"name": name, "by": by, "address": asker.address, "detail": detail}
        log(what, **{field: value for field, value in known.items() if value})

    def _keys(self, name: str, address: str, browser: str) -> dict[str, Rule]:
        """Return what a failure counts for.

        A browser in which this name signed in before has a count of its own: however hard a stranger knocks under
        this name, its owner still gets in from there.
        """
        if browser and self.book.knows(browser, name.lower()):
            return {f"browser {browser}": OF_A_NAME}
        return {_of_name(name): OF_A_NAME, f"address {network(address)}": OF_AN_ADDRESS}

    def _count(self, keys: Mapping[str, Rule], name: str, asker: Asker) -> dict[str, timedelta]:
        """Count a failure for each key, and return how long each has to wait after it.

        Raise TooManyTries, and count nothing but write the refusal down, while one of them has to wait already.
        """
        with self.book.changing():
            now = self._clock.now()
            wait = max(lockout.wait_of(self.book.tally(key), now) for key in keys)
            if not wait:
                self._tidy(now)
                new = {key: lockout.failed(rule, self.book.tally(key), now) for key, rule in keys.items()}
                for key, tally in new.items():
                    self.book.count(key, tally)
                return {key: lockout.wait_of(tally, now) for key, tally in new.items()}
            self._refused_in_wait(name, wait, asker)
        raise TooManyTries(f"too many tries; the next one is possible in {spoken(wait)}", wait.total_seconds())

    def _tidy(self, now: datetime) -> None:
        self.book.tidy(now, now - QUIET, now - KNOWN_FOR)

    def _refused(self, name: str, waits: Mapping[str, timedelta], asker: Asker) -> None:
        with self.book.changing():
            self._note("sign-in refused", name, asker)
            for key, wait in waits.items():
                if wait:
                    self._note("locked out", name, asker, f"this {key.partition(' ')[0]}, for {spoken(wait)}")

    def _refused_in_wait(self, name: str, wait: timedelta, asker: Asker) -> None:
        """Write a try down that came too early: whoever looks sees that somebody goes on knocking, and from where."""
        silent = self._knocks.untold(f"{name} {network(asker.address)}", self._clock.now())
        if silent is not None:
            others = f"; {silent} more tries since the last line" if silent else ""
            self._note("sign-in refused", name, asker, f"too early, by {spoken(wait)}{others}")

    def _take_back(self, keys: Mapping[str, Rule]) -> None:
        """The owner of a name is there, so its failures are forgotten; those of an address may be another's."""
        for key in keys:
            tally = self.book.tally(key)
            others = lockout.taken_back(tally) if tally and key.startswith("address ") else None
            self.book.count(key, others)

    def _begin(self, user: User, asker: Asker) -> str:
        token, now = token_urlsafe(32), self._clock.now()
        mine = [one.id for one in self.sessions(user.name) if one.kind == "person"]
        self.book.end(mine[: max(len(mine) - MOST_SESSIONS + 1, 0)])
        agent = asker.agent[:200]
        self.book.add(token, Row(0, "person", user.name, user.stamp, "", asker.address, agent, now, now, now + LONGEST))
        return token

    def _resolve(self, row: Row, register: Register, now: datetime) -> Session | None:
        """Return what a row still allows. Roles are those of now; with a user go their sessions and screens."""
        user = register.user(row.name) if row.kind in ("person", "screen") else None
        if user is None or now >= row.ends:
            return None
        if row.stamp != user.stamp or (row.kind == "person" and now - row.used >= IDLE):
            return None
        roles = user.allowed if row.kind == "person" else frozenset({"read"})
        times = (row.made, row.used, row.ends)
        return Session(row.id, row.kind, user.name, row.label, roles, row.address, row.agent, *times)

    def _forget(self, name: str) -> None:
        """Somebody of this name begins anew: no session, no wait, and no browser that is trusted."""
        self.book.end([row.id for row in self.book.all() if row.name.lower() == name.lower()])
        self.book.forget_browsers(name.lower())
        self.book.count(_of_name(name), None)

    def _rehash(self, user: User, password: str) -> User:
        """Keep a password at today's cost; the sessions of its owner stay."""
        new = msgspec.structs.replace(user, password=passwords.hashed(password))
        with self.book.changing():
            register = self.people.read()
            if register.user(user.name) == user:
                self.people.write(register.with_user(new))
        return new


def network(address: str) -> str:
    """Return what counts as one address: of IPv6 the network, since each line has more addresses than guesses."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(IPv6Address(int(found) >> 64 << 64)) if isinstance(found, IPv6Address) else address


def spoken(wait: timedelta) -> str:
    """Say a wait as a person does."""
    seconds = max(round(wait.total_seconds()), 1)
    if seconds < 90:
        return f"{seconds} seconds"
    return f"{-(-seconds // 60)} minutes"


def _of_name(name: str) -> str:
    return f"name {name.lower()}"
