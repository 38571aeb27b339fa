"""What a smoke test of a base tries, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.base import InstalledEnvironment, InstalledPackage
from launcher.bases.smoke import NOT_IMPORTED, BaseSmokeReport, checked_address, import_plan, read_exceptions
from launcher.ci.smoke import Check
from registry_sync.errors import CasabinderError

if TYPE_CHECKING:
    from pathlib import Path


def test_everything_of_an_environment_is_imported_but_what_is_listed(tmp_path: Path) -> None:
    packages = tuple(InstalledPackage(name, "1", "", "") for name in ("numpy", "cudf"))
    environment = InstalledEnvironment("/srv/env", (), packages)
    (tmp_path / "smoke-test.yaml").write_text("not_imported: {analysis: {cudf: it asks for a GPU at once}}\n")
    exceptions = read_exceptions(tmp_path)
    assert exceptions["server"] == NOT_IMPORTED["server"]
    plan = import_plan(environment, exceptions["analysis"])
    assert (plan.packages, plan.left_out) == (("cudf", "numpy"), ("classad3", "cudf"))


@pytest.mark.parametrize("text", ["not_imported: {kernel: {a: b}}", "not_imported: [a]", "other: 1", "{"])
def test_what_is_wrong_in_the_list_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "smoke-test.yaml").write_text(text)
    with pytest.raises(CasabinderError, match=r"smoke-test\.yaml"):
        read_exceptions(tmp_path)


def test_a_report_has_a_sentence_for_each_fault() -> None:
    passed, failed = Check("server", passed=True), Check("dask", passed=False, said="Traceback\n  ...\nIt broke\n\n")
    report = BaseSmokeReport((passed, failed, Check("kernel", passed=False)))
    assert not report.passed
    assert report.faults == ["dask failed: It broke", "kernel failed: it did not say why"]
    assert report.summary == "2 of 3 checks failed"
    assert BaseSmokeReport((passed,)).passed
    assert BaseSmokeReport((passed,)).summary == "passed, 1 checks"
    assert not BaseSmokeReport(()).passed, "who tried nothing knows nothing"
    assert report.to_json()["checks"][1]["name"] == "dask"


def test_an_address_to_read_holds_no_secret() -> None:
    for address in ("root://data.example.org//store/a.root", "roots://data.example.org:1095//a"):
        assert checked_address(address) == address
    for address in ("https://data.example.org/a", "root://data.example.org", "root:///a", "data"):
        with pytest.raises(CasabinderError, match="give root://HOST"):
            checked_address(address)
    for address in ("root://me@data.example.org//a", "root://data.example.org//a?authz=Bearer%20x"):
        with pytest.raises(CasabinderError, match="without user and query"):
            checked_address(address)
