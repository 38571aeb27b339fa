"""Locations of stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_sync.client import RegistryClient
from registry_sync.errors import InvalidReferenceError, RegistryError
from registry_sync.layout import LayoutStore
from registry_sync.open_store import open_store

if TYPE_CHECKING:
    from registry_sync.store import Store


@pytest.mark.parametrize(
    ("location", "registry", "prefix"),
    [
        ("registry.example", "registry.example", ""),
        ("registry.example/", "registry.example", ""),
        ("localhost:5000/team/images/", "localhost:5000", "team/images"),
        ("[::1]:5000/team", "[::1]:5000", "team"),
    ],
)
def test_registries(location: str, registry: str, prefix: str) -> None:
    store, found = open_store(location)
    with store:
        assert isinstance(store, RegistryClient)
        assert (store.registry, found) == (registry, prefix)


@pytest.mark.parametrize(
    ("location", "root", "prefix"), [("oci:/srv/x", "/srv/x", ""), ("oci:x:a/b", "x", "a/b"), ("oci:x:", "x", "")]
)
def test_layouts(location: str, root: str, prefix: str) -> None:
    store, found = open_store(location)
    assert isinstance(store, LayoutStore)
    assert (store.root, found) == (Path(root), prefix)


@pytest.mark.parametrize(
    ("location", "fault"),
    [
        ("", "is no store"),
        ("https://registry.example/team", "is a URL"),
        ("registry.example/Team", "prefix"),
        ("oci:", "names no directory"),
        ("oci:/srv/x:../y", "prefix"),
        ("a b/c", "is no store"),
    ],
)
def test_refused(location: str, fault: str) -> None:
    with pytest.raises(InvalidReferenceError, match=fault):
        open_store(location)


def test_both_are_stores(tmp_path: Path) -> None:
    stores: list[Store] = [open_store("registry.example")[0], open_store(f"oci:{tmp_path}")[0]]
    for store in stores:
        assert isinstance(store, RegistryClient | LayoutStore)
        store.close()


def test_a_ca_bundle_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="CA bundle"):
        open_store("registry.example", ca_bundle=tmp_path / "missing.pem")
