"""How others see a machine: HTTPS under its name, the certificate on the wire, the ports that let one in."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

import httpx
from deploy.box import Box
from deploy.deployed import DOMAIN, TOKENS

from ops import x509
from ops.x509 import Certificate

HSTS = "strict-transport-security"
PROBLEM = "application/problem+json"
SECONDS = 40


class UnderItsName(httpx.HTTPTransport):
    """Goes to the address in the URL, but asks for the machine by its name, as if DNS led there."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": DOMAIN}
        return super().handle_request(request)


def trusting(authorities: str) -> ssl.SSLContext:
    """Return what checks names and chains against these authorities, in PEM, and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authorities)
    return context


def client(box: Box, token: str = "", authorities: str = "", **options: Any) -> httpx.Client:
    """Return a client of a machine, with the token of a scope; it trusts the certificate on the machine's disk."""
    context = trusting(authorities or box.get("/etc/trading/tls/fullchain.pem"))
    headers = {"Host": DOMAIN} | ({"Authorization": f"Bearer {TOKENS[token]}"} if token else {})
    transport = UnderItsName(verify=context, http2=options.pop("http2", True))
    return httpx.Client(
        base_url=f"https://{box.address}", transport=transport, headers=headers, timeout=SECONDS, **options
    )


def on_the_wire(box: Box, name: str = DOMAIN) -> Certificate:
    """Return the certificate that is served, whoever signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with secured(box, context, name) as line:
        return x509.parse_der(line.getpeercert(binary_form=True) or b"")


def secured(box: Box, context: ssl.SSLContext, name: str = DOMAIN) -> ssl.SSLSocket:
    """Return a connection to the HTTPS port once both sides have agreed; raise ssl.SSLError if they cannot."""
    return context.wrap_socket(socket.create_connection((box.address, 443), timeout=10), server_hostname=name)


def lets_in(box: Box, port: int) -> bool:
    """Say whether a port can be reached from outside; the firewall gives no answer at all."""
    with suppress(OSError), socket.create_connection((box.address, port), timeout=1):
        return True
    return False


def is_problem(answer: httpx.Response, status: int, code: str) -> None:
    """Assert that an answer is this problem, in a form for programs, and protected as every answer is."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    assert answer.headers.get_list(HSTS) == ["max-age=31536000"]
    assert answer.headers.get_list("cache-control") == ["no-store"]
    said = answer.json()
    assert (said["status"], said["code"]) == (status, code), said
    assert said["detail"]
