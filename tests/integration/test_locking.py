"""Locks against the real base and the real index: conflicts in one sentence, locks that are honoured, dates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from builder.base import Base, load_base
from builder.environment.spec import EnvironmentSpec, StatedLock, StatedRequirement
from builder.locking.lock import lock
from builder.locking.pylock import LockError
from builder.locking.report import make_report
from builder.locking.resolver import resolve

if TYPE_CHECKING:
    from builder.facility import BaseChoice, Facility

pytestmark = pytest.mark.integration

BASE = "the base coffea-py313 (Python 3.13)"


@pytest.fixture(scope="module")
def base(facility: Facility, real_base: BaseChoice) -> Base:
    return load_base(facility.store, real_base.registry, real_base.repository, real_base.reference, facility.cache)


def spec(*lines: str) -> EnvironmentSpec:
    stated = tuple(StatedRequirement(Requirement(line), f"r.txt, line {n}") for n, line in enumerate(lines, 1))
    return EnvironmentSpec("requirements", "r.txt", stated)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["particle", "awkward<2"], ["r.txt, line 2: `awkward<2` can't be had", f"dask-awkward of {BASE}; loosen"]),
        (["coffea==0.7.21"], ["line 1: `coffea==0.7.21` can't be had together with", BASE, "depends on awkward"]),
        (["particle==0.20", "hepunits==1.0"], ["`particle==0.20` and `hepunits==1.0` can't", "loosen"]),
        (["numba==0.60.0"], [f"`numba==0.60.0` has no wheel for {BASE}", "another base with --base"]),
        (["numpy<1.24"], [f"`numpy<1.24` has no wheel for {BASE}"]),
        (["tensorflow==2.15"], [f"`tensorflow==2.15` has no wheel for {BASE}"]),
        (["scipy==1.10.1"], [f"`scipy==1.10.1` has no wheel for {BASE}"]),
        (["xrootd==4.12.0"], [f"`xrootd==4.12.0` has no wheel for {BASE}"]),
        (["particle>=99"], ["r.txt, line 1: the package index has no version that fits `particle>=99`"]),
        (["casabinder-runtime==99"], ["comes with the base coffea-py313, which has", "remove the line"]),
        (["uproot>=5.6", "awkward==2.6.1"], ["r.txt, line"]),
    ],
)
def test_a_conflict_is_one_sentence(base: Base, facility: Facility, lines: list[str], parts: list[str]) -> None:
    with pytest.raises(LockError) as caught:
        lock(spec(*lines), base, facility)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 700
    assert [part for part in parts if part not in said] == [], said


def stated(base: Base, facility: Facility, *lines: str) -> EnvironmentSpec:
    text = resolve([("in", "\n".join(lines))], base.inventory.target, facility.index)
    return EnvironmentSpec("uv", "uv.lock", lock=StatedLock("uv.lock", text))


def test_a_lock_is_honoured_and_what_cannot_stay_of_the_base_is_named(base: Base, facility: Facility) -> None:
    asked = stated(base, facility, "pyhf==0.7.6", "numpy==2.1.0")
    answer = lock(asked, base, facility)
    versions = {package.name: package.version for package in answer.packages}
    assert (versions["numpy"], versions["pyhf"]) == ("2.1.0", "0.7.6")
    assert any(note.startswith("numpy 2.1.0 replaces") for note in answer.notes)
    assert len(answer.removed) == len(answer.reasons)
    report = make_report(asked, answer.sized(facility.wheelhouse), base)
    chains = {entry.name: entry.chain for entry in (*report.added, *report.replaced)}
    assert chains["pyhf"] == ("uv.lock", "pyhf")
    assert chains["jsonpatch"] == ("uv.lock", "pyhf", "jsonpatch")


def test_a_lock_that_breaks_what_every_image_needs_is_refused(base: Base, facility: Facility) -> None:
    with pytest.raises(LockError) as caught:
        lock(stated(base, facility, "traitlets==4.3.3"), base, facility)
    said = str(caught.value)
    assert said.startswith("uv.lock: ")
    assert "which no image can do without; try `uv lock --upgrade-package traitlets`" in said


def test_additions_are_of_the_date_and_the_base_stays(base: Base, facility: Facility) -> None:
    answer = lock(spec("particle"), base, facility, before="2023-06-01T00:00:00Z")
    assert {package.name: package.version for package in answer.added}["particle"] == "0.22.0"
    assert (answer.replaced, answer.removed) == ((), ())
