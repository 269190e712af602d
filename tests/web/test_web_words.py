"""Figures on a page: what is not known is a dash, a sign is a character, a time is of UTC until one chooses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web import words


@pytest.mark.parametrize("write", [words.money, words.signed, words.percent, words.price, words.quantity, words.ratio])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_known_is_a_dash(write: object, value: float | None) -> None:
    assert write(value) == "\N{EN DASH}"  # type: ignore[operator]


def test_money_has_cents_and_groups() -> None:
    assert words.money(Decimal("1234567.895")) == "1,234,567.90"


@pytest.mark.parametrize(
    ("amount", "text", "tone"),
    [
        ("12.5", "+12.50", "gain"),
        ("-3", "\N{MINUS SIGN}3.00", "loss"),
        ("-0.001", "0.00", "even"),
        ("0", "0.00", "even"),
    ],
)
def test_a_gain_or_loss_has_its_sign_and_nothing_has_none(amount: str, text: str, tone: str) -> None:
    assert (words.signed(Decimal(amount)), words.tone(Decimal(amount))) == (text, tone)


def test_a_price_has_the_decimals_that_its_size_needs() -> None:
    assert [words.price(one) for one in (83412.5, 1.08341, 0.0000123)] == ["83,412.50", "1.0834", "0.00001230"]


def test_a_quantity_has_no_idle_zeros() -> None:
    assert [words.quantity(Decimal(one)) for one in ("0.01230000", "100", "2.50")] == ["0.0123", "100", "2.5"]


@pytest.mark.parametrize("form", words.FORMS)
def test_what_is_not_known_is_a_dash_in_every_form(form: str) -> None:
    assert words.written(None, form) == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (Decimal("-3"), "signed", "\N{MINUS SIGN}3.00"),
        (0.1234, "percent", "12.34 %"),
        (12, "count", "12"),
        (1536, "size", "1.5 KiB"),
        ("<b>max_position", "named", "<b>max position"),
        ("<b>", "", "<b>"),
        (None, "named", ""),
        (None, "", ""),
    ],
)
def test_a_value_is_written_in_the_form_that_a_table_names(value: object, form: str, text: str) -> None:
    assert words.written(value, form) == text
    assert not hasattr(words.written(value, form), "__html__"), "a template would not escape it"


def test_a_form_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        words.written(1, "mony")


@given(st.sampled_from(sorted(words.FIGURES)), st.decimals(-(10**9), 10**9, places=6))
def test_a_figure_in_a_form_is_that_of_its_filter(form: str, value: Decimal) -> None:
    assert words.written(value, form) == words.FILTERS[form](value)


def test_a_time_is_written_in_utc_whatever_its_zone() -> None:
    there = datetime(2026, 1, 5, 20, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert 'datetime="2026-01-05T15:00:00Z"' in words.when(there, "full")
    assert "2026-01-05 15:00:00 UTC</time>" in words.when(there, "full")


def test_a_time_that_never_was_is_a_dash() -> None:
    assert words.when(None) == "\N{EN DASH}"


def test_the_form_of_a_time_is_escaped() -> None:
    assert "<b>" not in words.when(datetime(2026, 1, 5, tzinfo=UTC), '"><b>')


def test_lengths_of_time_are_told_in_their_own_unit() -> None:
    assert [words.span(one) for one in (0.4, 50, 200, 9000, 200_000)] == ["0.4 s", "50 s", "3 min", "2 h", "2 days"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (3 << 20, "3.0 MiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_bytes_have_a_unit_that_fits(count: float | None, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [(None, "\N{EN DASH}"), ("<b>soon</b>", "<b>soon</b>")],
)
def test_a_text_that_is_no_time_stays_one(given: str | None, text: str) -> None:
    assert words.moment(given) == text
    assert not hasattr(words.moment(given), "__html__"), "a template would not escape it"


@pytest.mark.parametrize("given", ["2026-01-05T15:00:00Z", "2026-01-05T15:00:00", "2026-01-05T20:30:00+05:30"])
def test_a_time_that_came_as_text_is_a_time(given: str) -> None:
    assert 'datetime="2026-01-05T15:00:00Z"' in words.moment(given)
