"""What the package index tells of vulnerabilities, and that a refusal is never taken for "none known"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.locking.resolver import PackageIndex
from launcher.bases.vulnerabilities import Vulnerability, known_vulnerabilities
from registry_sync.errors import CasabinderError
from tests.testbed.packages import running_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.packages import Index

PACKAGES = [(name, "1") for name in ("a", "b", "c", "d", "e")]
LAST = "/pypi/e/1/json"
"""The page that is asked for when the index has shown that it has such pages."""


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index([]) as index:
        index.vulnerable = {"e/1": [{"id": "X-1", "aliases": [], "fixed_in": ["2"]}]}
        yield index


def asked(index: Index, slept: list[float] | None = None) -> list[Vulnerability] | None:
    pauses: list[float] = [] if slept is None else slept
    return known_vulnerabilities(PACKAGES, PackageIndex(url=index.url), pauses.append)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_is_not_taken_for_none(index: Index, status: int) -> None:
    index.faults = {LAST: status}
    with pytest.raises(CasabinderError, match=f"could not be asked for vulnerabilities.*{status}"):
        asked(index)


def test_an_unknown_package_is_none(index: Index) -> None:
    index.faults = {LAST: 404}
    assert asked(index) == []


def test_an_index_that_asks_for_patience_is_asked_once_more(index: Index) -> None:
    slept: list[float] = []
    index.busy = {LAST: 1}
    assert asked(index, slept) == [Vulnerability("e", "1", ("X-1",), ("2",))]
    assert slept == [7.0]
    index.busy = {LAST: 2}
    with pytest.raises(CasabinderError, match="429"):
        asked(index)


def test_an_index_without_such_pages(index: Index) -> None:
    index.vulnerable = None
    assert asked(index) is None
