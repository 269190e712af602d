"""Who may sign in, for how long, what ends it, and what is written of it."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from app import passwords, people
from app.clock import ReplayClock
from app.errors import InputError, Refused, StoreDamaged, StoreError, StoreNewer, TooManyTries, WrongPassword
from app.lockout import OF_A_NAME, OF_AN_ADDRESS, Tally
from app.people import People
from app.signed_in import FILE_NAME, MOST_EVENTS, MOST_TALLIES, Event, SignedIn
from app.signins import (
    ASKING,
    IDLE,
    KNOWN_FOR,
    LONGEST,
    MOST_ASKING,
    MOST_ASKING_THERE,
    MOST_SESSIONS,
    QUIET,
    SCREEN,
    USED_EVERY,
    Asker,
    SignIns,
    network,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery"
KEPT = passwords.hashed(PASSWORD)  # once: it costs a tenth of a second
HOME, STRANGER = Asker("192.0.2.1", agent="Firefox"), Asker("203.0.113.9", agent="curl")
ADMIN = Asker("tradectl", "root")


class House:
    """Sign-ins in a directory, at a time that the test sets."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.clock = directory, ReplayClock(START)
        self.door = SignIns(directory, self.clock)
        for name, role in (("anna", "ops"), ("bert", "read")):
            user = people.new_user(name, (role,), KEPT, START)  # type: ignore[arg-type]
            self.door.people.write(self.door.people.read().with_user(user))

    def later(self, by: timedelta) -> None:
        self.clock.set(self.clock.now() + by)

    def in_as(self, name: str = "anna", asker: Asker = HOME, browser: str = "") -> str:
        return self.door.sign_in(name, PASSWORD, asker, browser)

    def guess(self, name: str = "anna", asker: Asker = STRANGER, browser: str = "") -> None:
        with pytest.raises(WrongPassword):
            self.door.sign_in(name, "wrong", asker, browser)

    def lock(self, name: str = "anna", asker: Asker = STRANGER) -> None:
        for _ in range(OF_A_NAME.free):
            self.guess(name, asker)

    def happened(self) -> list[tuple[str, str]]:
        return [(one.what, one.name) for one in reversed(self.door.events())]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@contextmanager
def kept(directory: Path) -> Iterator[None]:
    """Keep the book from everybody who wants to change it, as another process does in the middle of a change."""
    with closing(sqlite3.connect(directory / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# -- sessions ------------------------------------------------------------------------------------------------------


def test_who_gives_the_password_has_a_session_with_todays_roles(house: House) -> None:
    token = house.in_as("ANNA")
    session = house.door.session(token)
    assert session is not None
    assert (session.who, session.roles, session.address, session.agent) == (
        "anna", {"read", "ops"}, "192.0.2.1", "Firefox"
    )  # fmt: skip
    house.door.set_roles("anna", ("trade",), ADMIN)
    changed = house.door.session(token)
    assert changed is not None
    assert changed.roles == {"read", "trade"}


def test_no_other_word_opens_a_session(house: House) -> None:
    token = house.in_as()
    assert house.door.session(token[:-1]) is None
    assert house.door.session("") is None
    assert house.door.session("\x00'; DROP TABLE sessions") is None
    assert house.door.session(token) is not None


def test_a_session_nobody_uses_ends_and_one_in_use_goes_on_to_its_last_day(house: House) -> None:
    idle, used = house.in_as(), house.in_as()
    for _ in range(13):
        house.later(IDLE - timedelta(minutes=2))
        session = house.door.session(used)
        assert session is not None
        house.door.use(session)
    assert house.door.session(idle) is None
    house.later(LONGEST - 13 * (IDLE - timedelta(minutes=2)))
    assert house.door.session(used) is None


def test_a_use_that_cannot_be_written_turns_nobody_away_and_is_written_later(house: House) -> None:
    token = house.in_as()
    house.later(USED_EVERY)
    session = house.door.session(token)
    assert session is not None
    with kept(house.directory):
        house.door.use(session)
        assert house.door.session(token) == session
    house.door.use(session)
    later = house.door.session(token)
    assert later is not None
    assert later.used == house.clock.now()


def test_what_ends_a_session_ends_it_in_every_process(house: House) -> None:
    other = SignIns(house.directory, house.clock)
    token = house.in_as()
    session = other.session(token)
    assert session is not None
    other.sign_out(session, HOME)
    assert house.door.session(token) is None
    assert house.happened()[-1] == ("signed out", "anna")


def test_whoever_looks_waits_for_no_change_and_sees_it_once_it_is_whole(house: House) -> None:
    token, seen = house.in_as(), list[bool]()
    with house.door.book.changing():
        house.door.book.end([row.id for row in house.door.book.all()])
        looking = threading.Thread(target=lambda: seen.append(house.door.session(token) is not None), daemon=True)
        looking.start()
        looking.join(10)
        seen.append(house.door.session(token) is not None)
    seen.append(house.door.session(token) is not None)
    assert seen == [True, False, False]


@pytest.mark.parametrize("change", ["password", "remove", "end"])
def test_another_password_a_removal_and_an_order_end_every_session_and_screen(house: House, change: str) -> None:
    first, second = house.in_as(), house.in_as()
    session = house.door.session(first)
    assert session is not None
    screen = house.door.ask_for_screen(STRANGER)
    house.door.let_screen_in(str(house.door.code_of(screen)), "kitchen", session, HOME)
    others = house.in_as("bert")
    if change == "password":
        house.door.set_password("anna", "another horse battery", ADMIN)
    elif change == "remove":
        house.door.remove_user("anna", ADMIN)
    else:
        assert house.door.end_all("anna", ADMIN) == 3
    assert [house.door.session(one) for one in (first, second, screen)] == [None, None, None]
    assert house.door.session(others) is not None


def test_a_user_who_is_added_again_under_a_name_inherits_no_session(house: House) -> None:
    token = house.in_as()
    house.door.remove_user("anna", ADMIN)
    house.door.add_user("anna", ("read",), PASSWORD, ADMIN)
    assert house.door.session(token) is None


def test_a_register_from_a_backup_opens_no_session_of_a_later_password(house: House) -> None:
    before = house.door.people.read()
    house.door.set_password("anna", "another horse battery", ADMIN)
    token = house.door.sign_in("anna", "another horse battery", HOME)
    house.door.people.write(before)
    assert house.door.session(token) is None
    assert house.in_as()


def test_the_oldest_session_ends_for_one_too_many(house: House) -> None:
    first = house.in_as()
    row = house.door.book.all()[0]
    for number in range(MOST_SESSIONS - 1):
        house.door.book.add(f"token {number}", msgspec.structs.replace(row, id=0))
    assert house.door.session(first) is not None
    house.in_as()
    assert house.door.session(first) is None
    assert len(house.door.sessions("anna")) == MOST_SESSIONS


def test_only_an_owner_ends_a_session_unless_it_may_end_all(house: House) -> None:
    house.in_as()
    number = house.door.sessions("anna")[0].id
    with pytest.raises(InputError, match="there is no session"):
        house.door.end(number, HOME, "bert")
    house.door.end(number, HOME)
    assert house.door.sessions() == []


def test_nothing_that_opens_a_session_stands_in_the_files(house: House) -> None:
    token = house.in_as(browser="a browser's own word")
    house.guess("my-password-by-mistake")
    house.door.make_token("laptop", ("read",), None, ADMIN)
    written = b"".join(path.read_bytes() for path in house.directory.iterdir())
    assert not [one for one in (token, PASSWORD, "a browser's own word", "by-mistake") if one.encode() in written]


# -- lockout -------------------------------------------------------------------------------------------------------


def test_too_many_guesses_wait_even_with_the_right_password_and_after_a_restart(house: House) -> None:
    house.lock()
    house.door.close()
    house.door = SignIns(house.directory, house.clock)
    with pytest.raises(TooManyTries, match="possible in 30 seconds") as refused:
        house.in_as()
    assert refused.value.seconds == 30
    assert house.door.waits("Anna") == OF_A_NAME.first
    house.later(OF_A_NAME.first)
    assert house.in_as()
    assert house.happened()[-4:] == [
        ("sign-in refused", "anna"), ("locked out", "anna"), ("sign-in refused", "anna"), ("signed in", "anna")
    ]  # fmt: skip


def test_knocking_while_one_waits_makes_the_wait_no_longer(house: House) -> None:
    house.lock()
    for _ in range(20):
        house.later(timedelta(seconds=1))
        with pytest.raises(TooManyTries):
            house.door.sign_in("anna", "wrong", STRANGER)
    house.later(timedelta(seconds=10))
    assert house.in_as()


def test_a_try_during_the_wait_is_written_as_refused_with_how_early_it_was(house: House) -> None:
    house.lock()
    house.later(timedelta(seconds=10))
    with pytest.raises(TooManyTries):
        house.door.sign_in("ANNA", "wrong", STRANGER)
    told = house.door.events(1)[0]
    assert (told.what, told.name, told.address, told.detail) == (
        "sign-in refused", "anna", STRANGER.address, "too early, by 20 seconds"
    )  # fmt: skip


def test_a_flood_during_the_wait_is_written_once_a_second_with_how_many_there_were(house: House) -> None:
    house.lock()
    before = len(house.happened())
    for _ in range(100):
        with pytest.raises(TooManyTries):
            house.door.sign_in("anna", "wrong", STRANGER)
    assert len(house.happened()) == before + 1
    house.later(timedelta(seconds=1))
    with pytest.raises(TooManyTries):
        house.door.sign_in("anna", "wrong", STRANGER)
    assert house.door.events(1)[0].detail == "too early, by 29 seconds; 99 more tries since the last line"


def test_an_owner_gets_in_with_a_browser_that_is_known_however_hard_others_knock(house: House) -> None:
    house.in_as(browser="the one at home")
    house.lock(asker=HOME)
    with pytest.raises(TooManyTries):
        house.in_as(browser="another one")
    assert house.in_as(browser="the one at home")
    with pytest.raises(TooManyTries):
        house.in_as("anna", browser="bert's")


def test_a_browser_that_is_known_guesses_no_oftener_than_others(house: House) -> None:
    house.in_as(browser="stolen")
    for _ in range(OF_A_NAME.free):
        house.guess(browser="stolen")
    with pytest.raises(TooManyTries):
        house.in_as(browser="stolen")
    assert house.in_as(browser="another")


def test_a_browser_is_known_for_the_name_that_signed_in_with_it_alone(house: House) -> None:
    house.in_as("bert", browser="bert's")
    house.lock()
    with pytest.raises(TooManyTries):
        house.in_as("anna", browser="bert's")


def test_an_address_that_tries_many_names_waits_and_others_do_not(house: House) -> None:
    for number in range(OF_AN_ADDRESS.free):
        house.guess(f"name{number}")
    with pytest.raises(TooManyTries):
        house.in_as("bert", STRANGER)
    assert house.in_as("bert", HOME)


def test_a_success_forgives_the_name_and_not_what_else_an_address_did(house: House) -> None:
    for number in range(OF_AN_ADDRESS.free - 2):
        house.guess(f"name{number}")
    house.in_as("bert", STRANGER)
    house.guess("one")
    house.guess("two")
    with pytest.raises(TooManyTries):
        house.in_as("bert", STRANGER)


def test_a_name_that_nobody_has_waits_like_any_other(house: House) -> None:
    house.lock("nobody")
    with pytest.raises(TooManyTries, match="possible in 30 seconds"):
        house.door.sign_in("nobody", "wrong", HOME)
    assert house.happened()[-2:] == [("locked out", ""), ("sign-in refused", "")]


def test_many_guesses_at_once_are_many_guesses(house: House) -> None:
    outcomes = []

    def guess() -> None:
        try:
            house.door.sign_in("anna", "wrong", STRANGER)
        except (WrongPassword, TooManyTries) as fault:
            outcomes.append(type(fault))

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert outcomes.count(WrongPassword) == OF_A_NAME.free
    assert outcomes.count(TooManyTries) == 12 - OF_A_NAME.free


def test_somebody_on_the_machine_can_end_a_wait(house: House) -> None:
    house.lock()
    house.door.unlock("anna", ADMIN)
    assert house.in_as()
    assert ("unlocked", "anna") in house.happened()


def test_whoever_finds_a_browser_open_cannot_guess_the_password_to_keep_the_account(house: House) -> None:
    session = house.door.session(house.in_as())
    assert session is not None
    for _ in range(OF_A_NAME.free):
        with pytest.raises(WrongPassword):
            house.door.change_password(session, "wrong", "another horse battery", HOME)
    with pytest.raises(TooManyTries):
        house.door.change_password(session, PASSWORD, "another horse battery", HOME)


def test_a_browser_that_nobody_signed_in_with_for_long_is_forgotten(house: House) -> None:
    house.in_as(browser="the one at home")
    house.later(KNOWN_FOR - timedelta(hours=1))
    house.guess("bert")
    assert house.door.book.knows("the one at home", "anna")
    house.later(timedelta(hours=2))
    house.guess("bert")
    assert not house.door.book.knows("the one at home", "anna")


def test_a_flood_of_other_names_ends_no_wait(house: House) -> None:
    house.lock()
    later = START + timedelta(seconds=1)
    with house.door.book.changing():
        for number in range(MOST_TALLIES + 5):
            house.door.book.count(f"name {number}", Tally(1, later, later))
        house.door.book.tidy(later, later - QUIET, later - KNOWN_FOR)
    assert house.door.waits("anna")
    assert sum(house.door.book.tally(f"name {number}") is None for number in range(MOST_TALLIES + 5)) >= 5


def test_who_changes_the_password_stays_signed_in_and_nobody_else(house: House) -> None:
    mine, other = house.in_as(), house.in_as()
    session = house.door.session(mine)
    assert session is not None
    new = house.door.change_password(session, PASSWORD, "another horse battery", HOME)
    assert [house.door.session(one) is not None for one in (mine, other, new)] == [False, False, True]


def test_a_weak_new_password_is_no_failure_of_who_knows_the_old_one(house: House) -> None:
    session = house.door.session(house.in_as())
    assert session is not None
    for _ in range(2 * OF_A_NAME.free):
        with pytest.raises(InputError, match="characters"):
            house.door.change_password(session, PASSWORD, "short", HOME)
    assert house.door.change_password(session, PASSWORD, "another horse battery", HOME)
    assert ("sign-in refused", "anna") not in house.happened()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("unknown", "unknown", True),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(first: str, second: str, same: bool) -> None:
    assert (network(first) == network(second)) == same


# -- screens -------------------------------------------------------------------------------------------------------


def test_a_screen_only_reads_from_when_its_code_is_typed_until_its_last_day(house: House) -> None:
    screen = house.door.ask_for_screen(STRANGER)
    code = house.door.code_of(screen)
    assert code is not None
    assert house.door.session(screen) is None
    anna = house.door.session(house.in_as())
    assert anna is not None
    house.door.let_screen_in(f" {code.lower()} ", "kitchen\n<b>", anna, HOME)
    session = house.door.session(screen)
    assert session is not None
    assert (session.who, session.roles, session.name) == ("screen:kitchen <b>", {"read"}, "anna")
    assert house.door.code_of(screen) is None
    house.later(SCREEN - timedelta(seconds=1))
    assert house.door.session(screen) is not None
    house.later(timedelta(seconds=1))
    assert house.door.session(screen) is None


@pytest.mark.parametrize("label", ["\x1b[2Jkitchen", "kitchen\x9b31m", "\u202enehctik"])
def test_a_name_of_a_screen_that_would_steer_a_terminal_is_refused(house: House, label: str) -> None:
    anna = house.door.session(house.in_as())
    assert anna is not None
    code = str(house.door.code_of(house.door.ask_for_screen(HOME)))
    with pytest.raises(InputError, match="control characters"):
        house.door.let_screen_in(code, label, anna, HOME)
    house.door.let_screen_in(code, "Küche 2", anna, HOME)
    assert [one.who for one in house.door.sessions() if one.kind == "screen"] == ["screen:Küche 2"]


def test_a_code_counts_for_ten_minutes_and_once(house: House) -> None:
    anna = house.door.session(house.in_as())
    assert anna is not None
    screen = house.door.ask_for_screen(STRANGER)
    code = str(house.door.code_of(screen))
    house.later(ASKING)
    assert house.door.code_of(screen) is None
    for asked in (code, "BBBB-BBBB", ""):
        with pytest.raises(InputError, match="no screen shows this code"):
            house.door.let_screen_in(asked, "kitchen", anna, HOME)


def test_screens_that_wait_are_counted_so_that_nobody_fills_the_disk(house: House) -> None:
    for number in range(MOST_ASKING):
        house.door.ask_for_screen(Asker(f"198.51.100.{number}"))
    with pytest.raises(Refused, match="ten minutes"):
        house.door.ask_for_screen(STRANGER)
    house.later(ASKING + timedelta(seconds=1))
    assert house.door.ask_for_screen(STRANGER)


def test_nobody_alone_keeps_the_screens_of_others_off_the_wall(house: House) -> None:
    ours = house.door.ask_for_screen(HOME)
    theirs = [house.door.ask_for_screen(Asker(f"2001:db8::{number:x}")) for number in range(2 * MOST_ASKING)]
    waiting = [one for one in theirs if house.door.code_of(one)]
    assert waiting == theirs[-MOST_ASKING_THERE:]
    assert house.door.code_of(ours)


# -- tokens, users, the audit --------------------------------------------------------------------------------------


def test_a_token_counts_until_its_last_day_is_over_or_it_is_revoked(house: House) -> None:
    house.door.make_token("laptop", ("read",), START.date(), ADMIN)
    house.door.make_token("other", ("trade",), None, ADMIN)
    assert [one.name for one in house.door.tokens()] == ["laptop", "other"]
    house.later(timedelta(hours=12))
    assert [one.name for one in house.door.tokens()] == ["other"]
    house.door.revoke_token("other", ADMIN)
    assert house.door.tokens() == ()
    assert house.happened() == [("token made", "laptop"), ("token made", "other"), ("token revoked", "other")]


def test_names_that_are_taken_or_none_are_refused(house: House) -> None:
    house.door.make_token("laptop", ("read",), None, ADMIN)
    for wrong in (
        lambda: house.door.make_token("laptop", ("read",), None, ADMIN),
        lambda: house.door.revoke_token("desktop", ADMIN),
        lambda: house.door.add_user("Anna", ("read",), PASSWORD, ADMIN),
        lambda: house.door.add_user("an na", ("read",), PASSWORD, ADMIN),
        lambda: house.door.add_user("carl", ("read",), "short", ADMIN),
        lambda: house.door.remove_user("carl", ADMIN),
        lambda: house.door.unlock("carl", ADMIN),
    ):
        with pytest.raises(InputError):
            wrong()


def test_what_happened_is_told_with_whose_by_whom_and_from_where(house: House) -> None:
    house.door.add_user("carl", ("trade",), PASSWORD, ADMIN)
    found = house.door.events()[0]
    assert (found.what, found.name, found.by, found.address, found.detail, found.at) == (
        "user added", "carl", "root", "tradectl", "read trade", START
    )  # fmt: skip


def test_refusals_do_not_push_out_what_happened(tmp_path: Path) -> None:
    book = SignedIn(tmp_path)
    with book.changing():
        book.note(Event(0, START, "user added", "anna", "root", "tradectl", ""))
        for _ in range(MOST_EVENTS + 5):
            book.note(Event(0, START, "sign-in refused", "", "", "203.0.113.9", ""))
        book.tidy(START, START, START)
    found = book.events(2 * MOST_EVENTS)
    assert len(found) == MOST_EVENTS + 1
    assert found[-1].what == "user added"


# -- the files -----------------------------------------------------------------------------------------------------


def test_looking_makes_no_file(tmp_path: Path) -> None:
    door = SignIns(tmp_path / "none")
    assert (door.sessions(), door.events(), door.tokens(), door.session("x")) == ([], [], (), None)
    assert list(tmp_path.iterdir()) == []


def test_a_change_that_fails_halfway_leaves_everything_as_it_was(house: House) -> None:
    token = house.in_as()
    (house.directory / "users.json").rename(house.directory / "moved")
    (house.directory / "users.json").mkdir()
    with pytest.raises(StoreError, match="chown --reference"):
        house.door.remove_user("anna", ADMIN)
    (house.directory / "users.json").rmdir()
    (house.directory / "moved").rename(house.directory / "users.json")
    assert house.door.session(token) is not None
    assert ("user removed", "anna") not in house.happened()


def test_a_register_that_does_not_read_says_so(house: House) -> None:
    path = house.directory / "users.json"
    for text, kind in (("{", StoreDamaged), ('{"version": 9}', StoreNewer), ('{"users": 1}', StoreDamaged)):
        path.write_text(text)
        with pytest.raises(kind, match=r"users\.json"):
            People(house.directory).read()


def test_a_register_that_cannot_be_opened_or_replaced_says_how_to_mend_it(house: House) -> None:
    path = house.directory / "users.json"
    register = house.door.people.read()
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StoreError, match=r"users\.json.*sudo chown --reference"):
        house.door.people.read()
    path.unlink()
    path.mkdir()
    for use in (house.door.people.read, lambda: house.door.people.write(register)):
        with pytest.raises(StoreError, match=r"users\.json.*sudo chown --reference"):
            use()


def test_a_book_that_is_none_says_so_and_one_that_was_removed_is_made_anew(house: House) -> None:
    token = house.in_as()
    for path in house.directory.glob("sign-ins.sqlite3*"):
        path.unlink()
    assert house.door.session(token) is None
    assert house.in_as()
    house.door.close()
    for path in house.directory.glob("sign-ins.sqlite3*"):
        path.unlink()
    (house.directory / "sign-ins.sqlite3").write_text("this is no database, whatever its name says")
    with pytest.raises(StoreError, match="everybody signs in again"):
        house.door.session("x")


def test_a_book_of_a_later_release_is_left_alone(house: House) -> None:
    house.in_as()
    house.door.close()
    with sqlite3.connect(house.directory / "sign-ins.sqlite3") as db:
        db.execute("PRAGMA user_version=9")
    with pytest.raises(StoreNewer):
        SignIns(house.directory).session("x")


def test_a_book_that_others_keep_or_that_fails_is_not_to_be_removed(house: House) -> None:
    house.in_as()
    with kept(house.directory), pytest.raises(StoreError, match="another process writes to it") as waits:
        house.door.book.use(1, START)
    with closing(sqlite3.connect(house.directory / FILE_NAME)) as db:
        db.execute("CREATE TRIGGER fault BEFORE UPDATE ON sessions BEGIN SELECT raise(FAIL, 'the disk is ill'); END")
    with pytest.raises(StoreError, match="the disk is ill; see whether its disk") as fails:
        house.door.book.use(1, START)
    assert "remove" not in f"{waits.value} {fails.value}"


def test_the_register_can_be_read_whole_at_any_instant(house: House) -> None:
    over, seen = threading.Event(), list[int]()

    def read() -> None:
        while not over.is_set():
            seen.append(len(People(house.directory).read().users))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        house.door.set_roles("anna", ("trade",), ADMIN)
    over.set()
    reader.join()
    assert set(seen) == {2}
    assert stat.S_ISREG((house.directory / "users.json").stat().st_mode)
