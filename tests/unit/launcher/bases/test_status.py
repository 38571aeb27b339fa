"""What is known of a base, and that what could not be asked is never taken for nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from base_images.identity import Workshop
from builder.facility import BaseChoice, Bases
from builder.locking.resolver import PackageIndex
from launcher.bases.ledger import Ledger
from launcher.bases.status import BaseStatus, base_status
from launcher.bases.upkeep_commands import base_statuses
from launcher.bases.vulnerabilities import Vulnerability
from launcher.cli import _parser
from registry_sync.errors import CasabinderError
from tests.testbed.packages import built_wheel, running_index
from tests.unit.builder.conftest import CORE, PLOTS, make_workbench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launcher.context import Context
    from tests.unit.builder.conftest import Workbench

NEWER = built_wheel("core", "2.1")


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    with running_index([CORE, PLOTS, NEWER, built_wheel("core", "3.0", tag="cp312-cp312-win_amd64")]) as index:
        yield make_workbench(tmp_path, index, (CORE, PLOTS))


def status(workbench: Workbench) -> BaseStatus:
    return base_status(workbench.base, "host/tiny:current", workshop(workbench), lambda: date(2026, 2, 1))


def workshop(workbench: Workbench) -> Workshop:
    return Workshop(workbench.facility.cache, PackageIndex(url=workbench.index.url))


def test_what_is_newer_and_what_nobody_tells(workbench: Workbench) -> None:
    found = status(workbench)
    assert [(one.environment, one.name, one.version, one.newest) for one in found.python or ()] == [
        ("analysis", "core", "2.0", "2.1")
    ]
    assert found.vulnerabilities is None
    assert found.debian is None
    assert found.stale
    text = found.to_text()
    assert "made              not known: no release says when" in text
    assert "Debian            not known: the base started from another image" in text
    assert "    core 2.0 -> 2.1  (analysis)" in text
    assert "vulnerabilities   not known: the package index does not tell" in text


def test_vulnerabilities_as_the_index_tells_them(workbench: Workbench) -> None:
    workbench.index.vulnerable = {
        "core/2.0": [
            {"id": "X-2026-1", "aliases": ["CVE-2026-1"], "fixed_in": ["2.1"]},
            {"id": "X-2026-2", "aliases": [], "fixed_in": [], "withdrawn": "2026-01-01T00:00:00Z"},
        ]
    }
    found = status(workbench)
    assert found.vulnerabilities == (Vulnerability("core", "2.0", ("CVE-2026-1", "X-2026-1"), ("2.1",)),)
    assert "    core 2.0  CVE-2026-1, X-2026-1, fixed in 2.1" in found.to_text()
    workbench.index.vulnerable = {}
    assert status(workbench).vulnerabilities == ()
    assert "vulnerabilities   0 known to the package index" in status(workbench).to_text()


def test_an_index_with_a_fault_is_not_one_that_knows_nothing(workbench: Workbench) -> None:
    workbench.index.faults = {"/pypi/core/2.0/json": 503, "/simple/core/": 503}
    found = status(workbench)
    assert found.vulnerabilities is None
    assert found.python is None
    assert "could not be asked for vulnerabilities" in found.not_known["vulnerabilities"]
    assert "the package index could not be asked" in found.not_known["python"]


def test_the_day_of_a_release_stays_when_it_is_tried_again(workbench: Workbench) -> None:
    def ledger(day: int) -> Ledger:
        clock = datetime(2026, 1, day, 12, tzinfo=UTC).timestamp()
        return Ledger(workbench.base.store, workbench.base.repository, lambda: clock)

    ledger(28).release(workbench.base.digest, "", "")
    for day in (28, 31):
        ledger(day).attach_notes(workbench.base.digest, b"{}")
    found = status(workbench)
    assert (found.made, found.days) == ("2026-01-28", 4)
    assert "made              2026-01-28, 4 days ago" in found.to_text()


def test_the_day_debian_was_fetched(workbench: Workbench) -> None:
    facts = workbench.facility.cache / "rootfs" / "facts.json"
    facts.parent.mkdir(parents=True)
    told: dict[str, object] = {"packages": [], "texts": {}}
    facts.write_text(json.dumps(told))  # of an earlier version
    assert status(workbench).made == ""
    facts.write_text(json.dumps({**told, "layer": workbench.base.manifest.layers[0].digest, "fetched": "2026-01-02"}))
    assert status(workbench).made == "2026-01-02"


def test_nothing_newer_is_not_stale(workbench: Workbench) -> None:
    fresh = replace(status(workbench), debian=(), python=())
    assert not fresh.stale
    assert "Debian            nothing newer\n" in fresh.to_text()
    assert [replace(fresh, made="2026-01-31", days=days).to_text().split()[4] for days in (0, 1)] == [
        "today",
        "yesterday",
    ]
    assert replace(fresh, vulnerabilities=None, not_known={"vulnerabilities": "the network is gone"}).stale


def test_the_command(workbench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    def context(choice: BaseChoice) -> Context:
        there = SimpleNamespace(
            facility=workbench.facility,
            workshop=workshop(workbench),
            bases=lambda _: Bases.only(choice),
            catalogues=(workbench.directory / "catalogue",),
        )
        return cast("Context", there)

    parse = _parser().parse_args
    (workbench.directory / "catalogue" / "tiny").mkdir(parents=True)
    (workbench.directory / "catalogue" / "tiny" / "base.yaml").touch()
    assert base_statuses(context(workbench.choice), parse(["base", "status", "--json"])) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["python"][0]["newest"], found["debian"]) == ("tiny", "2.1", None)
    assert base_statuses(context(workbench.choice), parse(["base", "status", "tiny", "--exit-code"])) == 1
    gone = context(BaseChoice("registry.test", "fac/bases/none", "current"))
    assert base_statuses(gone, parse(["base", "status"])) == 0
    assert capsys.readouterr().err == "tiny: not in the registry\n"
    with pytest.raises(CasabinderError, match="the base tiny is not in the registry"):
        base_statuses(gone, parse(["base", "status", "tiny"]))
