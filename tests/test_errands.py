"""What the page leaves for the watcher: a whole file that the watcher reads, no more of them than may wait."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import errands
from app.config import Settings
from app.errands import WAITING, Asked
from app.errors import ConfigurationError, NotRunning
from app.web.asking import ERRANDS, asked_for
from app.web.signing import Person
from ops.asked import NAME, Request

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
WISH = Asked("a" * 32, "silence", "anna", NOW, "disk", "it is exchanged", "2h")
ANNA = Person("anna", frozenset({"ops"}))
words = st.text(max_size=20)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=str(tmp_path))


def test_what_the_page_leaves_is_what_the_watcher_reads(settings: Settings) -> None:
    assert errands.leave(settings, WISH), "on a laptop the program has to be started"
    (path,) = settings.asked.iterdir()
    assert NAME.fullmatch(path.name)
    request = msgspec.json.Decoder(Request).decode(path.read_bytes())
    assert msgspec.structs.asdict(request) == msgspec.structs.asdict(WISH)
    assert errands.waits(settings, WISH.id)


def test_no_more_requests_wait_than_may_and_none_is_left_half(settings: Settings) -> None:
    settings.asked.mkdir(parents=True)
    for number in range(WAITING):
        (settings.asked / f".{number}").touch()
    for number in range(WAITING):
        errands.leave(settings, msgspec.structs.replace(WISH, id=f"{number:032x}"))
    with pytest.raises(NotRunning, match=f"{WAITING} requests wait"):
        errands.leave(settings, WISH)
    assert not errands.waits(settings, WISH.id)
    assert len(list(settings.asked.iterdir())) == 2 * WAITING


def test_a_place_that_cannot_be_written_is_said(settings: Settings) -> None:
    settings.watched.mkdir()
    settings.asked.write_text("in the way")
    with pytest.raises(ConfigurationError, match="so nothing was asked for"):
        errands.leave(settings, WISH)


def test_a_place_of_its_own_is_taken_where_one_is_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), ops_asked_dir=str(tmp_path / "spool"))
    errands.leave(settings, WISH)
    assert (tmp_path / "spool" / f"{WISH.id}.json").exists()


@given(st.sampled_from(sorted(ERRANDS)), words, words, words, words)
def test_the_same_form_has_the_same_number_and_any_other_has_another(
    name: str, about: str, why: str, key: str, other: str
) -> None:
    form = {"alert": about, "why": why, "length": "2h"}
    errand, one = ERRANDS[name], asked_for(ERRANDS[name], form, ANNA, key, NOW)
    assert NAME.fullmatch(f"{one.id}.json")
    assert asked_for(errand, form, ANNA, key, NOW).id == one.id
    others = [
        asked_for(errand, form, ANNA, f"{key}x", NOW),
        asked_for(errand, form, Person(f"anna{other}x", ANNA.roles), key, NOW),
        *(asked_for(ERRANDS[each], form, ANNA, key, NOW) for each in ERRANDS if each != name),
        *([asked_for(errand, {**form, "alert": f"{about}x"}, ANNA, key, NOW)] if errand.of else []),
    ]
    assert one.id not in {each.id for each in others}
