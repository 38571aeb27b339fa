"""A real registry with a real base in it, made once for all tests.

Wheels, layers and root file systems are taken from (and left in) the site's own cache, so that a second run of the
tests does not download them again; everything else is new.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import BaseRecord, Workshop, base_repository, build_base
from base_images.definition import load_definition
from builder.facility import BaseChoice, Facility
from launcher.context import open_context
from launcher.site_config import cache_directory
from registry_sync.client import RegistryClient
from tests.testbed.registry import Registry, running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.resolver import PackageIndex

PREFIX = "casabinder"
SHARED = ("wheels", "layers", "rootfs")


def cache_with_the_sites(directory: Path, names: tuple[str, ...] = SHARED) -> Path:
    """Return a cache directory in which ``names`` are those of the site's cache."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        place = cache_directory() / name
        place.mkdir(parents=True, exist_ok=True)
        (directory / name).symlink_to(place)
    return directory


@pytest.fixture(scope="session")
def site_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that lasts as long as the tests do."""
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def site_index() -> PackageIndex:
    """The package index of the site."""
    facility = open_context().facility
    with closing(facility.store):
        return facility.index


@pytest.fixture(scope="session")
def facility(
    site_registry: Registry, site_index: PackageIndex, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Facility]:
    """A facility whose registry is its own and whose wheels and layers are the site's."""
    cache = cache_with_the_sites(tmp_path_factory.mktemp("cache"))
    with RegistryClient(site_registry.address, credentials=None) as store:
        yield Facility(store, site_registry.address, PREFIX, cache, site_index)


@pytest.fixture(scope="session")
def workshop(facility: Facility) -> Workshop:
    """What makes the bases of the facility."""
    return Workshop(facility.cache, facility.index)


@pytest.fixture(scope="session")
def base_record(facility: Facility, workshop: Workshop) -> BaseRecord:
    """The default base, in the facility's registry."""
    return build_base(load_definition("coffea-py313"), workshop, facility.store, facility.registry, PREFIX)


@pytest.fixture(scope="session")
def real_base(base_record: BaseRecord, facility: Facility) -> BaseChoice:
    """The default base, as a build chooses it."""
    return BaseChoice(facility.registry, base_repository(PREFIX, base_record.name), "current")
