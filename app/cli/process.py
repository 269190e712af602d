"""How a process of ours begins: what it makes is kept from other users, what it logs holds no secret."""

from __future__ import annotations

import os
from pathlib import Path

from app import log
from app.config import Settings, secrets_of
from app.machine import on_appliance

NOT_FOR_OTHERS = 0o027  # taken from the permissions of what is made: an account is no business of other users


def begin(service: str, settings: Settings, kept: Path | None = None) -> None:
    """Take up a service: permissions and log, which is kept below `kept`, or where who started this process says."""
    keep_from_others()
    folder = kept / log.FOLDER if kept else log.kept_in()
    log.configure(service, settings.log_level, secrets_of(settings), folder)


def begin_change(service: str, settings: Settings) -> None:
    """Take up a command that changes who may come in: it says on the terminal what it did, and logs who did it.

    On the appliance that is in the journal (`journalctl -t trading-SERVICE`), on a laptop in the log that is kept.
    """
    keep_from_others()
    log.beside(service, None if on_appliance() else settings.directory / log.FOLDER)


def keep_from_others() -> None:
    """Take from other users what this process makes from now on."""
    os.umask(os.umask(0o077) | NOT_FOR_OTHERS)
