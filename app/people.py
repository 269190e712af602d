"""Who may sign in, and the tokens that were made here: one small file beside the ledger, read anew when it changes.

It is no SQLite, since it has to be whole in any copy of it: a change puts a new file in place of the old one. As every
`*.json` of the account it belongs to its backups; the sessions do not (see signed_in.py). It holds hashes alone. Both
`tradectl` and the web process write it, as the one user whose directory it is; who changes it holds the lock of the
sessions' book meanwhile.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec
from msgspec import Struct

from app.errors import InputError, StoreDamaged, StoreError, StoreFull, StoreNewer
from app.marker import replace_file
from app.tokens import NAME, SCOPES, Scope, Token, read_entry

FILE_NAME: Final = "users.json"
VERSION: Final = 1


class User(Struct, frozen=True):
    """Somebody who may sign in. `stamp` changes with the password: sessions of another stamp are over."""

    name: str
    roles: tuple[Scope, ...]
    password: str
    stamp: str
    made: datetime

    @property
    def allowed(self) -> frozenset[str]:
        """What it may do: who may trade or operate may read."""
        return frozenset({"read", *self.roles})


class Register(Struct, frozen=True):
    """All users, and the entries of all tokens that were made here."""

    version: int = VERSION
    users: tuple[User, ...] = ()
    tokens: tuple[str, ...] = ()

    def user(self, name: str) -> User | None:
        """Return who has a name, in whatever case it is typed."""
        return next((one for one in self.users if one.name.lower() == name.lower()), None)

    def known(self, name: str) -> User:
        """Return who has a name. Raise InputError if nobody has."""
        found = self.user(name)
        if found is None:
            raise InputError(f"there is no user {name!r}; see tradectl user list")
        return found

    def with_user(self, user: User) -> Register:
        """Return the register with a user, in place of the one of that name."""
        others = [one for one in self.users if one.name.lower() != user.name.lower()]
        users = sorted([*others, user], key=lambda one: one.name.lower())
        return msgspec.structs.replace(self, users=tuple(users))

    def without_user(self, name: str) -> Register:
        gone = self.known(name)
        return msgspec.structs.replace(self, users=tuple(one for one in self.users if one is not gone))

    def with_token(self, entry: str) -> Register:
        """Return the register with a token. Raise InputError if one has its name."""
        name = entry.partition(":")[0]
        if any(one.partition(":")[0] == name for one in self.tokens):
            raise InputError(f"there is a token {name} already; revoke it first, or take another name")
        return msgspec.structs.replace(self, tokens=(*self.tokens, entry))

    def without_token(self, name: str) -> Register:
        """Return the register without a token. Raise InputError if none has that name."""
        left = tuple(one for one in self.tokens if one.partition(":")[0] != name)
        if len(left) == len(self.tokens):
            raise InputError(f"no token {name!r} was made here; those of API_TOKENS are revoked in that setting")
        return msgspec.structs.replace(self, tokens=left)


class People:
    """The register in a directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._seen: tuple[int, int, int] | None = None
        self._register = Register()
        self._tokens: tuple[Token, ...] = ()

    def read(self) -> Register:
        """Return the register as it stands. Raise StoreDamaged or StoreNewer if it does not read, StoreError if it
        cannot be opened.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._register, self._tokens = None, Register(), ()
            return self._register
        except OSError as fault:
            raise out_of_reach(self.path, fault) from fault
        seen = (found.st_mtime_ns, found.st_ino, found.st_size)
        if seen != self._seen:
            register = self._load()
            self._tokens = tuple(token for one in register.tokens if (token := read_entry(one)))
            self._register, self._seen = register, seen
        return self._register

    def tokens(self) -> tuple[Token, ...]:
        """Return the tokens that were made here."""
        self.read()
        return self._tokens

    def write(self, register: Register) -> None:
        """Put another register in place, durable when this returns. Raise StoreError and leave the old one."""
        try:
            replace_file(self.path, msgspec.json.format(_encoder.encode(register), indent=1).decode() + "\n")
        except OSError as fault:
            raise out_of_reach(self.path, fault) from fault

    def _load(self) -> Register:
        try:
            register = _register.decode(self.path.read_bytes())
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            raise StoreDamaged(
                f"{self.path} does not read ({fault}); restore it from a backup, or remove it"
            ) from fault
        except OSError as fault:
            raise out_of_reach(self.path, fault) from fault
        if register.version > VERSION:
            raise StoreNewer(f"{self.path} was written by a later release; start that one")
        return register


def out_of_reach(path: Path, fault: OSError) -> StoreError:
    """Say that a file can be neither read nor replaced, and how to mend it."""
    if fault.errno == errno.ENOSPC:
        return StoreFull(f"{path}: {fault.strerror}; free some space")
    return StoreError(
        f"{path}: {fault.strerror}; it has to be a file, on a disk that may be written, of the user whose directory it "
        f"is: sudo chown --reference={path.parent} {path}"
    )


def new_user(name: str, roles: Sequence[Scope], password: str, now: datetime) -> User:
    """Return a user with a new stamp; `password` is its hash. Raise InputError for a name that cannot be one."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a user; use up to 40 letters, digits, dots, dashes and underscores, as in anna"
        )
    return User(name, tuple(scope for scope in SCOPES if scope in {"read", *roles}), password, token_hex(8), now)


_encoder: Final = msgspec.json.Encoder()
_register: Final = msgspec.json.Decoder(Register)
