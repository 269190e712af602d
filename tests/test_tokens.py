"""Tokens are kept as hashes, read strictly, and never repeated in an error."""

from __future__ import annotations

from datetime import UTC, date, datetime
from hashlib import sha256

import pytest

from app.errors import ConfigurationError, InputError
from app.secret import Secret
from app.tokens import SCOPES, Scope, find, make, read_tokens

DIGEST = sha256(b"ta_one").hexdigest()


def test_what_was_made_is_found_again_with_its_name_and_scopes() -> None:
    token, entry = make("laptop-2", ["trade", "read"])
    (known,) = read_tokens(Secret(entry))
    assert token.startswith("ta_")
    assert len(token) > 40
    assert token not in entry
    assert find([known], token) == known
    assert (known.name, known.scopes) == ("laptop-2", {"read", "trade"})


def test_a_token_with_a_last_day_counts_through_that_day() -> None:
    _, entry = make("laptop", ["read"], date(2027, 1, 31))
    (known,) = read_tokens(Secret(entry))
    assert known.last == date(2027, 1, 31)
    assert not known.is_over(datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC))
    assert known.is_over(datetime(2027, 2, 1, tzinfo=UTC))
    assert not read_tokens(Secret(make("other", ["read"])[1]))[0].is_over(datetime(2999, 1, 1, tzinfo=UTC))


def test_no_two_tokens_are_the_same() -> None:
    assert make("a", ["read"])[0] != make("a", ["read"])[0]


@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_includes_reading(scope: Scope) -> None:
    (known,) = read_tokens(Secret(make("one", [scope])[1]))
    assert known.scopes == {"read", scope}


def test_entries_are_separated_by_commas_or_lines_and_blanks_do_not_matter() -> None:
    text = f" a:read:{DIGEST} ,\n\nb:ops:{DIGEST.upper()}\r\n,c:read+trade+ops:{DIGEST}\n"
    assert [token.name for token in read_tokens(Secret(text))] == ["a", "b", "c"]
    assert read_tokens(Secret(" \n,")) == ()


@pytest.mark.parametrize(
    "entry",
    [
        "password123",
        f"a:{DIGEST}",
        f"a:read:{DIGEST[1:]}",
        f"a:read:{DIGEST}0",
        f"a:admin:{DIGEST}",
        f"a::{DIGEST}",
        f"a:read+:{DIGEST}",
        f"a b:read:{DIGEST}",
        f"a@b:read:{DIGEST}",
        f":read:{DIGEST}",
        f"a:read:{DIGEST}:tomorrow",
        f"a:read:{DIGEST}:2027-02-30",
    ],
)
def test_an_entry_that_does_not_read_is_named_by_its_place_and_not_repeated(entry: str) -> None:
    with pytest.raises(ConfigurationError, match=r"API_TOKENS, entry 2: .*name:scope\+scope:hash") as refused:
        read_tokens(Secret(f"good:read:{DIGEST},{entry}"))
    assert entry not in str(refused.value)
    assert DIGEST not in str(refused.value)


def test_two_tokens_of_one_name_could_not_be_told_apart() -> None:
    with pytest.raises(ConfigurationError, match="API_TOKENS, entry 3: it has the name of entry 1"):
        read_tokens(Secret(f"a:read:{DIGEST},b:read:{DIGEST},a:trade:{DIGEST}"))


@pytest.mark.parametrize("shown", ["", "ta_", "ta_one ", "TA_ONE", DIGEST, "ta_öne"])
def test_anything_but_the_token_itself_is_not_found(shown: str) -> None:
    known = read_tokens(Secret(f"a:read:{DIGEST}"))
    assert find(known, "ta_one") is known[0]
    assert find(known, shown) is None


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a@b", "a,b", "-a", "x" * 41, "a\n"])
def test_a_name_that_would_not_read_back_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot name a token"):
        make(name, ["read"])
