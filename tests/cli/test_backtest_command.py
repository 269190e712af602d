"""`tradectl backtest`: the report, and one clear message for every bad input."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.tradectl import tradectl

from app.schemas import PerformanceAnswer

HEADER = "timestamp,open,high,low,close,volume\n"
CLOSES = [10, 10, 10, 11, 12, 13, 12, 10, 9, 8, 9, 11, 13, 15]


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    """Bars of two days an hour apart, opening where the last one closed."""
    file = tmp_path / "ACME_1h.csv"
    rows = [
        f"2026-01-05T{hour:02}:00:00Z,{before},{max(before, close)},{min(before, close)},{close},100"
        for hour, (before, close) in enumerate(zip([10, *CLOSES], CLOSES, strict=False))
    ]
    file.write_text(HEADER + "\n".join(rows) + "\n")
    return file


def cross(bars: Path, *words: str) -> tuple[object, ...]:
    return ("backtest", bars, "--strategy", "sma_cross", "--set", "fast=1", "--set", "slow=2", *words)


def test_the_json_has_the_performance_answer_and_what_a_backtest_adds(bars: Path) -> None:
    said = tradectl(*cross(bars, "--fee", "0.001", "--json"), cwd=bars.parent)
    assert said.code == 0
    assert said.json.keys() >= set(PerformanceAnswer.__struct_fields__)
    assert said.json["symbol"] == "ACME"
    assert said.json["bars"] == len(CLOSES)
    assert said.json["parameters"] == {"fast": 1, "slow": 2}
    assert "equity" not in said.json
    assert said.json["total_trades"] == len(said.json["trades"]) == 2
    first, last = said.json["trades"]
    assert first["entry_time"] == "2026-01-05T04:00:00Z"
    assert (first["entry_price"], first["exit_price"]) == (11, 12)
    assert last["exit_time"] == "2026-01-05T14:00:00Z"
    assert msgspec.json.decode(said.out, type=PerformanceAnswer).total_trades == 2


def test_all_cash_is_spent_and_fees_are_taken_from_both_sides(bars: Path) -> None:
    report = tradectl(*cross(bars, "--fee", "0.001", "--json"), cwd=bars.parent).json
    first = report["trades"][0]
    assert first["quantity"] == pytest.approx(10000 / (11 * 1.001), abs=1e-7)
    assert first["fees"] == pytest.approx(first["quantity"] * (11 + 12) * 0.001, abs=1e-6)
    assert report["final_equity"] == pytest.approx(10000 + sum(trade["net"] for trade in report["trades"]), abs=1e-6)


def test_the_equity_at_each_bar_comes_on_request(bars: Path) -> None:
    report = tradectl(*cross(bars, "--equity", "--json"), cwd=bars.parent).json
    assert [point["time"] for point in report["equity"]][:2] == ["2026-01-05T00:00:00Z", "2026-01-05T01:00:00Z"]
    assert len(report["equity"]) == len(CLOSES)
    assert report["equity"][-1]["equity"] == pytest.approx(report["final_equity"])


def test_a_person_gets_the_metrics_and_the_trades(bars: Path) -> None:
    said = tradectl(*cross(bars), "--symbol", "ZED", cwd=bars.parent)
    assert said.code == 0
    assert "sma_cross fast=1 slow=2 on 14 bars of ZED" in said.out
    assert "max drawdown" in said.out
    assert "2026-01-05 04:00:00Z" in said.out


def test_the_same_backtest_twice_gives_the_same_bytes(bars: Path) -> None:
    one, two = (tradectl(*cross(bars, "--json", "--equity"), cwd=bars.parent) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strategy", "sma_cros"], "there is no strategy 'sma_cros' (did you mean 'sma_cross'?)"),
        (["--strategy", "sma_cross", "--set", "fats=3"], "has no parameter 'fats' (did you mean 'fast'?)"),
        (["--strategy", "sma_cross", "--set", "fast=x"], "fast=x is not a whole number"),
        (["--strategy", "sma_cross", "--set", "fast"], "'fast' does not read as key=value, such as fast=10"),
        (["--strategy", "sma_cross", "--set", "fast=2", "--set", "fast=3"], "names a parameter twice"),
        (["--strategy", "sma_cross", "--set", "fast=60"], "fast=60 must be below slow=30"),
        (["--strategy", "sma_cross", "--capital", "-1"], "capital -1 is out of range"),
        (["--strategy", "sma_cross", "--allocation", "2"], "allocation 2 is not a fraction"),
        (["--strategy", "sma_cross", "--fee", "NaN"], "'NaN' is not a number"),
        (["--strategy", "sma_cross", "--slippage", "1"], "slippage 1 are fractions"),
        ([], "missing option '--strategy'"),
    ],
)
def test_a_plan_that_cannot_be_is_one_line_and_exit_code_2(bars: Path, words: list[str], message: str) -> None:
    said = tradectl("backtest", bars, *words, cwd=bars.parent)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; check the path"),
        ("", "is empty; the first line must name the columns"),
        (HEADER, "has a header but no bars"),
        ("time,open\n1,2\n", "column timestamp, high, low, close, volume is missing"),
        (HEADER + "2026-01-05,10,9,8,8.5,1\n", "line 2, column high: '9' is not the greatest price"),
    ],
)
def test_a_file_that_is_no_bars_is_named_with_its_fault(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "bad.csv"
    if content is not None:
        file.write_text(content)
    said = tradectl("backtest", file, "--strategy", "momentum", "--json", cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"tradectl: {file}")
    assert message in said.err
