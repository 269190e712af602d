"""What holds for every test: with CI=true nothing is skipped, property tests have no deadline, the log starts afresh.

A machine that runs other things beside the tests is slow now and then; that is no fault of the code. How fast the code
has to be is the benchmarks' business.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import settings

IN_CI = os.environ.get("CI") == "true"

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("ci" if IN_CI else "local")

Wrapped = Generator[None, pytest.TestReport, pytest.TestReport]
WrappedCollection = Generator[None, pytest.CollectReport, pytest.CollectReport]


@pytest.fixture(autouse=True)
def log_configured_afresh() -> Iterator[None]:
    """Leave the log of a program that ran within a test, its level above all, to no test after it."""
    yield
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Wrapped:
    """Turn a skipped test into a failed one where nothing may be skipped."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", _refusal(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> WrappedCollection:
    """The same for a file that leaves itself out as a whole."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome, report.longrepr = "failed", _refusal(report)
    return report


def _refusal(report: pytest.TestReport | pytest.CollectReport) -> str:
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return f"{why}; with CI=true nothing is skipped, so what this test needs has to be there"
