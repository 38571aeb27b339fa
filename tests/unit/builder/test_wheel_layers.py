"""Which wheels share a layer, and the layers made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.layers.cache import LayerCache
from builder.layers.errors import LayerError
from builder.layers.wheel import InstallTarget
from builder.wheel_layers import inspect_wheel, make_wheel_layers, plan_wheel_layers
from builder.wheelhouse import Wheelhouse
from tests.testbed.packages import built_wheel, running_index
from tests.unit.builder.layers.helpers import read_layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.packages import Index

TARGET = InstallTarget()
SMALL = [built_wheel(name) for name in ("one", "two", "three")]


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index(SMALL) as running:
        yield running


def test_small_wheels_share_a_layer_and_big_ones_do_not(index: Index) -> None:
    packages = [index.locked(SMALL[0]), index.locked(SMALL[1], size=5_000_000), index.locked(SMALL[2])]
    planned = plan_wheel_layers(packages, TARGET, 5)
    assert [layer.what for layer in planned] == ["two 1.0", "one 1.0", "three 1.0"]
    together = plan_wheel_layers(packages, TARGET, 2)
    assert [layer.what for layer in together] == ["two 1.0", "2 packages: one 1.0, three 1.0"]
    assert planned == plan_wheel_layers(packages[::-1], TARGET, 5)
    assert len(plan_wheel_layers(packages, TARGET, 1)) == 1
    assert plan_wheel_layers([], TARGET, 5) == []
    other = plan_wheel_layers(packages, InstallTarget("/srv/other"), 5)
    assert not {layer.key for layer in planned} & {layer.key for layer in other}


def test_layers_are_made_once_and_come_in_order(index: Index, tmp_path: Path) -> None:
    house, cache = Wheelhouse(tmp_path / "wheels"), LayerCache(tmp_path / "layers")
    packages = [index.locked(wheel, size=2_000_000 + number) for number, wheel in enumerate(SMALL)]
    planned = plan_wheel_layers(packages, TARGET, 5)
    counts: list[int] = []
    layers = make_wheel_layers(planned, TARGET, house, cache, downloaded=counts.append)
    assert [layer.what for layer in layers] == ["three 1.0", "two 1.0", "one 1.0"]
    assert sum(counts) == sum(len(wheel.content) for wheel in SMALL)
    assert layers[2].blob is not None
    assert "srv/env/lib/python3.13/site-packages/one/__init__.py" in read_layer(layers[2].blob.read_bytes())
    index.asked.clear()
    assert make_wheel_layers(planned, TARGET, house, cache) == layers
    assert index.asked == []


@pytest.mark.parametrize(
    ("requires", "fits"),
    [
        ("", True),
        (">=3.9", True),
        (">=3.13.2", True),
        ("<3.13.2", True),
        ("!=3.13.0", True),
        ("nonsense", True),
        ("<3.13", False),
        ("<=3.12", False),
        ("==3.12.*", False),
        (">=3.14", False),
    ],
)
def test_a_wheel_for_another_python_is_refused(tmp_path: Path, requires: str, fits: bool) -> None:
    wheel = built_wheel("pkg", requires_python=requires)
    with running_index([wheel]) as index:
        planned = plan_wheel_layers([index.locked(wheel)], TARGET, 1)
        house, cache = Wheelhouse(tmp_path / "wheels"), LayerCache(tmp_path / "layers")
        if fits:
            assert len(make_wheel_layers(planned, TARGET, house, cache)) == 1
        else:
            with pytest.raises(
                LayerError, match=r"pkg 1.0 is for Python .*, and the image has 3.13; choose another ver"
            ):
                make_wheel_layers(planned, TARGET, house, cache)
            assert list((tmp_path / "layers" / "blobs").iterdir()) == []


def test_what_a_wheel_owns(tmp_path: Path) -> None:
    about, files = inspect_wheel(SMALL[0].write(tmp_path), TARGET)
    assert about.name == "one"
    assert "srv/env/lib/python3.13/site-packages/one-1.0.dist-info/RECORD" in files
