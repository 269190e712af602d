"""The certificate on the wire: is it the one on disk, is it trusted under its name, for how long, was it renewed well?

Tools say "renewed" while a server goes on serving the old one, and certbot succeeds when its hook fails. So the wire is
asked, and the hook's own verdict is read. It is asked twice: what nobody trusts has to be looked at all the same.
"""

from __future__ import annotations

import socket
import ssl
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ops import moment, x509
from ops.check import Context, Finding, Outcome, Status, Value, below
from ops.checks import services
from ops.config import Settings
from ops.errors import OpsError
from ops.x509 import Certificate

SECONDS = 5.0


class Verdict(Struct, frozen=True):
    """What the hook of the renewal says that came of it."""

    at: datetime
    ok: bool
    what: str = ""
    serial: str = ""


def is_served(settings: Settings) -> bool:
    """Say whether this machine serves HTTPS: with a name, or with a certificate of its own. A laptop does not."""
    return bool(settings.ops_tls_name) or services.deployed(settings)


def served(context: Context) -> Outcome:
    """Is the right certificate served, and for how long yet?"""
    settings = context.settings
    try:
        wire = on_the_wire(settings.ops_tls_address, settings.ops_tls_name)
    except (OSError, OpsError) as fault:
        text = f"no certificate is served at {settings.ops_tls_address}: {fault}"
        return Outcome([Finding("wire", Status.CRITICAL, text)], text)
    findings = judge_time(wire, context.now, settings)
    findings += [_compare(wire, Path(settings.ops_tls_file)), _renewal(wire, Path(settings.ops_tls_verdict))]
    if not wire.self_signed and wire.opens <= context.now < wire.closes:  # else that is what nobody trusts it for
        findings.append(judge_trust(settings))
    values: dict[str, Value] = {
        "serial": wire.serial,
        "not_after": moment.iso(wire.closes),
        "left": round(wire.left(context.now), 4),
        "self_signed": wire.self_signed,
    }
    limits = {"warn": settings.ops_tls_warn, "critical": settings.ops_tls_critical}
    return Outcome(findings, _left(wire, context.now), values, limits)


def on_the_wire(address: str, name: str) -> Certificate:
    """Return the certificate that a server shows for a name. Raise OSError if it shows none."""
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE  # it is looked at, not trusted
    return x509.parse_der(_shown(address, name, plain))


def _shown(address: str, name: str, secure: ssl.SSLContext) -> bytes:
    """Shake hands and return the certificate that is shown. Raise OSError, of which SSLCertVerificationError is one."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host.strip("[]"), int(port)), SECONDS) as channel,
        secure.wrap_socket(channel, server_hostname=name or None) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def judge_trust(settings: Settings) -> Finding:
    """Judge whether somebody from outside would trust it: its chain, and under the name that is served, if there is."""
    address, name = settings.ops_tls_address, settings.ops_tls_name
    try:
        secure = _trusting(settings)
    except OSError as fault:
        text = f"the authorities of OPS_TLS_AUTHORITY={settings.ops_tls_authority} cannot be read: {fault}"
        return Finding("trust", Status.UNKNOWN, f"{text}; whether the certificate is trusted is not known")
    try:
        _shown(address, name, secure)
    except ssl.SSLCertVerificationError as fault:
        under = f" as {name}" if name else ""
        text = f"nobody from outside trusts the certificate{under}: {fault.verify_message}"
        who = f" -servername {name}" if name else ""
        look = f"openssl s_client -connect {address}{who} -showcerts </dev/null"
        return Finding("trust", Status.CRITICAL, f"{text}; see what is served: {look}")
    except OSError as fault:
        return Finding("trust", Status.UNKNOWN, f"whether the certificate is trusted cannot be told: {fault}")
    return Finding("trust", Status.OK, "")


def _trusting(settings: Settings) -> ssl.SSLContext:
    """Return what trusts the authorities that clients trust. Raise OSError if those of the setting cannot be read."""
    secure = ssl.create_default_context()
    secure.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the form of a house's own authority is not what is asked
    secure.check_hostname = bool(settings.ops_tls_name)
    if settings.ops_tls_authority:
        secure.load_verify_locations(settings.ops_tls_authority)
    return secure


def judge_time(wire: Certificate, now: datetime, settings: Settings) -> list[Finding]:
    """Judge what is left of the lifetime, and who signed it."""
    text, left = _left(wire, now), wire.left(now)
    limits = f"warned of below {settings.ops_tls_warn:.0%}, critical below {settings.ops_tls_critical:.0%}"
    findings = [Finding("lifetime", below(left, settings.ops_tls_warn, settings.ops_tls_critical), f"{text}; {limits}")]
    if now < wire.opens:
        findings.append(Finding("begin", Status.CRITICAL, f"it is not valid before {moment.told(wire.opens)}"))
    if wire.self_signed:
        findings.append(Finding("signer", Status.WARN, "it is signed by itself, so no browser trusts it"))
    return findings


def _left(wire: Certificate, now: datetime) -> str:
    if now >= wire.closes:
        return f"the certificate ended {moment.span(now - wire.closes)} ago, at {moment.told(wire.closes)}"
    left = moment.span(wire.closes - now)
    return (
        f"the certificate ends in {left} at {moment.told(wire.closes)}, {wire.left(now):.0%} of its lifetime are left"
    )


def _compare(wire: Certificate, path: Path) -> Finding:
    try:
        disk = x509.parse_pem(path.read_text())
    except (OSError, OpsError, UnicodeDecodeError) as fault:
        return Finding("file", Status.UNKNOWN, f"{path} cannot be compared with the one that is served: {fault}")
    if disk.serial == wire.serial:
        return Finding("file", Status.OK, "")
    text = f"{path} has the serial {disk.serial}, but {wire.serial} is served; nginx was not reloaded"
    return Finding("file", Status.CRITICAL, f"{text}: systemctl reload nginx")


def read_verdict(path: Path) -> Verdict | None:
    """Return what the hook of the last renewal left, None if it left nothing. Raise OpsError if it cannot be read."""
    try:
        return _verdict.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as fault:
        raise OpsError(f"{path} cannot be read ({fault})") from fault


def _renewal(wire: Certificate, path: Path) -> Finding:
    try:
        verdict = read_verdict(path)
    except OpsError as fault:
        return Finding("renewal", Status.UNKNOWN, str(fault))
    if verdict is None:
        status = Status.OK if wire.self_signed else Status.WARN
        return Finding("renewal", status, f"no renewal has left its verdict in {path}")
    another = verdict.serial and verdict.serial.upper().lstrip("0") != wire.serial.lstrip("0")
    if verdict.ok and wire.self_signed and another:
        text = f"another certificate was put in place at {moment.told(verdict.at)}, but one that signs itself is served"
        return Finding("renewal", Status.CRITICAL, f"{text}: systemctl reload nginx")
    if verdict.ok:
        return Finding("renewal", Status.OK, "")
    text = f"the renewal of {moment.told(verdict.at)} was not put in place: {verdict.what}"
    return Finding("renewal", Status.CRITICAL, text)


_verdict = msgspec.json.Decoder(Verdict)
