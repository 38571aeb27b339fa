"""Plans: what an image consists of, before anything is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.environment.spec import EditableProject, EnvironmentSpec
from builder.locking.lock import compare
from builder.plan import plan
from builder.repository.spec import Commit, RepoSpec
from builder.repository.tree import Tree
from registry_sync.layout import LayoutStore
from registry_sync.manifest import Manifest
from tests.testbed.packages import built_wheel
from tests.testbed.tiny_base import TARGET, tiny_base

if TYPE_CHECKING:
    from builder.base import Base
    from builder.locking.lock import Lock

OLD, NEW, EXTRA = built_wheel("core", "2.0"), built_wheel("core", "1.0"), built_wheel("extra")
TREE = Tree(Commit(RepoSpec("https://host/repo"), "c" * 40, "main"), Path("/nowhere"), "7" * 40)
NOTHING = EnvironmentSpec("none")
EDITABLE = EditableProject("My-Fit", "1.0", "", ("src", ""))


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return tiny_base(LayoutStore(tmp_path / "store"), [OLD, built_wheel("kept")], tmp_path)


def locked(base: Base, *wheels: object) -> Lock:
    return compare([wheel.locked() for wheel in wheels], base.inventory.analysis.by_name, TARGET)  # type: ignore[attr-defined]


def test_the_layers_of_a_plan_in_order(base: Base) -> None:
    spec = EnvironmentSpec("pyproject", editables=(EDITABLE,))
    planned = plan(base, locked(base, NEW, EXTRA), spec, TREE)
    assert planned.whats == [
        "removed of the base: core 2.0",
        "core 1.0",
        "extra 1.0",
        "editable: My-Fit 1.0",
        "repository",
        "env.json",
    ]
    site = "srv/env/lib/python3.13/site-packages"
    (whiteouts, paths, identity) = (planned.below[0], planned.above[0], planned.above[2])
    assert [(entry.kind, entry.path) for entry in whiteouts.entries()] == [
        ("whiteout", f"{site}/core"),
        ("whiteout", f"{site}/core-2.0.dist-info"),
    ]
    written = {entry.path: entry.content for entry in paths.entries()}
    assert written[f"{site}/_casabinder_my_fit.pth"] == b"/srv/repo/src\n/srv/repo\n"
    assert [entry.path for entry in identity.entries()] == ["etc/casabinder/env.json"]


def test_keys_depend_on_what_decides_a_layer(base: Base) -> None:
    one = plan(base, locked(base, NEW, OLD), NOTHING, TREE)
    same = plan(base, locked(base, NEW, OLD), NOTHING, replace(TREE, git_dir=Path("/elsewhere")))
    other = plan(base, locked(base, NEW), NOTHING, replace(TREE, tree_id="8" * 40))
    assert [layer.key for layer in one.above] == [layer.key for layer in same.above]
    assert not {layer.key for layer in one.above} & {layer.key for layer in other.above}
    assert one.env_id == same.env_id
    keys = [*(layer.key for layer in other.below), *(layer.key for layer in other.wheels)]
    keys += [layer.key for layer in other.above]
    assert len(set(keys)) == 4


def test_an_editable_changes_the_environment(base: Base) -> None:
    answer = locked(base)
    spec = EnvironmentSpec("pyproject", editables=(EDITABLE,))
    assert plan(base, answer, spec, TREE).env_id != plan(base, answer, NOTHING, TREE).env_id


def test_a_base_with_many_layers_leaves_few_for_wheels(base: Base) -> None:
    many = Manifest.image(base.manifest.config, [base.manifest.layers[0]] * 119)
    sizes = [replace(built_wheel(f"p{number}").locked(), size=2_000_000) for number in range(50)]
    answer = compare(sizes, base.inventory.analysis.by_name, TARGET)
    assert len(plan(base, answer, NOTHING, TREE).wheels) == 40
    assert len(plan(replace(base, manifest=many), answer, NOTHING, TREE).wheels) == 1
