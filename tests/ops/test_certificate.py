"""The certificate on the wire against the one on disk, with real TLS servers and certificates made by openssl."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.watched import context, openssl, places, self_signed, serving, signed

from ops import x509
from ops.check import Result, Status, run_all, summarise
from ops.checks import CHECKS, certificate
from ops.errors import OpsError
from ops.x509 import Certificate, parse_der, parse_pem


def read(path: Path) -> Certificate:
    return parse_pem(path.read_text())


def look(tmp_path: Path, served: Path, disk: Path, life: float = 0.5, **verdict: Any) -> Result:
    """Serve a certificate, at the time when so much of its lifetime is left."""
    seen = read(served)
    now = seen.closes - life * (seen.closes - seen.opens)
    path = tmp_path / "verdict.json"
    path.unlink(missing_ok=True)
    if verdict:
        path.write_text(json.dumps({"at": "2026-01-05T15:00:00Z", "serial": "", "not_after": None, **verdict}))
    with serving(served) as address:
        settings = places(
            tmp_path,
            ops_tls_address=address,
            ops_tls_name="leaf.example",
            ops_tls_file=str(disk),
            ops_tls_verdict=str(path),
        )
        return summarise("certificate", certificate.served(context(settings, now)))


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_a_certificate_reads_as_openssl_reads_it(tmp_path: Path, key: str) -> None:
    path = self_signed(tmp_path, key=key, days=25_000)  # beyond 2050 the times have another form
    told = openssl(
        "x509", "-in", path, "-noout", "-serial", "-startdate", "-enddate", "-dateopt", "iso_8601", cwd=tmp_path
    )
    found = read(path)
    assert f"serial={found.serial}\n" in told
    times = re.findall(r"=(\S+ \S+)Z", told)
    assert [f"{at:%Y-%m-%d %H:%M:%S}" for at in (found.opens, found.closes)] == times
    assert found.self_signed


def test_the_first_certificate_of_a_chain_is_the_one(tmp_path: Path) -> None:
    found = read(signed(tmp_path))
    assert not found.self_signed
    assert found.serial != read(tmp_path / "authority.pem").serial


def test_what_is_no_certificate_is_refused_in_our_words(tmp_path: Path) -> None:
    data = x509.ssl.PEM_cert_to_DER_cert(self_signed(tmp_path).read_text())
    parse_der(data)
    for end in range(0, len(data), 7):
        with pytest.raises(OpsError):
            parse_der(data[:end])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_certificate_or_refused(data: bytes) -> None:
    with pytest.raises(OpsError):
        parse_der(data)


@pytest.mark.parametrize("text", ["", "hello", f"{x509.BEGIN}\n!!\n{x509.END}", f"{x509.END}{x509.BEGIN}"])
def test_a_file_without_a_certificate_is_refused(text: str) -> None:
    with pytest.raises(OpsError):
        parse_pem(text)


@pytest.mark.parametrize(
    ("life", "status"),
    [(0.9, Status.OK), (0.34, Status.OK), (0.32, Status.WARN), (0.09, Status.CRITICAL), (-0.1, Status.CRITICAL)],
)
@pytest.mark.parametrize("days", [6, 90])
def test_what_is_left_is_judged_by_the_lifetime_not_by_days(
    tmp_path: Path, life: float, status: Status, days: int
) -> None:
    path = signed(tmp_path, days=days)
    result = look(tmp_path, path, path, life, ok=True, what="renewed")
    assert result.status is status, result.summary


def test_a_certificate_that_signs_itself_is_a_warning_and_needs_no_verdict(tmp_path: Path) -> None:
    path = self_signed(tmp_path)
    result = look(tmp_path, path, path)
    assert [(one.about, one.status) for one in result.faults] == [("signer", Status.WARN)]


def test_renewed_but_not_served_is_critical(tmp_path: Path) -> None:
    served = signed(tmp_path)
    result = look(tmp_path, served, self_signed(tmp_path, "new"), ok=True)
    assert [one.about for one in result.faults] == ["file"]
    assert result.status is Status.CRITICAL
    assert "systemctl reload nginx" in result.summary


def test_a_file_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    result = look(tmp_path, signed(tmp_path), tmp_path / "none.pem", ok=True)
    assert [(one.about, one.status) for one in result.faults] == [("file", Status.UNKNOWN)]


def test_a_hook_that_failed_is_critical_with_what_it_says(tmp_path: Path) -> None:
    path = signed(tmp_path)
    result = look(tmp_path, path, path, ok=False, what="nginx -t failed")
    assert result.status is Status.CRITICAL
    assert "nginx -t failed" in result.summary


def test_a_hook_that_never_spoke_is_a_warning_where_somebody_signed(tmp_path: Path) -> None:
    path = signed(tmp_path)
    result = look(tmp_path, path, path)
    assert [(one.about, one.status) for one in result.faults] == [("renewal", Status.WARN)]


def test_a_certificate_of_tomorrow_is_critical(tmp_path: Path) -> None:
    path = signed(tmp_path)
    assert look(tmp_path, path, path, 1 + timedelta(days=1) / timedelta(days=90), ok=True).status is Status.CRITICAL


def test_nobody_at_the_port_is_critical(tmp_path: Path) -> None:
    check = next(one for one in CHECKS if one.name == "certificate")
    (result,) = run_all([check], context(places(tmp_path)))
    assert result.status is Status.CRITICAL
    assert "no certificate is served" in result.summary
