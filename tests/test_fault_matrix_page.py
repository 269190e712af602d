"""The committed page of the fault matrix has the faults that tests bring about, and no others."""

from __future__ import annotations

from collections import Counter

import pytest
from support import matrix
from support.matrix import Fault, Row


def row(fault: str, **others: object) -> Row:
    usual = {"where": "appliance", "detected_after": 1.25, "alerted_after": 2.0, "looks": 1, "alerts": 1}
    ended = {"check": "disk", "recovered": "by the operator: `rm x`", "notice": True, "lost": "nothing"}
    return Row(fault, **{**usual, **ended, **others})  # type: ignore[arg-type]


def test_every_fault_of_the_page_has_a_test_and_every_test_its_row() -> None:
    assert Counter(matrix.shown()) == Counter((one.where, one.name) for one in matrix.faults())


def test_the_page_tells_of_each_fault_once_and_that_nothing_was_lost() -> None:
    lines = [line for line in matrix.PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [line.split(" | ") for line in lines if not line.startswith(("| fault ", "| ---"))]
    assert {cells[5] for cells in rows} == {"1"}
    assert {cells[7] for cells in rows} == {"told"}
    assert {cells[8] for cells in rows} == {"nothing |"}


def test_a_row_says_what_was_measured() -> None:
    page = matrix.page([row("disk full")], [Fault("disk full", "appliance", "tests/deploy/test_faults.py")])
    assert "| disk full | disk | 1.2 s | 2.0 s | 1 | 1 | by the operator: `rm x` | told | nothing |" in page
    assert "## On a laptop" not in page


def test_no_page_is_made_while_a_fault_has_no_row_or_a_row_no_test() -> None:
    tested = Fault("disk full", "appliance", "tests/deploy/test_faults.py")
    with pytest.raises(LookupError, match="have no row"):
        matrix.page([], [tested])
    with pytest.raises(LookupError, match="no test names"):
        matrix.page([row("disk full"), row("disk fuller")], [tested])
