"""The certificate on the wire against the one on disk, with real TLS servers and certificates made by openssl."""

from __future__ import annotations

import json
import re
import socket
import threading
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


def look(
    tmp_path: Path,
    served: Path,
    disk: Path,
    life: float = 0.5,
    *,
    name: str = "leaf.example",
    trusted: str = "",
    **verdict: Any,
) -> Result:
    """Serve a certificate, at the time when so much of its lifetime is left. Our authority is trusted, or another."""
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
            ops_tls_name=name,
            ops_tls_authority=trusted or ("" if read(served).self_signed else str(tmp_path / "authority.pem")),
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
    [(0.9, Status.OK), (0.26, Status.OK), (0.24, Status.WARN), (0.09, Status.CRITICAL), (-0.1, Status.CRITICAL)],
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


def test_a_certificate_that_signs_itself_after_a_real_one_is_critical(tmp_path: Path) -> None:
    path = self_signed(tmp_path)
    result = look(tmp_path, path, path, ok=True, serial="abc123")
    assert [(one.about, one.status) for one in result.faults] == [
        ("renewal", Status.CRITICAL),
        ("signer", Status.WARN),
    ]
    same = look(tmp_path, path, path, ok=True, serial=read(path).serial.lower())
    assert [one.about for one in same.faults] == ["signer"]


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


# -- whether others trust it --------------------------------------------------------------------------------------


def trust(result: Result) -> tuple[Status, str]:
    """Return what is said of the trust alone; nothing else may be wrong."""
    assert [one.about for one in result.faults] in ([], ["trust"]), result.summary
    return result.status, result.summary


def test_a_certificate_of_an_authority_that_is_trusted_is_fine_under_its_name_and_without_one(tmp_path: Path) -> None:
    path = signed(tmp_path)
    assert trust(look(tmp_path, path, path, ok=True))[0] is Status.OK
    assert trust(look(tmp_path, path, path, name="", ok=True))[0] is Status.OK


def test_a_certificate_of_another_name_is_critical_and_says_so(tmp_path: Path) -> None:
    path = signed(tmp_path)
    status, said = trust(look(tmp_path, path, path, name="other.example", ok=True))
    assert status is Status.CRITICAL
    assert "trusts the certificate as other.example: Hostname mismatch" in said
    assert "openssl s_client -connect 127.0.0.1:" in said
    assert "-servername other.example" in said


def test_a_certificate_of_a_stranger_is_critical_and_says_so(tmp_path: Path) -> None:
    path, other = signed(tmp_path), tmp_path / "other"
    other.mkdir()
    signed(other)
    status, said = trust(look(tmp_path, path, path, trusted=str(other / "authority.pem"), ok=True))
    assert status is Status.CRITICAL
    assert "nobody from outside trusts the certificate as leaf.example: self-signed certificate in certificate" in said


def test_a_chain_without_its_middle_is_critical_as_no_client_can_follow_it(tmp_path: Path) -> None:
    root = self_signed(tmp_path, "root", 3650)
    words = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]
    openssl(*words, "authority.key", "-out", "authority.csr", "-subj", "/CN=middle", cwd=tmp_path)
    (tmp_path / "ca").write_text("basicConstraints=critical,CA:TRUE\n")
    words = ["x509", "-req", "-in", "authority.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial"]
    openssl(*words, "-extfile", "ca", "-days", 900, "-out", "middle.pem", cwd=tmp_path)
    path = signed(tmp_path, authority=tmp_path / "middle.pem")
    whole, leaf = path.read_text(), path.read_text().partition(x509.END)[0] + x509.END + "\n"
    assert trust(look(tmp_path, path, path, trusted=str(root), ok=True))[0] is Status.OK
    path.write_text(leaf)
    status, said = trust(look(tmp_path, path, path, trusted=str(root), ok=True))
    assert (status, whole.count(x509.END)) == (Status.CRITICAL, 2)
    assert "unable to get local issuer certificate" in said


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_authorities_that_cannot_be_read_make_the_trust_unknown_and_nothing_else(
    tmp_path: Path, text: str | None
) -> None:
    path, house = signed(tmp_path), tmp_path / "house.pem"
    if text:
        house.write_text(text)
    status, said = trust(look(tmp_path, path, path, trusted=str(house), ok=True))
    assert status is Status.UNKNOWN
    assert f"OPS_TLS_AUTHORITY={house} cannot be read" in said


def test_a_server_that_hangs_up_when_it_is_asked_again_makes_the_trust_unknown(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: [server.accept()[0].close()], daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        found = certificate.judge_trust(places(tmp_path, ops_tls_address=address, ops_tls_name="leaf.example"))
    assert (found.about, found.status) == ("trust", Status.UNKNOWN)
    assert "cannot be told" in found.text


@pytest.mark.parametrize("life", [-0.1, 1.1])
def test_what_has_ended_or_not_begun_is_not_told_again_as_a_lack_of_trust(tmp_path: Path, life: float) -> None:
    path = signed(tmp_path)
    result = look(tmp_path, path, path, life, name="other.example", ok=True)
    assert {one.about for one in result.faults} <= {"lifetime", "begin"}
    assert result.status is Status.CRITICAL


def test_what_signs_itself_is_told_by_that_alone(tmp_path: Path) -> None:
    path = self_signed(tmp_path)
    result = look(tmp_path, path, path, name="other.example")
    assert [(one.about, one.status) for one in result.faults] == [("signer", Status.WARN)]


def test_nobody_at_the_port_is_critical(tmp_path: Path) -> None:
    check = next(one for one in CHECKS if one.name == "certificate")
    (result,) = run_all([check], context(places(tmp_path, ops_tls_name="here.example")))
    assert result.status is Status.CRITICAL
    assert "no certificate is served" in result.summary
