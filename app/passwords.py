"""Passwords: what one has to be, and Argon2id, so that whoever reads the file of users has none of them.

It costs 32 MiB and a tenth of a second on purpose. Two are tried at once and no more (see Desk in web/signing.py): a
flood of sign-ins takes neither the memory of the API nor the engine's processor.
"""

from __future__ import annotations

import unicodedata
from base64 import b64encode
from secrets import choice, token_bytes
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import InputError

SHORTEST, LONGEST = 12, 256  # characters
FEWEST_DIFFERENT = 5
AT_ONCE = 2
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is mistaken for another one

_hasher: Final = PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)


def hashed(password: str) -> str:
    """Return what is kept of a password."""
    return _hasher.hash(_plain(password))


def _of_nobody() -> str:
    """Return what fits no password, so that a name that nobody has takes as long as any other."""
    salt, kept = (b64encode(token_bytes(size)).decode().rstrip("=") for size in (_hasher.salt_len, _hasher.hash_len))
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${kept}"


NOBODYS: Final = _of_nobody()


def fits(kept: str | None, password: str) -> bool:
    """Say whether it is the password that was kept; it takes the same time where there is none to compare with."""
    try:
        _hasher.verify(kept or NOBODYS, _plain(password[: LONGEST + 1]))
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


def is_outdated(kept: str) -> bool:
    """Say whether it was made at less cost than today's."""
    return _hasher.check_needs_rehash(kept)


def refuse_weak(name: str, password: str) -> None:
    """Raise InputError for a password that is too easily guessed; it is never repeated."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputError(f"a password has {SHORTEST} to {LONGEST} characters; a few words in a row are easily kept")
    if len(set(password)) < FEWEST_DIFFERENT:
        raise InputError(f"a password has at least {FEWEST_DIFFERENT} different characters; take other ones")
    if name.lower() in password.lower() and len(password) - len(name) < SHORTEST // 2:
        raise InputError("this password is little more than the name; take another one")


def made_up() -> str:
    """Return a new password that nobody guesses, in groups that can be read out."""
    return "-".join("".join(choice(LETTERS) for _ in range(5)) for _ in range(4))


def _plain(password: str) -> bytes:
    """The same characters are the same password, however a keyboard composes them."""
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")
