"""Log lines for the person who reads them: one readable line on a terminal, native fields in the journal.

`get_logger().info("order filled", symbol="AAPL", …)`: the first word is the EVENT, the rest are fields. Secrets cannot
be printed (`Secret`), and the text of any secret handed to `configure` is starred out wherever it turns up.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, cast

import structlog

from app.secret import Secret

JOURNAL_SOCKET = "/run/systemd/journal/socket"
LOG_FOLDER = "TRADING_LOG_FOLDER"  # in the environment of a process: where it keeps what it logs besides
FOLDER = "log"  # below the account, where no journal keeps what is logged
MOST = 5 << 20  # bytes of a kept log; it and the one before it are kept for each service
MOMENT = 0.05  # seconds that a line may wait for a journal that is busy
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
Fields = MutableMapping[str, Any]


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; `configure` decides where its lines go."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger())


def configure(service: str, level: str = "info", secrets: Iterable[Secret] = (), folder: Path | None = None) -> None:
    """Send the lines of this process to the journal if systemd started it, else to standard error.

    With a folder they are kept there besides, a JSON object each, in a file that does not grow without end.
    """
    journal = _journal()
    output = Journal(journal, service) if _under_systemd() and Path(journal).exists() else Terminal(service)
    kept = [Kept(folder, service).send] if folder else []
    _configure(level, secrets, *kept, output.send)


def beside(service: str, folder: Path | None) -> None:
    """Send the lines of a command past the terminal on which somebody reads its answer.

    They are kept in a folder if one is given, else they go to the journal.
    """
    _configure("info", (), Kept(folder, service).send if folder else Journal(_journal(), service).send)


def _journal() -> str:
    return os.environ.get("JOURNAL_SOCKET", JOURNAL_SOCKET)


def _configure(level: str, secrets: Iterable[Secret], *outputs: structlog.typing.Processor) -> None:
    hidden = [secret.reveal() for secret in secrets if secret]

    def redact(_: Any, __: str, fields: Fields) -> Fields:
        return {key: value if key == "level" else starred(value, hidden) for key, value in fields.items()}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            redact,
            *outputs,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


def kept_in() -> Path | None:
    """Return where whoever started this process wants its log kept besides, None for nowhere."""
    told = os.environ.get(LOG_FOLDER)
    return Path(told) if told else None


def _under_systemd() -> bool:
    """Say whether standard error is the journal: a shell under systemd inherits the variable, but has a terminal."""
    try:
        stream = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def veil(secrets: Iterable[Secret]) -> Callable[[str], str]:
    """Return what stars these secrets out of a text, for who shows what others logged."""
    hidden = [secret.reveal() for secret in secrets if secret]
    return lambda text: str(starred(text, hidden))


def starred(value: Any, hidden: Iterable[str]) -> Any:
    """Return the value with every secret text in it replaced by stars."""
    if isinstance(value, dict):
        return {starred(key, hidden): starred(inner, hidden) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [starred(inner, hidden) for inner in value]
    if isinstance(value, int | float | None):
        return value
    text = str(value)
    for secret in hidden:
        text = text.replace(secret, "***")
    return text


class Terminal:
    """One line per event: time, level if it matters, event, then what belongs to it."""

    def __init__(self, service: str) -> None:
        self._service = service

    def send(self, _: Any, __: str, fields: Fields) -> str:
        level, event = fields.pop("level"), fields.pop("event")
        trouble = fields.pop("exception", "")
        mark = "" if level in ("info", "debug") else f"{level.upper()} "
        rest = " ".join(f"{key}={_plain(value)}" for key, value in fields.items() if value not in (None, ""))
        now = datetime.now(UTC).strftime("%H:%M:%S")
        line = f"{now}Z {self._service:<7}{mark}{event}" + (f"  {rest}" if rest else "")
        _print(f"{line}\n{trouble}" if trouble else line)
        return line


class Journal:
    """Each field a journal field of its own (systemd.journal-fields(7), native protocol).

    A journal that hangs is waited for once, for a moment; then lines are lost, and counted for the next one that gets
    through. Trading does not wait for it, and what is printed instead would go to the same journal.
    """

    def __init__(self, path: str, service: str) -> None:
        self._path, self._service = path, service
        self._lost = 0
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def send(self, _: Any, __: str, fields: Fields) -> str:
        level, event = fields.pop("level"), fields.pop("event")
        rest = " ".join(f"{key}={_plain(value)}" for key, value in fields.items() if key != "exception")
        lost = f" ({self._lost} lines before this one were lost: the journal did not take them)" if self._lost else ""
        record = {
            **{key.upper(): value for key, value in fields.items() if value is not None},
            "MESSAGE": f"{event} {rest}".strip() + lost,
            "PRIORITY": PRIORITIES[level],
            "SYSLOG_IDENTIFIER": f"trading-{self._service}",
            "EVENT": event,
        }
        try:
            self._hand_over(b"".join(_field(key, value) for key, value in record.items()))
        except OSError as fault:  # a journal that is restarting must not stop trading
            _print(f"{record['MESSAGE']} (journal: {fault})")
        return str(record["MESSAGE"])

    def _hand_over(self, data: bytes) -> None:
        until = monotonic() + (0 if self._lost else MOMENT)
        while True:
            try:
                self._channel.sendto(data, socket.MSG_DONTWAIT, self._path)
            except BlockingIOError:
                if monotonic() >= until:
                    self._lost += 1
                    return
                sleep(0.001)
            else:
                self._lost = 0
                return


class Kept:
    """Lines in a file, JSON each, that several processes may append to; a full one becomes the one before it."""

    def __init__(self, folder: Path, service: str, most: int = MOST) -> None:
        self._path, self._service, self._most = folder / f"{service}.jsonl", service, most
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)

    def send(self, _: Any, __: str, fields: Fields) -> Fields:
        """Keep a line and hand it on; what cannot be kept is on standard error all the same."""
        rest = " ".join(f"{key}={_plain(value)}" for key, value in fields.items() if key not in _APART)
        line = {
            **{key: value if isinstance(value, int | float) else str(value) for key, value in fields.items()},
            "at": datetime.now(UTC).isoformat(),
            "unit": f"trading-{self._service}",
            "message": f"{fields['event']} {rest}".strip(),
        }
        with suppress(OSError):
            self._append(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")
        return fields

    def _append(self, data: bytes) -> None:
        """Write a line whole. Whoever finds the file full puts it aside, if nobody else has meanwhile."""
        with self._path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            ours = os.fstat(file.fileno())
            if ours.st_size + len(data) > self._most and ours.st_ino == self._path.stat().st_ino:
                self._path.replace(self._path.with_suffix(".before.jsonl"))
                with self._path.open("ab", buffering=0) as anew:
                    anew.write(data)
                return
            file.write(data)


_APART = ("level", "event", "exception")


def _print(line: str) -> None:
    with suppress(OSError):  # nobody reads it any more: no reason to stop trading
        print(line, file=sys.stderr, flush=True)


def _field(key: str, value: Any) -> bytes:
    name, data = key.encode(), str(value).encode(errors="replace")
    if b"\n" not in data:
        return name + b"=" + data + b"\n"
    return name + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def _plain(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if text.isprintable() and " " not in text else repr(text)
