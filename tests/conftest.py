"""What holds for every test: unit tests run first, and in CI nothing is skipped."""

import os
from collections.abc import Generator

import pytest

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the integration tests last: they are slow, and a broken unit explains their failures."""
    items.sort(key=lambda item: item.get_closest_marker("integration") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test a failed one in CI, where everything a test may need is there."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI does not skip: {report.longreprtext or report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself (`pytest.importorskip`)."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI does not skip: {report.longrepr}"
    return report
