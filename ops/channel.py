"""Whom to tell: the services of apprise.yml. The only place that knows Apprise.

A service hears what carries one of its tags (critical, warning, info, report). One that has none of these tags hears
everything, and what is critical is told to all if no service asks for it: rather once too often than to nobody.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, AppriseConfig, NotifyFormat, NotifyType
from apprise.plugins.base import NotifyBase
from msgspec import Struct
from yaml import YAMLError  # type: ignore[import-untyped]

from ops.errors import OpsError
from ops.memory import Message
from ops.outside import within

TAGS = frozenset({"critical", "warning", "info", "report"})
SHORTEST = 4  # what is shorter is no secret
LONGEST = 30.0  # seconds that one service has to take one message


class Receiver(Struct, frozen=True):
    """A service. `id` stays the same as long as its address does, `shown` is the address without its secrets."""

    id: str
    shown: str
    tags: frozenset[str]
    service: NotifyBase


class _Ear(logging.Handler):
    """Hears what Apprise complains of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


class Channel:
    """The services, as the file names them now. `fault` says what is wrong with the file, empty if nothing is."""

    def __init__(self, receivers: list[Receiver], fault: str = "") -> None:
        self.all = receivers
        self.fault = fault

    @property
    def nobody(self) -> bool:
        """Whether nobody is to be told: a choice, not a fault."""
        return not self.all and not self.fault

    def receivers(self, tags: Iterable[str]) -> list[Receiver]:
        wanted = set(tags)
        chosen = [one for one in self.all if one.tags & wanted or not one.tags]
        return chosen or (self.all if "critical" in wanted else [])

    def send(self, receiver: Receiver, message: Message) -> str:
        """Send a message to one service; return why it was not taken, or nothing."""
        ear = _Ear()
        logger = logging.getLogger("apprise")
        logger.addHandler(ear)
        try:
            fault = within(LONGEST, receiver.shown, lambda: _notify(receiver.service, message, ear))
        except OpsError as late:
            fault = f"{type(late).__name__}: {late}"
        finally:
            logger.removeHandler(ear)
        return bare(fault, receiver)[:300]


def open_channel(path: Path) -> Channel:
    """Read whom to tell. A file that is absent or empty means nobody; one that cannot be used is a fault."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return Channel([])
    except (OSError, UnicodeDecodeError) as fault:
        return Channel([], f"{path} cannot be read ({fault})")
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        return Channel([])
    ear = _Ear()
    logger = logging.getLogger("apprise")
    logger.addHandler(ear)
    try:
        services = _services(path)
    finally:
        logger.removeHandler(ear)
    receivers = _receivers(services)
    # What Apprise said of it may hold a password, so it is not told.
    told = f"{path} names no service that can be used; which and why: apprise --dry-run -vv --config {path} --body test"
    return Channel(receivers, "" if receivers else told)


def bare(text: str, receiver: Receiver) -> str:
    """Return a text about a service without the parts of its address that are not shown either."""
    address = str(receiver.service.url(privacy=False))  # type: ignore[no-untyped-call]
    parts = {part for one in (address, unquote(address)) for part in re.split(r"[/:@?&=+,\s]+", one)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= SHORTEST and part not in receiver.shown:
            text = text.replace(part, "***")
    return text


def _services(path: Path) -> list[NotifyBase]:
    asset = AppriseAsset(async_mode=False, app_id="Trading", app_desc="Trading appliance", app_url="")
    try:
        return [*AppriseConfig(paths=str(path), asset=asset).services()]
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as fault:  # the reader lets them through
        raise OpsError(f"{path} cannot be used ({type(fault).__name__}: {fault})") from fault


def _receivers(services: Iterable[NotifyBase]) -> list[Receiver]:
    found: list[Receiver] = []
    for service in services:
        shown = str(service.url(privacy=True))  # type: ignore[no-untyped-call]
        same = sum(one.shown == shown for one in found)
        name = hashlib.sha256(f"{shown} {same}".encode()).hexdigest()[:16]
        tags = frozenset(str(tag) for tag in service.tags) & TAGS
        found.append(Receiver(name, shown, tags, service))
    return found


def _notify(service: NotifyBase, message: Message, ear: _Ear) -> str:
    """Have a service told; return why it did not take it, or nothing."""
    one = Apprise(asset=service.asset)
    one.add(service)
    kind = NotifyType(message.kind)
    try:
        taken = one.notify(message.body, title=message.title, notify_type=kind, body_format=NotifyFormat.TEXT)
    except Exception as fault:  # the wall around one alert
        return f"{type(fault).__name__}: {fault}"
    return "" if taken else "; ".join(ear.said) or "it was not taken"
