"""What holds for every test: unit tests run first, two processes share the rest, and in CI nothing is skipped."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# How long an example takes says how busy the machine is.
settings.register_profile("casabinder", deadline=None)
settings.load_profile("casabinder")

IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}

# Modules that share what takes minutes to make, or that look at every container of this machine, are in one group; the
# longest groups begin first.
TOGETHER = {"test_corpus": "corpus", "test_reproducibility": "corpus", "test_source_builds": "corpus"}
FOLDERS = ("service", "pool")  # of tests/integration
FIRST = ("pool", "service", "corpus")


def group_of(nodeid: str) -> str:
    """Return the group of a test's module; most modules are a group of their own."""
    module = nodeid.partition("::")[0]
    for folder in FOLDERS:
        if module.startswith(f"tests/integration/{folder}/"):
            return folder
    return TOGETHER.get(module.rpartition("/")[2].removesuffix(".py"), module)


class InGroups(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    """Gives each group to one process, so that its fixtures are made once."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> InGroups:
    """Say how several processes (``-n 2``) share the tests. (Marks of groups have no effect since pytest 9.)"""
    return InGroups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the integration tests last: they are slow, and a broken unit explains their failures."""

    def order(item: pytest.Item) -> int:
        if item.get_closest_marker("integration") is None:
            return 0
        group = group_of(item.nodeid)
        return 1 + (FIRST.index(group) if group in FIRST else len(FIRST))

    items.sort(key=order)


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
