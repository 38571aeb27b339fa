"""Whiteouts: the removed files disappear, the kept ones stay, and no empty directory is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.layers.archive import parents
from builder.layers.errors import LayerError
from builder.layers.whiteout import whiteouts

SITE = "srv/env/lib/python3.13/site-packages"


def paths_of(removed: list[str], kept: list[str], root: str = "srv/env") -> list[str]:
    return [entry.path for entry in whiteouts(removed, kept, root)]


def test_the_example_of_the_module() -> None:
    removed = ["mplhep/__init__.py", "mplhep/fonts/a.otf", "mplhep/fonts/b.otf"]
    removed += ["mplhep-1.3.3.dist-info/METADATA", "mplhep-1.3.3.dist-info/RECORD"]
    kept = ["mplhep/styles/extra.py", "numpy/__init__.py"]
    assert paths_of([f"{SITE}/{path}" for path in removed], [f"{SITE}/{path}" for path in kept]) == [
        f"{SITE}/mplhep-1.3.3.dist-info",
        f"{SITE}/mplhep/__init__.py",
        f"{SITE}/mplhep/fonts",
    ]


def test_the_root_itself_stays() -> None:
    assert paths_of(["srv/env/bin/a", "srv/env/bin/b", "srv/env/c"], []) == ["srv/env/bin", "srv/env/c"]


@pytest.mark.parametrize("path", ["srv/env", "srv/environment/a", "etc/passwd", "srv/env/../../etc", "/srv/env/a"])
def test_what_lies_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(LayerError):
        whiteouts([path], [])


def test_what_another_package_owns_too_stays() -> None:
    assert paths_of(["srv/env/a/x", "srv/env/a/y"], ["srv/env/a/x"]) == ["srv/env/a/y"]


trees = st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map("/".join), max_size=25)


@given(trees, st.randoms(use_true_random=False))
def test_applying_whiteouts_leaves_exactly_what_is_kept(tree: set[str], chance: object) -> None:
    files = {path for path in tree if not any(other.startswith(f"{path}/") for other in tree)}
    below = sorted(f"r/{path}" for path in files)
    removed = {path for path in below if chance.random() < 0.6}  # type: ignore[attr-defined]
    kept = set(below) - removed
    gone = paths_of(sorted(removed), sorted(kept), "r")
    nodes = {node for path in below for node in (path, *parents(path))}
    left = {node for node in nodes if not any(node == path or node.startswith(f"{path}/") for path in gone)}
    assert left == {"r"} & nodes | {node for path in kept for node in (path, *parents(path))}
    assert "r" not in gone
    assert not any(path.startswith(f"{other}/") for path in gone for other in gone)
