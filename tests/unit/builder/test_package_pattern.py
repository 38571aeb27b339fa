"""Patterns of packages: what they mean, and what is none."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from builder.asked import asked_packages
from builder.environment.spec import EnvironmentSpec, StatedRequirement
from builder.package_pattern import PackagePattern
from builder.target import PythonTarget
from registry_sync.errors import CasabinderError

TARGET = PythonTarget("3.13", "3.13.5", "2.41")


def fits(pattern: str, *lines: str) -> bool:
    requirements = tuple(StatedRequirement(Requirement(line), "a file") for line in lines)
    (asked,) = asked_packages(EnvironmentSpec("requirements", requirements=requirements), TARGET)
    return PackagePattern.parse(pattern).fits(asked)


@pytest.mark.parametrize(
    ("pattern", "requirement", "meant"),
    [
        ("cupy-cuda*", "cupy-cuda12x==14.*", True),
        ("cupy-cuda*", "CuPy_CUDA12x", True),
        ("cupy", "cupy-cuda12x", False),
        ("*-cu12", "cudf-cu12", True),
        ("*-cu12", "cudf-cu13", False),
        ("jax[cuda*]", "jax[cuda12-local]", True),
        ("jax[cuda*]", "jax[tpu]", False),
        ("jax[cuda*]", "jax", False),
        ("jax", "jax[cuda12]", True),
        ("coffea<1", "coffea==0.7.*", True),
        ("coffea<1", "coffea==0.7.21", True),
        ("coffea<1", "coffea~=0.7.0", True),
        ("coffea<1", "coffea>=0.7,<0.8", True),
        ("coffea<1", "coffea<=0.7.22", True),
        ("coffea < 1", "coffea<1.0", True),
        ("coffea<1", "coffea>=0.7", False),
        ("coffea<1", "coffea", False),
        ("coffea<1", "coffea!=2024.1", False),
        ("coffea<1", "coffea<2024", False),
        ("coffea<1", "coffea<0.5,>0.7", False),
        ("coffea<1", "coffea===0.7.21", False),
        ("awkward>=1,<2", "awkward==1.10.*", True),
        ("awkward>=1,<2", "awkward<2", False),
    ],
)
def test_what_a_pattern_means(pattern: str, requirement: str, meant: bool) -> None:
    assert fits(pattern, requirement) is meant


def test_what_is_said_twice_counts_together() -> None:
    assert fits("coffea<1", "coffea>=0.7", "coffea<0.8")
    assert not fits("coffea<1", "coffea==0.7.*", "coffea>=2024")


@pytest.mark.parametrize("text", ["", "Coffea", "coffea<", "coffea<one", "coffea===0.7", "a;", "jax[", "-cu12", "a/b"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(CasabinderError, match=r"is no pattern of packages; write it like `cupy-cuda\*`"):
        PackagePattern.parse(text)
