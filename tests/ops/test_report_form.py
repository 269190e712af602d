"""How a report reads: text in columns, a page that escapes everything, numbers with all their digits, a curve."""

from __future__ import annotations

import struct
import zlib
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from support.watched import DAY, NOW

from ops import reportform
from ops.check import Status
from ops.picture import AREA, HEIGHT, WIDTH, curve, spark
from ops.reportform import Line, Report, Section, clipped, figure, money, percent, signed, size, table, unknown
from ops.reportpage import SCREENS, STYLE, page

EVIL = '<script>alert("1")</script> & co'
SECTIONS = (
    Section("Trading", (Line("health", "healthy", Status.OK), Line("mode", "paper"))),
    Section(
        "Checks",
        (
            Line("redis", "does not answer", Status.CRITICAL, "redis-cli ping"),
            Line("disk", EVIL, Status.WARN),
            unknown("journal", "it may not be read here"),
        ),
        table(("symbol", "net"), [("AAPL", "+1.00"), ("BTC/USD", "-120.50")], 1),
    ),
)
REPORT = Report("morning", NOW, "box (trade.example)", "the last 24 h", SECTIONS)


class Reader(HTMLParser):
    """Reads a page and keeps its tags and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_verdict_counts_what_is_not_well_and_names_the_worst_first() -> None:
    assert REPORT.title == "morning report, 1 critical, 1 unknown, 1 warning"
    assert REPORT.status is Status.CRITICAL
    assert [line.name for _, line in REPORT.troubles] == ["redis", "journal", "disk"]
    calm = Report("morning", NOW, "box", "today", SECTIONS[:1])
    assert (calm.title, calm.status) == ("morning report, all is well", Status.OK)


def test_the_text_has_everything_in_columns() -> None:
    text = reportform.text(REPORT)
    head, attention, trading, checks = text.split("\n\n")
    assert head == "Morning report of box (trade.example), 2026-01-05 15:00:00 UTC\nAbout the last 24 h."
    assert attention.splitlines()[:3] == [
        "1 CRITICAL, 1 UNKNOWN, 1 WARNING",
        "  CRITICAL: Checks, redis: does not answer",
        "    redis-cli ping",
    ]
    assert trading == "TRADING\n  health  healthy\n  mode    paper"
    assert "  journal  UNKNOWN unknown, because it may not be read here" in checks
    assert "  symbol       net\n  AAPL       +1.00\n  BTC/USD  -120.50" in checks


def test_the_page_is_whole_and_nothing_that_was_read_can_act_in_it() -> None:
    text = page(REPORT)
    read = Reader(text)
    assert read.open == []
    assert not read.tags & {"script", "img", "link", "iframe", "form", "a"}
    assert EVIL in read.words
    assert "http" not in text
    assert not any(word in STYLE + SCREENS for word in ("@import", "url("))


def test_the_page_is_for_phones_and_for_the_night() -> None:
    text = page(REPORT)
    for part in ("width=device-width", "prefers-color-scheme:dark", "max-width:480px", "overflow-x:auto"):
        assert part in text


def test_of_a_long_table_the_first_rows_are_shown_and_the_rest_is_counted() -> None:
    rows = [(f"row {number}",) for number in range(reportform.MOST_ROWS + 2)]
    report = Report("evening", NOW, "box", "today", (Section("Trades", (), table(("it",), rows)),))
    for text in (reportform.text(report), page(report)):
        assert "row 39" in text and "row 40" not in text
        assert "and 2 more" in text


def test_a_table_without_rows_is_none() -> None:
    assert table(("a",), []) is None


@pytest.mark.parametrize(
    ("shown", "value", "expected"),
    [
        (figure, Decimal("1E-8"), "0.00000001"),
        (figure, Decimal("0.10"), "0.10"),
        (figure, 7, "7"),
        (figure, None, "not told"),
        (money, Decimal("1234567.891"), "1,234,567.89"),
        (signed, Decimal("-3.5"), "-3.50"),
        (signed, Decimal(2), "+2.00"),
        (percent, Decimal("0.12346"), "12.35 %"),
        (percent, None, "not told"),
        (size, 512, "512 B"),
        (size, 1536, "1.5 KiB"),
        (size, 3 * 1024**3, "3.0 GiB"),
        (clipped, "a\n b" * 40, f"{'a b' * 19}a …"),
    ],
)
def test_numbers_and_texts_are_written_in_one_way(shown: object, value: object, expected: str) -> None:
    assert shown(value) == expected  # type: ignore[operator]


# -- the curve ----------------------------------------------------------------------------------------------------


def strengths(png: bytes) -> list[bytes]:
    """Read a picture of one colour: a row of strengths for each row of pixels."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        name, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length]) == (zlib.crc32(name + data),)
        chunks[name], at = data, at + 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    wide, high, bits, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (wide, high, bits, kind) == (WIDTH, HEIGHT, 8, 3)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == (WIDTH + 1) * HEIGHT
    return [rows[row * (WIDTH + 1) + 1 : (row + 1) * (WIDTH + 1)] for row in range(HEIGHT)]


def line_at(rows: list[bytes], x: int) -> float:
    """Return the row in which the line is in a column."""
    full = [row for row in range(HEIGHT) if rows[row][x] == 255]
    return sum(full) / len(full)


def test_a_curve_is_drawn_as_a_picture_and_in_letters() -> None:
    points = [(NOW + day * DAY, 1000.0 + value) for day, value in enumerate((0, 5, -10, 20))]
    found = curve(points)
    assert found is not None
    rows = strengths(found.png)
    begin, second, lowest, last = (line_at(rows, x) for x in (0, WIDTH // 3, WIDTH * 2 // 3, WIDTH - 1))
    assert last < second < begin < lowest  # the first row is the upper one
    assert lowest > HEIGHT * 0.95 and last < HEIGHT * 0.1
    assert rows[HEIGHT - 1][0] == AREA and rows[0][0] == 0
    assert found.text == "\u2583\u2585\u2581\u2588"
    assert found.ends == ("2026-01-05: 1,000.00", "2026-01-08: 1,020.00")
    assert found.caption == "lowest 990.00, highest 1,020.00; dashed: the beginning"


def test_a_picture_is_small_enough_for_every_mail() -> None:
    found = curve([(NOW + day * DAY, 1000.0 + day * 37 % 101) for day in range(31)])
    assert found is not None and len(found.png) < 40_000


def test_a_flat_curve_is_drawn_and_one_of_a_single_day_is_none() -> None:
    flat = curve([(NOW, 1000.0), (NOW + timedelta(days=1), 1000.0)])
    assert flat is not None
    rows = strengths(flat.png)
    assert line_at(rows, 0) == line_at(rows, WIDTH - 1)
    assert curve([(NOW, 1000.0)]) is None
    assert curve([]) is None


def test_many_values_are_a_short_line_that_ends_with_the_last() -> None:
    line = spark([float(number) for number in range(400)])
    assert len(line) <= 62
    assert line.endswith("\u2588")
