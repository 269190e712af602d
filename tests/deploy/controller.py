"""What a box has to know of this machine's way to the outside: mirror, certificate authorities, proxy, index, resolver.

Everything is read from this machine's own configuration. Files and listeners that only this machine can reach (paths,
loopback addresses) are left out, since a box cannot reach them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.shell import LabError
from msgspec import Struct

MIRROR = "TRADING_LAB_MIRROR"  # the address of a Debian archive, for a machine that is no Debian
DEBIAN_KEYS = "debian-archive-keyring"
AUTHORITIES = Path("/usr/local/share/ca-certificates")
USUAL_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PROXY = re.compile(r"(https?|no|all|ftp)_proxy", re.IGNORECASE)
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
APT_PROXY = re.compile(r'^Acquire::https?::(?:Proxy|Proxy::\S+) "[^"]+";$', re.MULTILINE)
ONE_LINE = re.compile(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)")
RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class Controller(Struct, frozen=True):
    """This machine's way to the outside, as far as a box can use it."""

    mirror: str
    security: str
    authorities: dict[str, str]
    environment: dict[str, str]
    pip: dict[str, str]
    apt: str

    @property
    def pip_conf(self) -> str:
        return "".join(["[global]\n", *(f"{key} = {value}\n" for key, value in self.pip.items())])


def read() -> Controller:
    """Read this machine's configuration."""
    sources = list(_debian_sources(Path("/etc/apt")))
    main = [uri for uri, suite in sources if "security" not in suite and "backports" not in suite]
    security = [uri for uri, suite in sources if "security" in suite]
    mirror = os.environ.get(MIRROR) or next(iter(main), "")
    if not mirror:
        raise LabError(f"this machine's apt names no Debian archive; put the address of one into {MIRROR}")
    return Controller(
        mirror=mirror,
        security=security[0] if security else f"{mirror.rstrip('/')}-security",
        authorities=_authorities(),
        environment={key: value for key, value in os.environ.items() if PROXY.fullmatch(key)},
        pip=_pip(),
        apt="\n".join(APT_PROXY.findall(_output("apt-config", "dump"))),
    )


def name_servers() -> tuple[str, ...]:
    """Return the resolvers a box can ask; raises LabError if this machine has only one on its loopback."""
    for path in RESOLVERS:
        text = path.read_text() if path.exists() else ""
        found = tuple(re.findall(r"^nameserver\s+([\d.]+)", text, re.MULTILINE))
        if usable := tuple(address for address in found if not address.startswith("127.")):
            return usable
    raise LabError(f"no resolver outside of loopback in {' or '.join(map(str, RESOLVERS))}; a box cannot ask one there")


def _debian_sources(apt: Path) -> Iterator[tuple[str, str]]:
    """Yield address and suite of Debian's own archives; lists of other products stay out."""
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            keys = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if path.name == "debian.sources" or DEBIAN_KEYS in keys.get("Signed-By", ""):
                uris = [uri for uri in keys.get("URIs", "").split() if uri.startswith("http")]
                yield from ((uri, suite) for uri in uris[:1] for suite in keys.get("Suites", "").split())
    listed = apt / "sources.list"
    lines = listed.read_text().splitlines() if listed.exists() else []
    yield from ((found[1], found[2]) for line in lines if (found := ONE_LINE.match(line)) and "debian" in found[1])


def _authorities() -> dict[str, str]:
    """Return the certificate authorities that were added to this machine, by file name."""
    files = sorted(AUTHORITIES.glob("**/*.crt")) if AUTHORITIES.exists() else []
    found = {path.name: path.read_text() for path in files}
    for key in ("PIP_CERT", "SSL_CERT_FILE"):
        path = Path(os.environ.get(key, USUAL_BUNDLE))
        if path.resolve() != USUAL_BUNDLE.resolve() and path.is_file() and path.stat().st_size < 100_000:
            found[f"{key.lower()}.crt"] = path.read_text()
    return found


def _pip() -> dict[str, str]:
    """Return pip's settings that mean the same in a box: addresses of the network, no paths of this machine."""
    settings: dict[str, str] = {}
    listed = _output(sys.executable, "-m", "pip", "config", "list")
    for key, value in re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if key in PIP_KEYS:
            words = [word for word in value.replace("\\n", " ").split() if not word.startswith("file:")]
            settings |= {key: " ".join(words)} if words else {}
    return settings


def _output(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout
    except FileNotFoundError:
        return ""
