"""How a process of ours begins: what it makes is kept from other users, what it logs holds no secret."""

from __future__ import annotations

import os

from app import log
from app.config import Settings, secrets_of

NOT_FOR_OTHERS = 0o027  # taken from the permissions of what is made: an account is no business of other users


def begin(service: str, settings: Settings) -> None:
    """Take up a service: permissions and log."""
    keep_from_others()
    log.configure(service, settings.log_level, secrets_of(settings))


def keep_from_others() -> None:
    """Take from other users what this process makes from now on."""
    os.umask(os.umask(0o077) | NOT_FOR_OTHERS)
