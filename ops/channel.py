"""Whom to tell: the services of apprise.yml. The only place that knows Apprise.

A service hears what carries one of its tags (critical, warning, info, report, escalation). One that has none of these
tags hears everything but escalations, of which it was told before; and what is critical is told to all if no service
asks for it: rather once too often than to nobody.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, AppriseConfig, NotifyFormat, NotifyType, OverflowMode
from apprise.manager_plugins import NotificationManager
from apprise.plugins import base
from apprise.plugins.base import NotifyBase
from msgspec import Struct
from yaml import YAMLError  # type: ignore[import-untyped]

from ops.errors import OpsError
from ops.memory import Message
from ops.outside import here, within

TAGS = frozenset({"critical", "warning", "info", "report", "escalation"})
SHORTEST = 4  # what is shorter is no secret
OPEN = frozenset(("urls", "version", "tags", "groups", "include")) | TAGS  # words of the file that are none either
SCHEME = re.compile(r"([\w+-]+)://")
PLUGINS = Path(base.__file__).parent  # of Apprise, each a module or a package
BETWEEN = re.compile(r"[/:@?&=+,;#%{}\[\]()'\"<>|\s]+")
OPAQUE = re.compile(r"\b(?=\w*\d)[\w-]{12,}\b")  # a token that Apprise has cut out of its address or changed
LONGEST_COMPLAINT = 600  # characters
MAIL = frozenset(  # schemes of Apprise that are mail, and so take a page
    ("mailto", "mailtos", "mailgun", "sendgrid", "ses", "azure", "o365", "postmark", "resend", "sparkpost", "smtp2go")
)
# Mail programs show no picture that is written into the page itself: it goes beside it, or is left to the attachment.
DRAWN = re.compile(r'src="data:image/png;base64,[^"]*"')
INSIDE = re.compile(r'<img [^>]*src="data:[^>]*>')
HOOKS = frozenset(("json", "jsons", "xml", "xmls", "form", "forms"))  # schemes whose path may be the secret
PLAIN = frozenset(  # what Apprise adds to every address
    ("method", "post", "format", "text", "html", "markdown", "overflow", "upstream", "split", "truncate", "retry",
     "wait", "optional", "verify", "timeout", "priority", "default", "mode", "private", "image", "auth", "basic")
)  # fmt: skip
INCLUDE = re.compile(r"^\s*['\"]?include['\"]?\s*[:=\s]", re.MULTILINE | re.IGNORECASE)  # of YAML and of plain text
LONGEST = 30.0  # seconds that one service has to take one message
ANSWER = 25.0  # of these, to answer; Apprise waits for 4 s, and a slow service that took it would be told again


class Receiver(Struct, frozen=True):
    """A service. `id` stays the same as long as its address does, `name` is all of it that anybody may read.

    `strange` are its tags that nothing is ever sent to.
    """

    id: str
    name: str
    tags: frozenset[str]
    service: NotifyBase
    strange: tuple[str, ...] = ()


class _Ear(logging.Handler):
    """Hears what Apprise complains of on the thread that made it: others send at the same time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._thread = here()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.said.append(record.getMessage())


class Channel:
    """The services, as the file names them now.

    `fault` says why the file names nobody who can be told, `left_out` which of its entries cannot be used while others
    can; both are empty if nothing is wrong.
    """

    def __init__(self, receivers: list[Receiver], fault: str = "", left_out: str = "") -> None:
        self.all = receivers
        self.fault = fault
        self.left_out = left_out

    @property
    def nobody(self) -> bool:
        """Whether nobody is to be told: a choice, not a fault."""
        return not self.all and not self.fault

    def receivers(self, tags: Iterable[str]) -> list[Receiver]:
        """Return who hears of it: where nobody is named for something bad, or who was is left out, everybody."""
        wanted = set(tags)
        everything = wanted != {"escalation"}
        chosen = [one for one in self.all if one.tags & wanted or (everything and not one.tags)]
        everybody = "critical" in wanted or ("warning" in wanted and self.left_out)
        return chosen or (self.all if everybody else [])

    def send(self, receiver: Receiver, message: Message) -> str:
        """Send a message to one service; return why it was not taken, or nothing."""
        try:
            fault = within(LONGEST, receiver.name, lambda: _notify(receiver.service, message))
        except OpsError as late:
            fault = f"{type(late).__name__}: {late}"
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
        _load({found.lower() for found in SCHEME.findall(text)})
        services = _services(path)
        if ear.said:  # perhaps of a plug-in that is needed after all: it is asked again with all that it has
            ear.said.clear()
            _load_all()
            services = _services(path)
    finally:
        logger.removeHandler(ear)
    receivers = _receivers(services)
    said = without(dict.fromkeys(ear.said), text)
    if not receivers:
        return Channel([], f"{path} names no service that can be used{f': {said}' if said else ''}")
    faults = [f"{path} names a service that cannot be used: {said}"] if said else []
    if INCLUDE.search(text):
        faults.append(f"{path} includes another file, which is not read; name its services here")
    return Channel(
        receivers, left_out="; ".join([*faults, *(_misspelt(path, one) for one in receivers if one.strange)])
    )


def _misspelt(path: Path, receiver: Receiver) -> str:
    """Say that a tag is none of ours: the service would not hear what it is meant to."""
    meant = [found for one in receiver.strange for found in get_close_matches(one.lower(), TAGS, 1)]
    tags = f"; did you mean {', '.join(meant)}?" if meant else f", which are {', '.join(sorted(TAGS))}"
    return f"{path} gives {receiver.name} {len(receiver.strange)} tag(s) that are none of ours{tags}"


def without(said: Iterable[str], secret: str) -> str:
    """Return what Apprise said of a file without any word of it but what names the kind of a service.

    Apprise shows the address that it cannot use, so everything that stands in the file is taken for a part of one.
    """
    schemes = {found.lower() for found in SCHEME.findall(secret)}
    parts = {part for one in (secret, unquote(secret)) for part in BETWEEN.split(one)}
    hidden = sorted((part for part in parts if len(part) >= SHORTEST), key=len, reverse=True)
    text = "; ".join(re.sub(r"://\S+", "://***", one) for one in said)
    for part in hidden:
        if part.lower() not in schemes | OPEN:
            text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return OPAQUE.sub("***", text)[:LONGEST_COMPLAINT]


def bare(text: str, receiver: Receiver) -> str:
    """Return a text about a service without the parts of its address that are not shown either."""
    address = str(receiver.service.url(privacy=False))  # type: ignore[no-untyped-call]
    parts = {part for one in (address, unquote(address)) for part in re.split(r"[/:@?&=+,\s]+", one)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= SHORTEST and part not in receiver.name and part.lower() not in PLAIN:
            text = text.replace(part, "***")
    return text


def plugins(schemes: Iterable[str]) -> list[str]:
    """Return the plug-ins of Apprise whose source names one of some schemes, and perhaps a few more."""
    words = [f'"{scheme}"'.encode() for scheme in schemes]
    found = set()
    for path in PLUGINS.rglob("*.py"):
        source = path.read_bytes()
        if any(word in source for word in words):
            found.add(path.relative_to(PLUGINS).parts[0].removesuffix(".py"))
    return sorted(found)


def _load(schemes: Iterable[str]) -> None:
    """Have Apprise load the plug-ins that are meant: all of them, as it does by itself, take 25 MB and 0.25 s.

    It loads what it finds named in a directory. Where none can be written it loads all.
    """
    _load_all()
    with suppress(OSError), TemporaryDirectory() as directory:
        for name in plugins(schemes):
            Path(directory, f"{name}.py").touch()
        manager = NotificationManager()  # type: ignore[no-untyped-call]
        manager.load_modules(path=directory, name=manager.module_name_prefix)  # type: ignore[no-untyped-call]


def _load_all() -> None:
    """Have Apprise forget what it has loaded: it loads all once it is asked."""
    NotificationManager().unload_modules()  # type: ignore[no-untyped-call]


def _services(path: Path) -> list[NotifyBase]:
    # No time limit of Apprise's own: its threads would keep the process from ending, ours do not.
    names = {"app_id": "Trading", "app_desc": "Trading appliance", "app_url": ""}
    asset = AppriseAsset(async_mode=False, service_timeout=0, **names)  # type: ignore[arg-type]
    try:
        services = [*AppriseConfig(paths=str(path), asset=asset).services()]
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as fault:  # the reader lets them through
        raise OpsError(f"{path} cannot be used ({type(fault).__name__}: {fault})") from fault
    for service in services:
        service.socket_read_timeout = max(service.socket_read_timeout, ANSWER)
    return services


def _receivers(services: Iterable[NotifyBase]) -> list[Receiver]:
    found: dict[str, Receiver] = {}
    for service in services:
        shown = str(service.url(privacy=True))  # type: ignore[no-untyped-call]
        if service.overflow_mode is OverflowMode.UPSTREAM:  # nobody chose: many refuse what is too long for them
            service.overflow_mode = OverflowMode.SPLIT  # after the address was read, which says so too
        same = 0
        while (name := hashlib.sha256(f"{shown} {same}".encode()).hexdigest()[:16]) in found:
            same += 1
        tags = frozenset(str(tag) for tag in service.tags)
        found[name] = Receiver(name, _name(shown), tags & TAGS, service, tuple(sorted(tags - TAGS)))
    return list(found.values())


def _name(shown: str) -> str:
    """Return what may be read of an address that Apprise shows: of what it does not know how to hide, the host."""
    scheme, _, rest = shown.partition("?")[0].partition("://")
    if scheme in HOOKS:
        rest = rest.partition("/")[0].rpartition("@")[2]
    return f"{scheme}://{rest}"


def _notify(service: NotifyBase, message: Message) -> str:
    """Have Apprise send a message; return what it complains of if it was not taken."""
    ear = _Ear()
    logger = logging.getLogger("apprise")
    logger.addHandler(ear)
    try:
        taken = _taken(service, message)
    except Exception as fault:  # the wall around one alert
        return f"{type(fault).__name__}: {fault}"
    finally:
        logger.removeHandler(ear)
    return "" if taken else "; ".join(ear.said) or "it was not taken"


def _taken(service: NotifyBase, message: Message) -> bool:
    one = Apprise(asset=service.asset)
    one.add(service)
    kind, page = NotifyType(message.kind), _page(service, message)
    if page is None:
        return bool(one.notify(message.body, title=message.title, notify_type=kind, body_format=NotifyFormat.TEXT))
    drawn = Path(message.page).with_suffix(".png")
    attached = [str(drawn)] if drawn.exists() else None
    if attached and hasattr(service, "inline"):  # the picture goes beside the page, which has it in its place
        service.inline = True
        page = DRAWN.sub(f'src="cid:{drawn.name}"', page)
    page = INSIDE.sub("", page)
    form = NotifyFormat.HTML
    return bool(one.notify(page, title=message.title, notify_type=kind, body_format=form, attach=attached))


def _page(service: NotifyBase, message: Message) -> str | None:
    """Return the page of a message, None for a service that shows none, and where its file is gone."""
    scheme = str(service.url(privacy=True)).partition(":")[0]  # type: ignore[no-untyped-call]
    if not message.page or scheme not in MAIL or service.resolve_format(NotifyFormat.HTML) is not NotifyFormat.HTML:
        return None
    try:
        return Path(message.page).read_text()
    except OSError:
        return None
