"""One machine per account: the fence, the generations, and the file beside the ledger that counts them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import fence, marker
from app.errors import ConfigurationError, Fenced, Refused, StoreDamaged, StoreForeign, StoreMissing
from app.fence import Ask, Fence
from app.marker import Marker
from app.store import Store

AT = datetime(2026, 1, 5, 15, tzinfo=UTC)
ANNA = Ask("anna", "the account moved", AT)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of an account of the first generation."""
    Store.create(tmp_path, "acc").close()
    return tmp_path


# -- the marker ----------------------------------------------------------------------------------------------------


def test_a_marker_of_one_line_is_of_the_first_generation(place: Path) -> None:
    assert (place / marker.NAME).read_text() == "acc\n"
    assert marker.read(place) == Marker("acc", 1)


def test_a_later_generation_is_a_second_line_and_the_name_stays_the_name(place: Path) -> None:
    marker.write(place, Marker("acc", 12))
    assert (place / marker.NAME).read_text() == "acc\n12\n"
    assert marker.read(place) == Marker("acc", 12)
    assert marker.account_in(place, "acc") == "acc"
    Store.open(place).close()


def test_where_no_marker_is_the_ledger_names_the_account(tmp_path: Path) -> None:
    assert marker.read(tmp_path) is None
    assert marker.account_in(tmp_path, "acc") == "acc"


def test_a_marker_of_another_account_is_refused(place: Path) -> None:
    marker.write(place, Marker("other", 2))
    with pytest.raises(StoreForeign, match="belongs to account other, but the ledger in it is of acc"):
        marker.account_in(place, "acc")


@pytest.mark.parametrize("second", ["two", "0", "-1", "1.5", "²"])
def test_a_generation_that_is_none_is_said_and_not_taken_for_the_first(place: Path, second: str) -> None:
    (place / marker.NAME).write_text(f"acc\n{second}\n")
    with pytest.raises(StoreDamaged, match="for its generation, which is a number from 1"):
        marker.read(place)


def test_a_marker_of_bytes_that_are_no_text_is_damaged(place: Path) -> None:
    (place / marker.NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreDamaged, match="does not read as text"):
        marker.read(place)


def test_a_lost_ledger_is_told_with_the_name_of_the_account_alone(place: Path) -> None:
    marker.write(place, Marker("acc", 2))
    (place / "ledger.sqlite3").unlink()
    with pytest.raises(StoreMissing, match="account 'acc' lived in"):
        Store.open(place)


# -- the fence -----------------------------------------------------------------------------------------------------


def test_without_a_fence_everything_goes_on(place: Path) -> None:
    assert fence.read(place) is None
    fence.refuse_fenced(place)
    assert (fence.generation(place), fence.known(place)) == (1, 1)


def test_a_fence_refuses_with_who_when_and_why(place: Path) -> None:
    fence.lay(place, ANNA)
    assert fence.read(place) == Fence("the account moved", "anna", AT)
    with pytest.raises(Fenced, match=r"fenced: the account moved \(anna, 2026-01-05T15:00:00Z\); no engine trades on"):
        fence.refuse_fenced(place)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", ""),
        (b"bob: the old machine\n", "bob: the old machine"),
        (b'{"who": "bob"', '{"who": "bob"'),
        (b"\xff\x00\n", "\ufffd\x00"),
        (b"x" * 5000, "x" * 200),
    ],
    ids=["nothing", "a line", "half a document", "no text", "too much"],
)
def test_whatever_is_in_the_file_it_fences(place: Path, content: bytes, why: str) -> None:
    (place / fence.FILE_NAME).write_bytes(content)
    assert fence.read(place) == Fence(why)
    with pytest.raises(Fenced, match="no engine trades on"):
        fence.refuse_fenced(place)


def test_a_fence_that_is_a_directory_fences_too(place: Path) -> None:
    (place / fence.FILE_NAME).mkdir()
    with pytest.raises(Fenced, match="the file FENCED cannot be read"):
        fence.refuse_fenced(place)


def test_a_fence_that_stands_is_kept_until_a_higher_generation_is_news(place: Path) -> None:
    fence.lay(place, ANNA)
    assert fence.lay(place, Ask("bob", "again", AT)).who == "anna"
    assert fence.lay(place, Ask("backup", "a newer backup", AT), above=3).generation == 3
    assert fence.lay(place, Ask("backup", "an older backup", AT), above=2).generation == 3
    assert [turn.who for turn in fence.history(place)] == ["anna", "backup"]


def test_a_machine_whose_marker_does_not_read_is_fenced_all_the_same(place: Path) -> None:
    (place / marker.NAME).write_text("acc\ntwo\n")
    fence.lay(place, ANNA)
    with pytest.raises(Fenced):
        fence.refuse_fenced(place)


def test_what_is_no_directory_is_not_fenced(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no directory"):
        fence.lay(tmp_path / "nowhere", ANNA)


def test_a_fence_is_lifted_with_who_and_why_which_are_kept(place: Path) -> None:
    fence.lay(place, ANNA)
    fence.lift(place, Ask("bob", "called off", AT))
    fence.refuse_fenced(place)
    assert [(turn.what, turn.who, turn.why) for turn in fence.history(place)] == [
        ("lay", "anna", "the account moved"),
        ("lift", "bob", "called off"),
    ]


LAY = """import sys, pathlib, datetime
from app import fence
ask = fence.Ask("backup", "a newer one", datetime.datetime.now(datetime.UTC))
print("ready", flush=True)
sys.stdin.readline()
for place in sys.argv[1:]:
    fence.lay(pathlib.Path(place), ask, 9)"""


def test_a_fence_that_is_laid_while_another_is_lifted_stands(tmp_path: Path) -> None:
    places = [tmp_path / str(number) for number in range(40)]
    for place in places:
        place.mkdir()
        marker.write(place, Marker("acc"))
        fence.lay(place, ANNA)
    words = [sys.executable, "-c", LAY, *map(str, places)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdin
        other.stdout.readline()
        other.stdin.write("go\n")
        other.stdin.flush()
        for place in places:
            with suppress(Fenced, Refused):
                fence.lift(place, Ask("bob", "called off", AT))
    assert other.returncode == 0
    assert [place for place in places if fence.stands(place) is None] == []
    assert [fence.known(place) for place in places] == [9] * len(places)


def test_where_there_is_no_fence_nothing_is_lifted(place: Path) -> None:
    with pytest.raises(Refused, match="is not fenced"):
        fence.lift(place, ANNA)
    assert not fence.history(place)


def test_a_fence_is_never_lifted_where_a_higher_generation_is_known(place: Path) -> None:
    fence.lay(place, ANNA, above=2)
    with pytest.raises(Fenced, match=r"goes on elsewhere in generation 2, .* holds generation 1"):
        fence.lift(place, ANNA)
    (place / fence.FILE_NAME).write_text("")  # by hand; what was known is known from the history
    with pytest.raises(Fenced, match="the fence stays"):
        fence.lift(place, ANNA)
    with pytest.raises(Fenced, match="no engine trades on"):
        fence.refuse_fenced(place)


def test_a_history_that_does_not_read_is_never_written_over(place: Path) -> None:
    (place / fence.HISTORY_NAME).write_text("[{")
    fence.refuse_fenced(place)
    fence.lay(place, ANNA)
    with pytest.raises(Fenced, match=r"the fence stays: .*fence.json does not read; restore it from a backup"):
        fence.lift(place, ANNA)
    (place / fence.FILE_NAME).unlink()
    with pytest.raises(StoreDamaged, match="nothing was taken over"):
        fence.take(place, ANNA)
    assert (place / fence.HISTORY_NAME).read_text() == "[{"
    assert marker.read(place) == Marker("acc", 1)


def test_a_fence_that_does_not_read_is_lifted_only_once_it_was_laid_anew(place: Path) -> None:
    (place / fence.FILE_NAME).write_text("bob: the old machine")
    with pytest.raises(Fenced, match="write it anew: tradectl fence lay"):
        fence.lift(place, ANNA)
    assert (place / fence.FILE_NAME).exists()
    assert fence.lay(place, ANNA).who == "anna"
    fence.lift(place, ANNA)
    fence.refuse_fenced(place)


def test_a_fence_that_is_a_directory_is_neither_lifted_nor_laid(place: Path) -> None:
    (place / fence.FILE_NAME).mkdir()
    with pytest.raises(Fenced, match="remove what is in its place"):
        fence.lift(place, ANNA)
    assert "cannot be read" in fence.lay(place, ANNA).why


def test_a_fence_that_was_removed_by_hand_goes_on_to_fence_where_a_higher_generation_is_known(place: Path) -> None:
    fence.lay(place, ANNA, above=2)
    (place / fence.FILE_NAME).unlink()
    with pytest.raises(Fenced, match=r"generation 1 of the account is in .*; the account goes on elsewhere in"):
        fence.refuse_fenced(place)
    with pytest.raises(Fenced, match="the fence stays"):
        fence.lift(place, ANNA)
    fence.take(place, ANNA)
    fence.refuse_fenced(place)
    assert fence.generation(place) == 3


def test_a_marker_that_is_gone_leaves_the_generation_to_the_history(place: Path) -> None:
    fence.take(place, ANNA)
    (place / marker.NAME).unlink()
    assert fence.generation(place) == 2
    fence.refuse_fenced(place)


def test_an_account_without_a_marker_is_taken_over_by_the_name_in_its_ledger(place: Path) -> None:
    (place / marker.NAME).unlink()
    taken = fence.take(place, ANNA, recorded="acc")
    assert (taken.account, taken.generation) == ("acc", 2)


def test_who_takes_an_account_over_gets_the_generation_after_all_that_are_known(place: Path) -> None:
    taken = [fence.take(place, ANNA, above) for above in (0, 0, 7, 7)]
    assert [(one.account, one.generation) for one in taken] == [("acc", 2), ("acc", 3), ("acc", 8), ("acc", 9)]
    assert marker.read(place) == taken[-1]
    assert [turn.generation for turn in fence.history(place)] == [2, 3, 8, 9]


def test_two_machines_that_take_the_same_generation_differ(place: Path) -> None:
    before = marker.read(place)
    one = fence.take(place, ANNA)
    (place / fence.HISTORY_NAME).unlink()
    marker.write(place, before or Marker("acc"))
    other = fence.take(place, ANNA)
    assert one.generation == other.generation == 2
    assert one.holder != other.holder
    assert (place / marker.NAME).read_text() == f"acc\n2\n{other.holder}\n"


def test_a_word_of_the_holder_that_is_none_is_damage(place: Path) -> None:
    (place / marker.NAME).write_text("acc\n2\nsomebody\n")
    with pytest.raises(StoreDamaged, match="a word of 8 hex digits"):
        marker.read(place)


def test_a_generation_without_end_is_none_of_ours(place: Path) -> None:
    (place / marker.NAME).write_text("acc\n" + "9" * 5000)
    with pytest.raises(StoreForeign, match="a number of 5000 digits for its generation"):
        marker.read(place)
    fence.lay(place, ANNA, above=2)
    assert fence.history(place)[-1].known == 2


def test_a_machine_that_is_fenced_takes_nothing_over(place: Path) -> None:
    fence.lay(place, ANNA, above=2)
    with pytest.raises(Fenced):
        fence.take(place, ANNA)
    assert marker.read(place) == Marker("acc", 1)


def test_where_there_is_no_account_nothing_is_taken_over(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="there is no account in"):
        fence.take(tmp_path, ANNA)
    assert not list(tmp_path.iterdir())


def test_what_somebody_wrote_is_kept_as_one_line(place: Path) -> None:
    assert fence.lay(place, Ask("an\nna", "two\r\nlines\tof it", AT)) == Fence("two lines of it", "an na", AT)
