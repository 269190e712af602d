"""Tokens of callers from outside this machine: a name, what it may do, and the hash of the token, never the token.

An entry is `name:scope+scope:sha256hex`, with a date behind it (`:2027-01-31`) for one that ends; that day is its last.
`API_TOKENS` holds the entries that a deployment brings, separated by commas or new lines; those that were made for the
running system stand in the file of users, in the same form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Literal, cast, get_args

from msgspec import Struct

from app.errors import ConfigurationError, InputError
from app.secret import Secret

Scope = Literal["read", "trade", "ops"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "ta_"  # so that a token that leaked is known for one of ours
LENGTH = 32  # bytes of chance in a token
FORM = (
    "name:scope+scope:hash, with scopes of read, trade and ops, and the SHA-256 of the token in hex; a last day, such "
    "as :2027-01-31, may follow"
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
ENTRY = re.compile(
    rf"(?P<name>{NAME.pattern}):(?P<scopes>[a-z]+(\+[a-z]+)*):(?P<digest>[0-9a-fA-F]{{64}})"
    r"(:(?P<last>\d{4}-\d{2}-\d{2}))?"
)


class Token(Struct, frozen=True):
    """A token that is known here; `digest` is its SHA-256, `last` its last day. Who may trade or operate may read."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes
    last: date | None = None

    def is_over(self, now: datetime) -> bool:
        """Say whether its last day, in UTC, is past."""
        return self.last is not None and now.date() > self.last


def read_tokens(text: Secret) -> tuple[Token, ...]:
    """Read API_TOKENS. Raise ConfigurationError naming the place of an entry that does not read, never its content."""
    entries = [one.strip() for one in re.split(r"[,\n]", text.reveal()) if one.strip()]
    tokens = []
    for place, entry in enumerate(entries, start=1):
        token = read_entry(entry)
        if token is None:
            raise ConfigurationError(
                f"API_TOKENS, entry {place}: does not read as {FORM}; make a new one: tradectl token NAME --scope read"
            )
        tokens.append(token)
    names = [token.name for token in tokens]
    for place, name in enumerate(names, start=1):
        first = names.index(name) + 1
        if first < place:
            raise ConfigurationError(f"API_TOKENS, entry {place}: it has the name of entry {first}; rename one")
    return tuple(tokens)


def read_entry(entry: str) -> Token | None:
    """Read an entry, None for what is none."""
    found = ENTRY.fullmatch(entry)
    scopes = frozenset(found["scopes"].split("+")) if found else frozenset()
    if found is None or not scopes <= frozenset(SCOPES):
        return None
    try:
        last = date.fromisoformat(found["last"]) if found["last"] else None
    except ValueError:
        return None
    return Token(found["name"], cast(frozenset[Scope], scopes | {"read"}), bytes.fromhex(found["digest"]), last)


def find(tokens: Iterable[Token], shown: str) -> Token | None:
    """Return the token that was shown, None if it is none of them. It takes the same time whichever it is."""
    digest, found = sha256(shown.encode()).digest(), None
    for token in tokens:
        if compare_digest(token.digest, digest):
            found = token
    return found


def make(name: str, scopes: Sequence[Scope], last: date | None = None) -> tuple[str, str]:
    """Return a new token, and its entry. Raise InputError for a name that cannot be one."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a token; use up to 40 letters, digits, dots, dashes and underscores, as in laptop-2"
        )
    token = PREFIX + token_urlsafe(LENGTH)
    chosen = "+".join(scope for scope in SCOPES if scope in scopes)
    ending = f":{last.isoformat()}" if last else ""
    return token, f"{name}:{chosen}:{sha256(token.encode()).hexdigest()}{ending}"
