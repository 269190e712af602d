"""The rows of the fault matrix that need no host: each fault for real, under `tradectl run` with its watcher.

Whoever is told sees one message of it, with figure and limit, what to type and where to read on; and one end. Nothing
is lost. All tests share one running program, and each leaves it well.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.laptop import OF_THE_MACHINE, Episode, Laptop, wait_for
from support.matrix import keep
from support.receivers import Heard

from app.store import Store

# What every message says, as patterns.
ALWAYS = (
    r"^Since: ",
    r"^What it means: .+\.$",
    r"^Type first: \w+",
    r'^What to do: docs/operations.md, section ".+"$',
)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    with ExitStack() as stack:
        laptop = Laptop(tmp_path_factory.mktemp("laptop"), stack)
        laptop.start()
        for name in OF_THE_MACHINE:
            laptop.tradectl("silence", f"{name}*", "--for", "1d", "--why", "not what is tested")
        wait_for(lambda: bool(laptop.get("/api/v1/trading/status").get("last_fill")), "it trades", laptop)
        yield laptop


def lacking(heard: Heard, check: str, *figures: str) -> list[str]:
    """Return what a message does not say: of its figures, of its cause, of what to type and where to read on."""
    text = heard.paragraph(check)
    absent = [one for one in (*figures, *ALWAYS) if not re.search(one, text, re.MULTILINE)]
    return absent if check in heard.title else [*absent, check]


# -- prices -------------------------------------------------------------------------------------------------------


def test_a_provider_that_is_mute_is_told_although_another_one_serves(laptop: Laptop) -> None:
    episode = Episode(laptop, "api")
    laptop.outside.finnhub.silence()
    laptop.outside.finnhub.fail("hang")
    heard = episode.wait_until_told()
    assert not lacking(heard, "api", "from twelvedata, not finnhub")
    laptop.outside.finnhub.heal()
    episode.wait_for_the_end()
    keep(episode.row(fault="provider mute: connected and silent", recovered="by itself, once it speaks again"))


def test_all_providers_dead_are_one_message(laptop: Laptop) -> None:
    episode = Episode(laptop, "providers")
    for double in (laptop.outside.finnhub, laptop.outside.twelvedata):
        double.refuse()
    heard = episode.wait_until_told()
    assert not lacking(heard, "providers", "finnhub .primary. is not connected", "twelvedata .backup. is not connected")
    for double in (laptop.outside.finnhub, laptop.outside.twelvedata):
        double.heal()
    episode.wait_for_the_end()
    keep(episode.row(fault="all providers dead", recovered="by itself, once one answers"))


def test_a_clock_that_differs_from_the_providers_is_told(laptop: Laptop) -> None:
    episode = Episode(laptop, "providers")
    for double in (laptop.outside.finnhub, laptop.outside.twelvedata):
        double.shift(30)
    heard = episode.wait_until_told()
    figures = (r"prices of finnhub are (29|30)\.\d s ahead of our clock", "warned of above 0.25 s")
    assert not lacking(heard, "providers", *figures)
    for double in (laptop.outside.finnhub, laptop.outside.twelvedata):
        double.heal()
    episode.wait_for_the_end()
    keep(episode.row(fault="clock shifted by 30 s against the providers'", recovered="by itself, once it is right"))


# -- processes ----------------------------------------------------------------------------------------------------


def killed(laptop: Laptop, name: str, shown: str) -> Episode:
    episode = Episode(laptop, "keeper")
    laptop.child(name).kill()
    heard = episode.wait_until_told()
    figures = (f"the {shown} died at .* .killed by signal 9.", "not one may die")
    assert not lacking(heard, "keeper", *figures)
    episode.wait_for_the_end()
    return episode


def test_a_killed_engine_is_told_although_it_runs_again(laptop: Laptop) -> None:
    keep(killed(laptop, "engine", "engine").row(fault="engine killed", recovered="by itself, started again"))
    assert laptop.child("engine").is_running()


def test_a_killed_api_is_told_although_it_runs_again(laptop: Laptop) -> None:
    keep(killed(laptop, "api", "API").row(fault="API killed", recovered="by itself, started again"))
    assert laptop.child("api").is_running()


def test_a_killed_redis_is_told_although_it_runs_again(laptop: Laptop) -> None:
    keep(killed(laptop, "valkey-server", "Redis").row(fault="Redis killed", recovered="by itself, started again"))
    assert laptop.child("valkey-server").is_running()


def test_an_engine_that_loses_its_account_to_another_one_ends_everything_and_says_so_last(laptop: Laptop) -> None:
    """As with a lock that was lost: on a file system without locks, or with a lock file that was deleted."""
    episode = Episode(laptop, "keeper")
    second = laptop.tradectl("engine")
    assert (second.code, "trades on" in second.err) == (6, True), "one that finds the lock held leaves by itself"
    usurper = Store.open(laptop.directory)
    usurper.take_over()
    usurper.close()
    heard = episode.wait_until_told()
    figures = ("the engine died at .* .exit code 6.", "no new start would change")
    assert not lacking(heard, "keeper", *figures)
    assert laptop.process
    assert laptop.process.wait(30) == 6
    laptop.start()
    episode.wait_for_the_end()
    keep(episode.row(fault="two engines on one account", recovered="by the operator: `tradectl run`"))


# -- money --------------------------------------------------------------------------------------------------------


def invested(laptop: Laptop) -> int:
    return len(laptop.get("/api/v1/trading/portfolio").get("positions", []))


def lost(laptop: Laptop) -> float:
    return -float(laptop.get("/api/v1/trading/portfolio")["daily_pnl"])


def move_until(over: Callable[[], bool], factor: float, laptop: Laptop) -> None:
    """Multiply all prices again and again, whenever something is held and was looked at."""
    while not over():
        wait_for(lambda: invested(laptop) > 0 or over(), "something is bought", laptop)
        laptop.outside.jump(factor)
        laptop.wait_for_look()


def test_a_daily_loss_beyond_the_limit_is_told_with_both_figures(laptop: Laptop) -> None:
    episode = Episode(laptop, "loss")
    move_until(lambda: bool(episode.firing()), 0.97, laptop)
    assert not lacking(episode.wait_until_told(), "loss", r"\d+\.\d\d were lost today, more than 200 .OPS_DAILY_LOSS.")
    move_until(lambda: bool(episode.ending()) and lost(laptop) < 100, 1.03, laptop)  # far enough from the limit
    episode.wait_for_the_end()
    keep(episode.row(fault="daily loss beyond OPS_DAILY_LOSS", recovered="by the market: the loss was made good"))


# -- those who are told -------------------------------------------------------------------------------------------


def halt(laptop: Laptop) -> None:
    assert laptop.tradectl("halt", "--reason", "a fault of the channels is tried").code == 0


def release(laptop: Laptop) -> None:
    assert laptop.tradectl("release", "--reason", "it was tried").code == 0


def test_a_dead_mail_server_a_slow_chat_and_one_that_answers_500_keep_nobody_from_being_told(laptop: Laptop) -> None:
    """Trading is halted meanwhile, so that there is something to tell."""
    episode = Episode(laptop, "trading")
    laptop.mail.close()
    laptop.mmost.code, laptop.ntfy.seconds = 500, 12.0
    halt(laptop)
    assert not lacking(episode.wait_until_told(), "trading", "trading is halted: a fault of the channels is tried")
    wait_for(lambda: bool(episode.firing(laptop.ntfy)), "the slow one has it too", laptop)
    assert episode.told < episode.firing(laptop.ntfy)[0].at - episode.begun - 5, "nobody waits for the slow one"
    assert not episode.messages(laptop.mail) + episode.messages(laptop.mmost)
    laptop.mail.open()
    laptop.mmost.code, laptop.ntfy.seconds = 200, 0.0
    wait_for(lambda: bool(episode.firing(laptop.mail) and episode.firing(laptop.mmost)), "late, but told", laptop)
    release(laptop)
    episode.wait_for_the_end()
    keep(episode.row(fault="mail server dead", recovered="by itself: the mail came by a later look"))
    keep(episode.row(fault="a chat answers 500", recovered="by itself: the message came by a later look"))
    keep(episode.row(fault="a chat that takes 12 s", recovered="by itself: nobody else waited for it"))


def test_while_nobody_can_be_reached_news_wait_on_the_disk_and_come_once_each(laptop: Laptop) -> None:
    episode = Episode(laptop, "trading")
    for one in laptop.everybody:
        one.close()
    halt(laptop)
    wait_for(lambda: "trading" in laptop.open_alerts(), "it is seen", laptop)
    wait_for(lambda: bool(laptop.asked("SELECT 1 FROM outbox WHERE attempts > 0")), "it was tried", laptop)
    release(laptop)
    wait_for(lambda: len(laptop.asked("SELECT 1 FROM outbox")) == 2, "its end waits too", laptop)
    assert not any(episode.messages(one) for one in laptop.everybody)
    for one in laptop.everybody:
        one.open()
    episode.wait_until_told()
    episode.wait_for_the_end()
    statuses = [status for one in episode.messages() for status, name in one.heads if name == "trading"]
    assert [status == "OK" for status in statuses] == [False, True]
    keep(episode.row(fault="nobody can be reached", recovered="by itself: what waited came by a later look, in order"))


def test_a_damaged_list_of_those_who_are_told_is_told_once_it_is_mended(laptop: Laptop) -> None:
    episode = Episode(laptop, "watcher")
    good = laptop.apprise.read_text()
    laptop.apprise.write_text("urls: [")
    wait_for(lambda: laptop.statuses()["watcher"] == "CRITICAL", "it is seen", laptop)
    doctor = laptop.tradectl("doctor").out
    assert "nobody can be told anything, alerts wait" in doctor
    laptop.apprise.write_text(good)
    assert not lacking(episode.wait_until_told(), "watcher", "nobody can be told anything, alerts wait: .*apprise.yml")
    episode.wait_for_the_end()
    keep(episode.row(fault="apprise.yml malformed", recovered="by the operator: the file mended"))


# -- the books ----------------------------------------------------------------------------------------------------


def damage(laptop: Laptop) -> None:
    """Change a byte in a row of the ledger, past everything that guards it."""
    ledger = sqlite3.connect(laptop.directory / "ledger.sqlite3")
    for trigger in ("entries_never_change", "entries_never_go"):
        ledger.execute(f"DROP TRIGGER {trigger}")
    ledger.execute("DELETE FROM snapshots")
    ledger.execute("UPDATE entries SET at = '2031-01-01T00:00:00Z' WHERE seq = 3")
    ledger.commit()
    ledger.close()


def restore(laptop: Laptop) -> None:
    """Put the newest copy in place of the ledger, as the operations guide says."""
    place = laptop.directory.parent / "restored"
    said = laptop.tradectl("backup", "restore", "--to", str(place), "--part", "account")
    assert said.code == 0, said.err
    for left in laptop.directory.glob("ledger.sqlite3*"):
        left.unlink()
    shutil.copy(place / "account" / "ledger.sqlite3", laptop.directory / "ledger.sqlite3")


def test_a_damaged_row_of_the_ledger_is_told_by_the_verification_and_mended_by_the_copy(laptop: Laptop) -> None:
    assert laptop.tradectl("backup").code == 0
    assert laptop.tradectl("drill").code == 0
    episode = Episode(laptop, "ledger")
    laptop.stop()
    assert laptop.tradectl("backup").code == 0
    damage(laptop)
    said = laptop.tradectl("backup")
    assert said.code == 1
    assert "ledger row 3 was changed after it was written" in said.err
    laptop.start()
    assert not lacking(episode.wait_until_told(), "ledger", "ledger row 3 was changed after it was written")
    laptop.stop()
    restore(laptop)
    assert laptop.tradectl("backup").code == 0
    laptop.start()
    episode.wait_for_the_end()
    keep(episode.row(fault="a row of the ledger damaged", recovered="by the operator: `tradectl backup restore`"))


def test_no_trade_while_the_market_is_open_is_told_with_the_gate(laptop: Laptop) -> None:
    laptop.stop()
    laptop.start(OPS_NO_TRADE_HOURS="0.004")
    episode = Episode(laptop, "no_trade")
    laptop.outside.still = True
    heard = episode.wait_until_told()
    figures = (r"nothing was traded for \d+ s while a market was open: \d times \w+ .", "above 0.004 h")
    assert not lacking(heard, "no_trade", *figures)
    laptop.outside.still = False
    episode.wait_for_the_end()
    keep(episode.row(fault="no trade although the market is open", recovered="by itself, with the next trade"))
