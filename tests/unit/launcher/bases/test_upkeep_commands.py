"""What ``casabinder base lock`` prints and writes, and its exit statuses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from base_images.definition import read_definition
from base_images.identity import Workshop
from builder.locking.resolver import PackageIndex
from launcher.bases.upkeep_commands import lock_bases
from launcher.cli import _parser
from registry_sync.errors import CasabinderError
from tests.testbed.packages import built_wheel
from tests.unit.base_images.test_upgrade import directory, index

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from launcher.context import Context
    from tests.testbed.packages import Index

__all__ = ["directory", "index"]  # fixtures


def arguments(*words: str) -> Namespace:
    return _parser().parse_args(["base", "lock", "small", *words])


def context_of(directory: Path, index: Index) -> Context:
    workshop = Workshop(directory.parents[1] / "cache", PackageIndex(url=index.url))
    return cast("Context", SimpleNamespace(workshop=workshop, definition=lambda _: read_definition(directory)))


def test_the_difference_is_told_with_its_reasons(
    directory: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    context, before = context_of(directory, index), (directory / "analysis.lock").read_text()
    assert lock_bases(context, arguments("--exit-code")) == 0
    assert "  2 more have newer versions, which --upgrade takes where they fit\n" in capsys.readouterr().out
    assert lock_bases(context, arguments("--upgrade", "--dry-run", "--exit-code")) == 1
    out = capsys.readouterr().out
    assert "small, analysis: 2 packages, 2 changed\n  core   1.0 -> 1.1  needed by plots 1.1\n" in out
    assert out.endswith("nothing was written\n")
    assert (directory / "analysis.lock").read_text() == before
    index.wheels.append(built_wheel("plots", "1.2", requires=["core<1.1"]))
    (directory / "server.in").write_text("core>=1.1\n")
    assert lock_bases(context, arguments("--upgrade-package", "Core", "--json")) == 0
    server, analysis = json.loads(capsys.readouterr().out)
    assert server["changes"] == [
        {"name": "core", "old": "1.0", "new": "1.1", "why": "asked for by server.in, line 1 as core>=1.1"}
    ]
    assert [(one["name"], one["new"]) for one in analysis["changes"]] == [("core", "1.1")]
    (held,) = analysis["held"]
    assert (held["newest"], held["why"]) == ("1.2", "plots 1.2 requires core<1.1, and core 1.1 is there")
    assert "core==1.1 " in (directory / "analysis.lock").read_text()


def test_a_name_that_no_lock_has(directory: Path, index: Index) -> None:
    with pytest.raises(CasabinderError, match="--upgrade-package coree: no lock of these bases has it"):
        lock_bases(context_of(directory, index), arguments("--upgrade-package", "coree"))
