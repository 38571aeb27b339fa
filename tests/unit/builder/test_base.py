"""Bases as data in the registry: the inventory, and images that are no bases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.base import INVENTORY_TYPE, Inventory, load_base
from builder.layers.wheel import InstallTarget
from registry_sync.errors import CasabinderError, NotFoundError
from registry_sync.layout import LayoutStore
from registry_sync.manifest import Manifest
from tests.testbed.packages import built_wheel
from tests.testbed.recorded_store import recorded
from tests.testbed.tiny_base import REPOSITORY, TARGET, tiny_base

if TYPE_CHECKING:
    from pathlib import Path

    from builder.base import Base

WHEELS = (built_wheel("one", "1.0", requires=["two>=1; extra == 'x'", "ünusual"]), built_wheel("two", "2.0"))


@pytest.fixture
def store(tmp_path: Path) -> LayoutStore:
    return LayoutStore(tmp_path / "store")


@pytest.fixture
def base(store: LayoutStore, tmp_path: Path) -> Base:
    return tiny_base(store, WHEELS, tmp_path, requirements=("one",), protected=("two",))


def test_what_was_attached_is_read(base: Base) -> None:
    inventory = base.inventory
    assert (inventory.name, inventory.target, inventory.protected) == ("tiny", TARGET, ("two",))
    assert base.install_target == InstallTarget("/srv/env", "3.13")
    one = inventory.analysis.by_name["one"]
    assert one.locked == WHEELS[0].locked()
    assert one.requires == WHEELS[0].requires
    assert "srv/env/lib/python3.13/site-packages/two/__init__.py" in base.files["two"]
    assert Inventory.from_json(inventory.to_json()) == inventory


def test_a_base_that_was_read_before_is_one_request(base: Base, store: LayoutStore, tmp_path: Path) -> None:
    counting, calls = recorded(store)
    again = load_base(counting, "registry.test", REPOSITORY, "current", tmp_path / "base-cache")
    assert [call.method for call in calls] == ["get_manifest"]
    assert (again.inventory, again.config, again.files) == (base.inventory, base.config, base.files)


def test_an_index_stands_for_its_image_for_this_platform(base: Base, store: LayoutStore, tmp_path: Path) -> None:
    from dataclasses import replace

    entry = replace(base.manifest.descriptor(), platform={"os": "linux", "architecture": "amd64"})
    store.put_manifest(REPOSITORY, "many", Manifest.index([entry]))
    assert load_base(store, "registry.test", REPOSITORY, "many", tmp_path).digest == base.digest
    store.put_manifest(REPOSITORY, "arm", Manifest.index([replace(entry, platform={"architecture": "arm64"})]))
    with pytest.raises(CasabinderError, match="has no image for linux/amd64"):
        load_base(store, "registry.test", REPOSITORY, "arm", tmp_path)


def test_an_image_without_an_inventory_is_no_base(base: Base, store: LayoutStore, tmp_path: Path) -> None:
    (artifact,) = store.referrers(REPOSITORY, base.digest, INVENTORY_TYPE)
    store.delete_manifest(REPOSITORY, artifact.digest)
    with pytest.raises(CasabinderError, match="carries no inventory, so it can't serve as a base"):
        load_base(store, "registry.test", REPOSITORY, "current", tmp_path / "empty")


def test_a_base_that_is_not_there(store: LayoutStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_base(store, "registry.test", REPOSITORY, "current", tmp_path)


@pytest.mark.parametrize("field", ["name", "target", "analysis", "protected"])
def test_an_inventory_of_another_version_is_said_to_be_one(base: Base, field: str) -> None:
    document = base.inventory.to_json()
    del document[field]
    with pytest.raises(CasabinderError, match=f"no usable '{field}'; build the base again"):
        Inventory.from_json(document)
