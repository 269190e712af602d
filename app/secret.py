"""A value that never shows: not in logs, errors, answers or representations. Only `reveal` hands it out."""

from __future__ import annotations


class Secret:
    """Holds a secret text. Printing or formatting it shows stars; comparing and hashing are left out on purpose."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself, for the one call that needs it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret('***')" if self._text else "Secret('')"

    __str__ = __repr__
