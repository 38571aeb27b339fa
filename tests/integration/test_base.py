"""Real bases: mmdebstrap, the locked wheels, and the same digest from a cache that knows nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import BaseRecord, Workshop, base_repository, build_base
from base_images.definition import load_definition
from builder.base import load_base
from registry_sync.layout import LayoutStore
from tests.integration.conftest import PREFIX, cache_with_the_sites
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from pathlib import Path

    from builder.facility import Facility

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]


def built_anew(workshop: Workshop, directory: Path) -> tuple[BaseRecord, tuple[str, ...]]:
    """Make the default base with every layer written anew; return it and the Debian packages that are in it."""
    fresh = replace(workshop, cache=cache_with_the_sites(directory / "cache", ("wheels",)))
    store = LayoutStore(directory / "store")
    record = build_base(load_definition("coffea-py313"), fresh, store, "layout", "")
    base = load_base(store, "layout", base_repository("", record.name), "current", fresh.cache)
    return record, base.inventory.system_packages


def test_a_base_made_from_nothing_has_the_same_digest(
    base_record: BaseRecord, facility: Facility, workshop: Workshop, tmp_path: Path
) -> None:
    repository = base_repository(PREFIX, base_record.name)
    first = load_base(facility.store, facility.registry, repository, "current", facility.cache)
    digest, packages = first.digest, first.inventory.system_packages
    again, packages_again = built_anew(workshop, tmp_path / "again")
    if packages_again != packages:  # Debian moved on since the cached root file system was made
        digest = again.digest
        again, packages = built_anew(workshop, tmp_path / "once more")
        assert packages == packages_again
    assert again.digest == digest


def test_the_other_base_of_the_catalogue(workshop: Workshop, tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    record = build_base(load_definition("coffea-py311"), workshop, store, "layout", "")
    base = load_base(store, "layout", "bases/coffea-py311", "current", tmp_path)
    assert base.digest == record.digest
    target = base.inventory.target
    assert (target.python, target.python_full[:5], target.glibc) == ("3.11", "3.11.", "2.36")
    assert {"coffea", "dask", "numpy", "casabinder-runtime"} <= set(base.inventory.analysis.by_name)
    assert {"jupyterlab", "jupyterhub", "casabinder-runtime"} <= set(base.inventory.server.by_name)
