"""Pages are compressed for who asks for them himself, never for another site, and never a stream."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.running import Appliance, appliance
from support.visitors import Visitor, add_people

from app.web.packing import LEAST, Packer, may_pack

OWN = {"Sec-Fetch-Site": "same-origin", "Accept-Encoding": "gzip"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with appliance(tmp_path_factory.mktemp("packing")) as one:
        add_people(one.directory)
        one.wait_for_entry("EquityMarked", 3)
        yield one


@pytest.mark.parametrize("path", ["/", "/performance", "/trading", "/account", "/api/v1/trading/ledger"])
@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_what_our_own_pages_or_the_person_asked_for_is_compressed(olga: Visitor, path: str, site: str) -> None:
    answer = olga.get(path, **{**OWN, "Sec-Fetch-Site": site})
    assert answer.headers["content-encoding"] == "gzip"
    assert 3 * int(answer.headers["content-length"]) < 2 * len(answer.content)
    assert answer.text.rstrip().endswith(("</html>", "}"))


@pytest.mark.parametrize("site", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}])
def test_what_another_site_may_have_caused_is_not_compressed(olga: Visitor, site: dict[str, str]) -> None:
    answer = olga.get("/trading", {"symbol": "BTC/USD"}, **{"Accept-Encoding": "gzip", **site})
    assert "content-encoding" not in answer.headers
    assert "</html>" in answer.text


@pytest.mark.parametrize("path", ["/live/overview", "/api/v1/trading/events"])
def test_an_event_stream_is_never_compressed_nor_held_up(olga: Visitor, path: str) -> None:
    with olga.client.stream("GET", path, headers=OWN) as stream:
        assert "content-encoding" not in stream.headers
        assert next(stream.iter_raw()).startswith(b"retry: ")


def test_a_file_that_is_sent_in_pieces_is_passed_on_as_it_comes(olga: Visitor) -> None:
    assert "content-encoding" not in olga.get("/files/fills.csv", **OWN).headers


@pytest.mark.parametrize(
    ("accepted", "packs"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.8", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("identity", False),
        ("x-gzip", False),
        ("", False),
    ],
)
def test_who_does_not_take_gzip_gets_none(accepted: str, packs: bool) -> None:
    assert may_pack({b"sec-fetch-site": b"none", b"accept-encoding": accepted.encode()}) is packs


def passed(kind: bytes, pieces: Sequence[bytes], encoding: bytes = b"") -> tuple[dict[bytes, bytes], bytes]:
    """Return the headers and the body that an answer in pieces arrives with."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer() -> None:
        packer = Packer(send)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(b"".join(pieces)))]
        headers += [(b"content-encoding", encoding)] if encoding else []
        await packer.send({"type": "http.response.start", "status": 200, "headers": headers})
        for place, piece in enumerate(pieces, start=1):
            await packer.send({"type": "http.response.body", "body": piece, "more_body": place < len(pieces)})

    asyncio.run(answer())
    assert [one["type"] for one in sent] == ["http.response.start"] + ["http.response.body"] * len(pieces)
    return dict(sent[0]["headers"]), b"".join(one["body"] for one in sent[1:])


@given(st.lists(st.binary(max_size=3 * LEAST), min_size=1, max_size=4))
def test_whatever_is_sent_arrives(pieces: list[bytes]) -> None:
    headers, body = passed(b"text/html; charset=utf-8", pieces)
    packed = headers.get(b"content-encoding") == b"gzip"
    assert (gzip.decompress(body) if packed else body) == b"".join(pieces)
    assert packed == (len(pieces) == 1 and len(pieces[0]) >= LEAST)
    assert not packed or int(headers[b"content-length"]) == len(body)


@pytest.mark.parametrize(
    ("kind", "encoding"), [(b"text/event-stream", b""), (b"image/png", b""), (b"text/css", b"gzip")]
)
def test_what_is_no_page_or_is_compressed_already_is_left_alone(kind: bytes, encoding: bytes) -> None:
    assert passed(kind, [b"a" * 5000], encoding)[1] == b"a" * 5000
