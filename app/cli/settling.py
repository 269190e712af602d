"""The settings as a start would take them, and shown so that no secret is."""

from __future__ import annotations

import os
from pathlib import Path

from app import config, live
from app.clock import LiveClock
from app.config import CREDENTIALS, FIELDS, SECRETS, Settings, place_of, public_settings
from app.errors import ConfigurationError
from app.feed.providers import fitting_setup
from app.machine import on_appliance
from app.tokens import Token, read_tokens

UNSEEN = "not seen by this user: sudo tradectl doctor settings"


def refuse_unusable(chosen: Settings) -> None:
    """Raise ConfigurationError for what reads well, but no engine or API would start with."""
    live.refuse_real_money(chosen)
    live.desks(chosen, chosen.symbols)
    if not chosen.simulated:
        fitting_setup(chosen, chosen.symbols, LiveClock())
    read_tokens(chosen.api_tokens)


def shown_settings(chosen: Settings) -> dict[str, str]:
    """Return all settings as text: of a secret only whether it is set, of an address only where it leads."""
    public = public_settings(chosen)
    unset = "not set" if not on_appliance() or os.environ.get(CREDENTIALS) else UNSEEN
    secrets = {name: "set" if getattr(chosen, FIELDS[name]) else unset for name in SECRETS}
    tokens = ", ".join(_described(token) for token in read_tokens(chosen.api_tokens))
    known = {**public, **secrets, "MARKET_DATA": "simulated" if chosen.simulated else "live"}
    if tokens:
        known["API_TOKENS"] = tokens
    return {key: known[key] if key in known else place_of(getattr(chosen, field)) for key, field in FIELDS.items()}


def read_settings(file: Path | None) -> Settings:
    if file is None:
        return config.load()
    if not file.exists():
        raise ConfigurationError(f"{file} does not exist; name a file of KEY=value lines")
    return config.load({name: value for name, value in os.environ.items() if name == CREDENTIALS}, file)


def _described(token: Token) -> str:
    return f"{token.name} ({'+'.join(sorted(token.scopes))})"
