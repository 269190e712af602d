"""Reads of a certificate what the watcher judges: number, times, and whether it was signed by itself.

A certificate is DER: values of the form tag, length, content. Only the few that are needed are looked at, in the order
that RFC 5280 (4.1) gives them. No signature is checked: whether browsers trust it is not asked here.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from ops.errors import OpsError

SEQUENCE, INTEGER, UTC_TIME, GENERAL_TIME, VERSION = 0x30, 0x02, 0x17, 0x18, 0xA0
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Certificate(Struct, frozen=True):
    """A certificate; `serial` is in upper case hex, as openssl writes it."""

    serial: str
    opens: datetime
    closes: datetime
    self_signed: bool

    def left(self, now: datetime) -> float:
        """Return what is left of its lifetime as a fraction; below 0 it is over."""
        return (self.closes - now) / max(self.closes - self.opens, timedelta(seconds=1))


def parse_pem(text: str) -> Certificate:
    """Read the first certificate of a PEM file. Raise OpsError if there is none."""
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise OpsError("there is no certificate in it")
    try:
        return parse_der(ssl.PEM_cert_to_DER_cert(text[begin : end + len(END)]))
    except ValueError as fault:
        raise OpsError(f"its certificate cannot be read ({fault})") from fault


def parse_der(data: bytes) -> Certificate:
    """Read a certificate. Raise OpsError if it is none."""
    try:
        return _certificate(data)
    except (IndexError, ValueError, OverflowError) as fault:
        raise OpsError(f"this is no certificate ({fault})") from fault


def _certificate(data: bytes) -> Certificate:
    whole = _content(data, SEQUENCE)
    fields = list(_values(_content(whole, SEQUENCE)))
    if fields[0][0] == VERSION:
        fields = fields[1:]
    (tag, serial), _, (_, issuer), (_, validity), (_, subject) = fields[:5]
    if tag != INTEGER or not serial:
        raise ValueError("it has no serial number")
    opens, closes = (_time(kind, text) for kind, text in list(_values(validity))[:2])
    number = f"{int.from_bytes(serial, 'big'):X}"
    return Certificate(number.zfill(len(number) + len(number) % 2), opens, closes, issuer == subject)


def _content(data: bytes, wanted: int) -> bytes:
    tag, content = next(_values(data))
    if tag != wanted:
        raise ValueError(f"a value has the tag {tag:#x} instead of {wanted:#x}")
    return content


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the values that stand one after the other: their tags and contents."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("it is cut off")
        yield tag, data[at : at + length]
        at += length
    if not data:
        raise ValueError("it is empty")


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == UTC_TIME:  # two digits of the year; 50 and above are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERAL_TIME:
        raise ValueError(f"a time has the tag {tag:#x}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
