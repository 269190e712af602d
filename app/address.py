"""Where the API of this machine listens, and how it is called from this machine."""

from __future__ import annotations

import errno
import socket

import psutil

from app.config import Settings
from app.errors import ConfigurationError

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to call a server that listens on all


def api_address(settings: Settings) -> str:
    """Return the address under which a program on this machine calls the API."""
    host = EVERYWHERE.get(settings.api_host, settings.api_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.api_port}"


def refuse_busy_port(host: str, port: int) -> None:
    """Raise ConfigurationError if nothing could listen there, naming the program that does already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as fault:
            if fault.errno != errno.EADDRINUSE:
                raise ConfigurationError(f"API_HOST={host}, API_PORT={port}: {fault.strerror}; correct them") from fault
            raise ConfigurationError(
                f"port {port} on {host} is in use by {_listener(port)}; stop that, or take another API_PORT"
            ) from None


def _listener(port: int) -> str:
    """Name the process that listens on a port, as far as this user may know."""
    try:
        found = [one.pid for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port]
        pid = next(pid for pid in found if pid)
        return f"{psutil.Process(pid).name()} (process {pid})"
    except (psutil.Error, StopIteration):
        return "another program"
