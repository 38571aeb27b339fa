"""uv's proofs as sentences for the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from builder.environment.spec import StatedRequirement
from builder.locking.refusal import explain_refusal
from registry_sync.layout import LayoutStore
from tests.testbed.packages import built_wheel
from tests.testbed.tiny_base import tiny_base

if TYPE_CHECKING:
    from pathlib import Path

    from builder.base import Base

END = "we can conclude that your requirements are unsatisfiable."


@pytest.fixture
def base(tmp_path: Path) -> Base:
    requirements = ("dask-awkward", "coffea[dask]", "hist")
    return tiny_base(LayoutStore(tmp_path / "store"), [built_wheel("hist")], tmp_path, requirements=requirements)


def explained(proof: str, base: Base, *lines: str) -> str:
    wanted = [StatedRequirement(Requirement(line), f"r.txt, line {number}") for number, line in enumerate(lines, 1)]
    return explain_refusal(proof, wanted, "r.txt", base)


PLATFORM = "the base tiny (Python 3.13)"


@pytest.mark.parametrize(
    ("lines", "proof", "sentence"),
    [
        (
            ["hist", "awkward<2"],
            f"Because dask-awkward<=2022 depends on awkward>=1.8.0 {'and more ' * 60}, we can conclude that it does. "
            f"And because you require awkward<2 and dask-awkward, {END}",
            f"r.txt, line 2: `awkward<2` can't be had together with dask-awkward of {PLATFORM}; loosen `awkward<2`, or "
            "choose another base with --base: dask-awkward<=2022 depends on awkward>=1.8.0",
        ),
        (
            ["particle==0.20", "art", "hepunits==1.0"],
            "Because particle==0.20.0 depends on hepunits>=2.0.0 and you require particle==0.20, we can conclude that "
            f"you require hepunits>=2.0.0. And because you require hepunits==1.0, {END}",
            "r.txt, line 1 and r.txt, line 3: `particle==0.20` and `hepunits==1.0` can't be had together with "
            f"{PLATFORM}; loosen `particle==0.20` and `hepunits==1.0`: Because particle==0.20.0 depends on",
        ),
        (
            ["numba==0.60.0", "num"],
            f"Because numba==0.60.0 has no usable wheels and you require numba==0.60.0, {END}",
            f"r.txt, line 1: `numba==0.60.0` has no wheel for {PLATFORM}, and can't be made from source here;",
        ),
        (
            ["Tensor_Flow==2.15; python_version > '3'"],
            "Because tensor-flow==2.15.0 has no wheels with a matching Python ABI tag (e.g., `cp313`) and you require "
            f"tensor-flow==2.15, {END}",
            f"r.txt, line 1: `Tensor_Flow==2.15` has no wheel for {PLATFORM}",
        ),
        (
            ["pkg==1"],
            "Because the requested Python version (>=3.13.5) does not satisfy Python>=3.14 and pkg==1 depends on "
            f"Python>=3.14, we can conclude that pkg==1 cannot be used. And because you require pkg==1, {END}",
            f"r.txt, line 1: `pkg==1` has no wheel for {PLATFORM}",
        ),
        (
            ["particle>=99"],
            f"Because only particle<=1.1.0 is available and you require particle>=99, {END}",
            "r.txt, line 1: the package index has no version that fits `particle>=99`; choose another version",
        ),
        (
            ["no-such"],
            f"Because no-such was not found in the package registry and you require no-such, {END}",
            "r.txt, line 1: the package index has no package 'no-such'; check the spelling",
        ),
        (
            ["coffea==2026.1"],
            f"Because inner was not found in the package registry and coffea==2026.1 depends on inner, {END}",
            f"r.txt, line 1: `coffea==2026.1` can't be had together with {PLATFORM}",
        ),
        (
            [],
            "Something uv has never said before",
            f"r.txt: the requirements can't be satisfied together with {PLATFORM}",
        ),
    ],
)
def test_the_sentence_for_a_proof(base: Base, lines: list[str], proof: str, sentence: str) -> None:
    said = explained(proof, base, *lines)
    assert said.startswith(sentence)
    assert len(said) < 700
