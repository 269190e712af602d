"""Passwords are kept as Argon2id, compared in the same time for everybody, and refused where they are weak."""

from __future__ import annotations

import unicodedata
from time import perf_counter

import pytest

from app.errors import InputError
from app.passwords import NOBODYS, fits, hashed, is_outdated, made_up, refuse_weak

RIGHT = "correct horse battery"
KEPT = hashed(RIGHT)
CHEAP = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzYWx0$2uVNUMQM1Ytpd+MyxSXU2w"


def test_what_is_kept_is_argon2id_and_never_twice_the_same() -> None:
    assert KEPT.startswith("$argon2id$v=19$m=32768,t=3,p=1$")
    assert RIGHT not in KEPT
    assert hashed(RIGHT) != KEPT


def test_only_the_password_itself_fits() -> None:
    assert fits(KEPT, RIGHT)
    assert not fits(KEPT, RIGHT + " ")
    assert not fits(KEPT, "")
    assert not fits("no hash at all", RIGHT)


def test_the_same_letters_fit_however_a_keyboard_composes_them() -> None:
    assert fits(
        hashed(unicodedata.normalize("NFD", "Ölfässer überall")), unicodedata.normalize("NFC", "Ölfässer überall")
    )


def test_a_surrogate_that_is_no_text_is_compared_and_no_fault() -> None:
    assert not fits(KEPT, "\ud800" * 20)


def test_nobody_has_the_password_of_nobody() -> None:
    assert not fits(None, RIGHT)
    assert not fits(NOBODYS, "")


def test_a_name_that_nobody_has_costs_as_much_as_a_wrong_password() -> None:
    def fastest(kept: str | None) -> float:
        def once() -> float:
            began = perf_counter()
            fits(kept, "wrong password")
            return perf_counter() - began

        return min(once() for _ in range(7))

    known, unknown = fastest(KEPT), fastest(None)
    assert 0.6 < unknown / known < 1.7


def test_a_hash_at_less_cost_is_outdated() -> None:
    assert is_outdated(CHEAP)
    assert not is_outdated(KEPT)


@pytest.mark.parametrize("password", ["short", "a" * 40, "x" * 257, "abababababab", "anna-anna", "Anna12345678"[:12]])
def test_a_weak_password_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(InputError, match="password") as refused:
        refuse_weak("anna12345", password)
    assert password not in str(refused.value)


def test_a_password_that_is_made_up_is_strong_and_new_each_time() -> None:
    made = {made_up() for _ in range(50)}
    assert len(made) == 50
    for one in made:
        refuse_weak("anna", one)
