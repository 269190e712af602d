#!/usr/bin/python3
"""Keeps the certificate that nginx serves: a self-signed one at first, the authority's as soon as it is issued.

    trading-tls self-signed [--check]   make a pair if there is none, or if the self-signed one is of no use any more
    trading-tls issue [--check]         have certbot get the wanted certificate if it is not there; at most one try
    trading-tls trial                   have certbot ask for a renewal as in earnest, and keep nothing of the answer
    trading-tls deploy                  certbot's deploy hook: take over what it got, reload nginx, see it served

Certificate and key lie in one directory for each pair, and `current` says which one counts. It is switched in one step,
so that no crash leaves a certificate with the key of another. What became of it stands in verdict.json, since certbot
hides the failure of a hook. The first two print {"changed", "what"}; `issue` exits with 3 if none was issued.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TLS = Path("/etc/trading/tls")
CURRENT = TLS / "current"
FULLCHAIN, KEY = "fullchain.pem", "privkey.pem"
WANTED = Path("/etc/trading/tls.json")
VERDICT = Path("/var/lib/trading-tls/verdict.json")
LINEAGE = Path("/etc/letsencrypt/live/trading")
RENEWAL = Path("/etc/letsencrypt/renewal/trading.conf")
WEBROOT = "/var/www/acme"
SELF_SIGNED_DAYS = 3650  # nobody renews it
DAYS_LEFT = 30  # with which a self-signed one is made anew
SERVED_SECONDS = 10.0  # until a reloaded nginx has to serve the new certificate
CERTBOT_SECONDS = 300
NOT_ISSUED = 3
LONGEST = 600  # characters of another program's words
IDLE_WORDS = (
    "Saving debug log",
    "Ask for help",
    "See the logfile",
    "Some challenges have failed",
    "Account registered",
)


class Failed(Exception):
    """It was not done; the text says why, and how to mend it."""


@dataclass(frozen=True)
class Wanted:
    """What the playbook asks for; without a domain no authority is asked."""

    names: list[str]
    domain: str
    email: str
    server: str


def main(arguments: list[str]) -> int:
    match arguments:
        case ["self-signed"] | ["self-signed", "--check"]:
            return self_signed(read_wanted(), check=len(arguments) > 1)
        case ["issue"] | ["issue", "--check"]:
            return issue(read_wanted(), check=len(arguments) > 1)
        case ["trial"]:
            return trial(read_wanted())
        case ["deploy"]:
            return deploy(Path(os.environ.get("RENEWED_LINEAGE", LINEAGE)), read_wanted())
    print("usage: trading-tls self-signed|issue [--check] | trial | deploy", file=sys.stderr)
    return 2


def read_wanted() -> Wanted:
    return Wanted(**json.loads(WANTED.read_text()))


# -- the self-signed certificate -------------------------------------------------------------------------------------


def self_signed(wanted: Wanted, check: bool) -> int:
    """Make a self-signed pair where none is there, or where the one that is there has become of no use."""
    why = lacking(wanted)
    if why and not check:
        install(*make_self_signed(wanted.names))
        judge(True, f"self-signed certificate made, since {why}")
    elif not check and not wanted.domain and not was_well():
        judge(True, "the certificate that was there is served, no authority is asked for one")
    report(bool(why), why or "there is a certificate")
    return 0


def lacking(wanted: Wanted) -> str:
    """Say why a self-signed pair has to be made, empty if it has not."""
    chain = TLS / FULLCHAIN
    if not chain.exists() or not (TLS / KEY).exists():
        return "there was none"
    is_authoritys = facts(chain)["subject"] != facts(chain)["issuer"]
    if is_authoritys and wanted.domain:
        return ""  # replacing it is the other command's work
    if not is_authoritys and not lasts(chain, DAYS_LEFT):
        return "the self-signed one runs out"
    unnamed = [name for name in wanted.names if not names(chain, name)]
    return f"the one that was there does not name {', '.join(unnamed)}" if unnamed else ""


def make_self_signed(subjects: list[str]) -> tuple[bytes, bytes]:
    """Return certificate and key."""
    place = fresh_directory(".made")
    alternatives = ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in subjects)
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", str(SELF_SIGNED_DAYS), "-subj", f"/CN={subjects[0][:64]}"),
        *("-addext", f"subjectAltName={alternatives}", "-addext", "extendedKeyUsage=serverAuth"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),  # who trusts it trusts this server, not whom it would sign
        *("-keyout", str(place / KEY), "-out", str(place / FULLCHAIN)),
    )
    made = (place / FULLCHAIN).read_bytes(), (place / KEY).read_bytes()
    shutil.rmtree(place)
    return made


# -- the authority's certificate -------------------------------------------------------------------------------------


def issue(wanted: Wanted, check: bool) -> int:
    """Get the wanted certificate if it is not there, and serve it. Exit with 3 if none was issued."""
    why = unissued(wanted) if wanted.domain else ""
    behind = bool(wanted.domain) and (bool(why) or not is_served(LINEAGE))
    if check or not behind:
        report(behind, why or "the wanted certificate is there")
        return 0
    try:
        if why:
            ask(wanted)
    except Failed as fault:
        said = f"no certificate for {wanted.domain} yet, the one from before is served: {fault}"
        judge(False, said)
        report(False, f"{said}. Deploy again once this is mended; certbot.timer tries twice a day")
        return NOT_ISSUED
    if not is_served(LINEAGE) and deploy(LINEAGE, wanted):
        raise SystemExit(json.loads(VERDICT.read_text())["what"])
    report(True, f"issued, since {why}" if why else "the certificate that was there is served now")
    return 0


def unissued(wanted: Wanted) -> str:
    """Say why a certificate has to be asked for, empty if the wanted one is there. Renewing it is the timer's work."""
    chain = LINEAGE / FULLCHAIN
    if not chain.exists() or not RENEWAL.exists():
        return "there was none"
    asked = [line.partition("=")[2].strip() for line in RENEWAL.read_text().splitlines() if line.startswith("server ")]
    if asked != [wanted.server]:
        return "it came from another authority"
    if not names(chain, wanted.domain):
        return f"it did not name {wanted.domain}"
    return "" if lasts(chain, 0) else "it had run out"


def ask(wanted: Wanted) -> None:
    """Have certbot get a certificate, once. Raise Failed with what it says."""
    command = (
        *("certbot", "certonly", "--non-interactive", "--agree-tos", "--server", wanted.server, "-m", wanted.email),
        *("--cert-name", LINEAGE.name, "--webroot", "-w", WEBROOT, "-d", wanted.domain),
        *("--force-renewal", "--renew-with-new-domains"),
    )
    try:
        run(*command, seconds=CERTBOT_SECONDS)
    except subprocess.TimeoutExpired as fault:
        raise Failed(f"certbot was not done after {CERTBOT_SECONDS} s; see /var/log/letsencrypt") from fault


def trial(wanted: Wanted) -> int:
    """Try a renewal. Left to itself a trial asks the testing service of Let's Encrypt, whoever the authority is."""
    try:
        run(
            "certbot",
            "renew",
            "--dry-run",
            "--no-random-sleep-on-renew",
            "--server",
            wanted.server,
            seconds=CERTBOT_SECONDS,
        )
    except (Failed, subprocess.TimeoutExpired) as fault:
        raise SystemExit(f"a renewal would not succeed: {fault}") from fault
    report(False, "a renewal would succeed")
    return 0


# -- taking a certificate over ---------------------------------------------------------------------------------------


def deploy(lineage: Path, wanted: Wanted) -> int:
    """Take over what certbot got, and write the verdict. A certificate that is not wanted is left alone."""
    if lineage.name != LINEAGE.name or not wanted.domain:
        return 0
    try:
        take_over(lineage, wanted)
    except Failed as fault:
        judge(False, str(fault))
        print(f"trading-tls: {fault}", file=sys.stderr)
        return 1
    judge(True, "certificate installed and served")
    return 0


def take_over(lineage: Path, wanted: Wanted) -> None:
    """Install a pair, reload nginx and see that it is served. Raise Failed; a pair that nginx refuses is taken back."""
    before = CURRENT.readlink() if CURRENT.is_symlink() else None
    try:
        installed = install((lineage / FULLCHAIN).read_bytes(), (lineage / KEY).read_bytes())
    except OSError as fault:
        raise Failed(f"cannot take over {lineage}: {fault}") from fault
    refusal = reload_nginx()
    if refusal and before not in (None, installed):
        switch(before)
        if not reload_nginx():
            raise Failed(f"nginx refuses the new certificate and serves the one from before: {refusal}")
        switch(installed)  # the fault lies elsewhere, and the next reload has to find the new one
    if refusal:
        raise Failed(
            f"the new certificate is installed but not served: {refusal}; mend it, then run systemctl reload nginx "
            "and trading-tls deploy"
        )
    see_served(wanted.domain or wanted.names[0])


def reload_nginx() -> str:
    """Reload nginx, which tests its configuration; return why it would not, empty if it did."""
    try:
        run("systemctl", "reload", "nginx.service")
    except Failed as fault:
        return str(fault) if "not active" in str(fault) else f"{fault} {complaint()}".strip()
    return ""


def complaint() -> str:
    """Return what nginx finds wrong with its configuration, empty if nothing."""
    try:
        run("nginx", "-t", "-q")
    except Failed as fault:
        return f"({fault})"
    return ""


def see_served(name: str) -> None:
    """Wait until nginx serves the installed certificate. Raise Failed if it does not."""
    own = ssl.PEM_cert_to_DER_cert(first_of((TLS / FULLCHAIN).read_text()))
    end = time.monotonic() + SERVED_SECONDS
    found = served(name)
    while found != own and time.monotonic() < end:
        time.sleep(0.1)
        found = served(name)
    if found != own:
        what = "nothing" if found is None else "another certificate"
        raise Failed(f"nginx was reloaded but serves {what} on 127.0.0.1:443 after {SERVED_SECONDS:.0f} s")


def served(name: str) -> bytes | None:
    """Return the certificate that nginx serves under a name, None if it serves none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is compared with ours, to the byte
    try:
        with (
            socket.create_connection(("127.0.0.1", 443), timeout=2) as plain,
            context.wrap_socket(plain, server_hostname=None if is_address(name) else name) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except OSError:
        return None


# -- pairs on the disk -----------------------------------------------------------------------------------------------


def install(chain: bytes, key: bytes) -> Path:
    """Put a pair in place in one step and return its name. Raise Failed if key and certificate do not match."""
    fresh = fresh_directory(".new")
    write(fresh / FULLCHAIN, chain, 0o644)
    write(fresh / KEY, key, 0o600)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(fresh / FULLCHAIN, fresh / KEY)
    except ssl.SSLError as fault:
        shutil.rmtree(fresh)
        raise Failed(f"key and certificate are no pair to serve, nothing was changed: {fault}") from fault
    kept = TLS / f"{facts(fresh / FULLCHAIN)['serial'].lower()}-{hashlib.sha256(chain + key).hexdigest()[:8]}"
    if kept.exists():  # the name tells the content
        shutil.rmtree(fresh)
    else:
        fresh.rename(kept)
    before = current_name()
    switch(Path(kept.name))
    for name in (FULLCHAIN, KEY):
        link(TLS / name, Path("current") / name)
    for other in TLS.iterdir():
        if other.is_dir() and not other.is_symlink() and other.name not in (kept.name, before):
            shutil.rmtree(other)
    return Path(kept.name)


def current_name() -> str:
    return CURRENT.readlink().name if CURRENT.is_symlink() else ""


def is_served(lineage: Path) -> bool:
    """Say whether the pair that counts is this one, and nginx was well with it."""
    pairs = [(TLS / name, lineage / name) for name in (FULLCHAIN, KEY)]
    same = all(own.exists() and own.read_bytes() == theirs.read_bytes() for own, theirs in pairs)
    return same and was_well()


def was_well() -> bool:
    """Say whether the last verdict was a good one, and of the pair that counts: a run may have been killed since."""
    verdict = json.loads(VERDICT.read_text()) if VERDICT.exists() else {"ok": False}
    return bool(verdict["ok"]) and verdict["serial"] == facts(TLS / FULLCHAIN)["serial"].lower()


def switch(pair: Path) -> None:
    link(CURRENT, pair)


def link(path: Path, target: Path) -> None:
    """Let a link point to a target, in one step."""
    if path.is_symlink() and path.readlink() == target:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
    settle(path.parent)


def fresh_directory(name: str) -> Path:
    """Return an empty directory in which others may look, but write nothing."""
    path = TLS / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    return path


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file with its mode from the first byte on, and see it on the disk."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    settle(path.parent)


def settle(directory: Path) -> None:
    """See the names in a directory on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- looking at certificates -----------------------------------------------------------------------------------------


def facts(chain: Path) -> dict[str, str]:
    """Return serial, subject, issuer and notAfter of the first certificate in a file."""
    said = run(*("openssl", "x509", "-noout", "-serial", "-subject", "-issuer", "-enddate"), "-in", str(chain))
    return {key: value for key, _, value in (line.partition("=") for line in said.splitlines())}


def names(chain: Path, name: str) -> bool:
    """Say whether a certificate holds for a name or an address."""
    option = "-checkip" if is_address(name) else "-checkhost"
    return "does match" in run("openssl", "x509", "-noout", option, name, "-in", str(chain), fails=True)


def lasts(chain: Path, days: int) -> bool:
    said = run("openssl", "x509", "-noout", "-checkend", str(days * 86400), "-in", str(chain), fails=True)
    return "will not expire" in said


def first_of(chain: str) -> str:
    """Return the first certificate of a chain, the server's own."""
    end = "-----END CERTIFICATE-----"
    return chain[: chain.index(end) + len(end)]


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# -- the world -------------------------------------------------------------------------------------------------------


def run(*command: str, seconds: float = 60, fails: bool = False) -> str:
    """Return what a program prints. Raise Failed with what it says if it fails and may not."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    if done.returncode and not fails:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = " ".join(" ".join(line for line in lines if not line.startswith(IDLE_WORDS)).split())
        raise Failed(f"{command[0]} {command[1]} failed: {said[:LONGEST]}")
    return done.stdout


def judge(ok: bool, what: str) -> None:
    """Write what became of it, and which certificate is in place now."""
    chain = TLS / FULLCHAIN
    about = facts(chain) if chain.exists() else {}
    ends = about.get("notAfter")
    end = datetime.strptime(ends, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).isoformat() if ends else None
    verdict = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "ok": ok,
        "what": what,
        "serial": about.get("serial", "").lower(),
        "not_after": end,
    }
    fresh = VERDICT.with_name(".verdict.new")
    write(fresh, (json.dumps(verdict) + "\n").encode(), 0o644)
    fresh.replace(VERDICT)


def report(changed: bool, what: str) -> None:
    print(json.dumps({"changed": changed, "what": what}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
