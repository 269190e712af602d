"""What the watcher's tests stand on: real ledgers, listeners, certificates, and `python -m ops` as a process."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.house import House, Puppet
from support.tradectl import ROOT, Said

from app.model import ENTER, EXIT
from app.store import Store
from ops.check import Context, Result
from ops.config import Settings

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
DAY = timedelta(days=1)
NOWHERE = "127.0.0.1:1"  # nobody listens there
LINKS = TemporaryDirectory(prefix="programs-")  # removed at the end


def places(directory: Path, **others: Any) -> Settings:
    """Return settings that keep everything below one directory."""
    for name in ("data", "backups"):
        (directory / name).mkdir(exist_ok=True)
    chosen: dict[str, Any] = {
        "data_dir": str(directory / "data"),
        "ops_data_dir": str(directory / "watcher"),
        "ops_backup_dir": str(directory / "backups"),
        "ops_apprise": str(directory / "apprise.yml"),
        "ops_reserve_mb": 0,
        "ops_tls_address": NOWHERE,
        "ops_api_url": f"http://{NOWHERE}",
        "ops_redis_url": f"redis://{NOWHERE}",
    }
    return Settings(**{**chosen, **others})


def context(settings: Settings, now: datetime = NOW, **others: Any) -> Context:
    """Return what a check looks at, on a machine that is deployed and up for long."""
    return Context(**{"settings": settings, "now": now, "deployed": now - 99 * DAY, "booted": now - 9 * DAY, **others})


def ops(*words: object, settings: Settings, **environment: str) -> Said:
    """Run a job as systemd does: a process, its settings in the environment; on a machine without apt.

    Asking apt takes seconds of a first check. Whoever tests what it says gives a PATH.
    """
    environment = {"PATH": without_apt(os.environ["PATH"]), **environment}
    given = {name.upper(): f"{getattr(settings, name)}" for name in settings.__struct_fields__}
    plain = {key: os.environ[key] for key in ("HOME",) if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ops", *map(str, words)],
        env={**plain, "PYTHONPATH": str(ROOT), **given, **environment},
        cwd=settings.data,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def stamp(settings: Settings, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((settings.home / "stamps" / f"{job}.json").read_text())
    return found


def by_name(results: Sequence[Result]) -> dict[str, Result]:
    return {one.name: one for one in results}


def programs(directory: Path, **scripts: str) -> str:
    """Write small shell programs and return a PATH that has them first, and no other apt."""
    directory.mkdir(exist_ok=True)
    for name, text in scripts.items():
        path = directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return f"{directory}:{without_apt(os.environ['PATH'])}"


@cache
def without_apt(path: str) -> str:
    """Return a PATH to the programs of another one but for apt-get, as on a machine that has no apt."""
    folders = []
    for folder in path.split(":"):
        if (Path(folder) / "apt-get").exists():
            links = Path(LINKS.name) / folder.strip("/").replace("/", "-")
            links.mkdir(exist_ok=True)
            for program in Path(folder).iterdir():
                if program.name != "apt-get" and not (links / program.name).is_symlink():
                    (links / program.name).symlink_to(program)
            folders.append(f"{links}")
        else:
            folders.append(folder)
    return ":".join(folders)


def open_account(directory: Path, trades: int = 3) -> Store:
    """Begin an account whose ledger holds some round trips; the engine that has it is this process."""
    strategy = Puppet()
    house = House(strategy)
    for number in range(trades):
        strategy.wish = ENTER
        house.bars(100 + number, 101)
        strategy.wish = EXIT
        house.bars(103, 104)
    store = Store.create(directory, "paper-1")
    store.take_over()
    store.append(house.entries)
    return store


class Listener:
    """An HTTP server that keeps what it was sent, and answers as it is told to."""

    def __init__(self) -> None:
        self.code = 200
        self.answers: dict[str, tuple[int, Any]] = {}
        self.messages: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.signed: list[str | None] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if listener.code == 200:
                    listener.messages.append({**body, "path": self.path})
                self.send_response(listener.code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                listener.asked.append(self.path)
                listener.signed.append(self.headers["Authorization"])
                code, body = listener.answers.get(self.path.partition("?")[0], (404, {}))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def secure(self, certificate: Path) -> None:
        """Speak TLS from now on; the key is beside the certificate."""
        secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self._server.socket = secure.wrap_socket(self._server.socket, server_side=True)

    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()


def tell(settings: Settings, *services: tuple[str, str]) -> None:
    """Write whom to tell: addresses of Apprise with their tags."""
    lines = [f"  - {url}:\n      tag: [{tags}]" for url, tags in services]
    Path(settings.ops_apprise).write_text("urls:\n" + "\n".join(lines) + "\n")


# -- certificates -------------------------------------------------------------------------------------------------


def openssl(*words: object, cwd: Path) -> str:
    done = subprocess.run(["openssl", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


def self_signed(directory: Path, name: str = "own", days: int = 90, key: str = "ec") -> Path:
    """Make a certificate that signs itself; its key is beside it."""
    kind = ["rsa:2048"] if key == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    words = ["req", "-x509", "-newkey", *kind, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
    openssl(*words, "-days", days, "-subj", f"/CN={name}.example", cwd=directory)
    return directory / f"{name}.pem"


def signed(directory: Path, name: str = "leaf", days: int = 90, authority: Path | None = None) -> Path:
    """Make a certificate of NAME.example that an authority of ours signs; the file has the whole chain."""
    authority = authority or self_signed(directory, "authority", 3650)
    words = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(*words, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}.example", cwd=directory)
    words = ["x509", "-req", "-in", f"{name}.csr", "-CA", authority, "-CAkey", "authority.key", "-CAcreateserial"]
    (directory / f"{name}.names").write_text(f"subjectAltName=DNS:{name}.example\n")
    openssl(*words, "-days", days, "-extfile", f"{name}.names", "-out", f"{name}.pem", cwd=directory)
    path = directory / f"{name}.pem"
    path.write_text(path.read_text() + authority.read_text())
    return path


@contextmanager
def serving(certificate: Path) -> Iterator[str]:
    """Serve TLS with a certificate; give the address."""
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_shake_hands, args=(server, secure), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _shake_hands(server: socket.socket, secure: ssl.SSLContext) -> None:
    while True:
        try:
            channel, _ = server.accept()
            with channel, secure.wrap_socket(channel, server_side=True):
                pass
        except ssl.SSLError:
            continue
        except OSError:
            return
