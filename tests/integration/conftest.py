"""A real registry with a real base in it, made once for all tests.

Wheels, layers and root file systems are taken from (and left in) the site's own cache, so that a second run of the
tests does not download them again; everything else is new.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from casabinder_runtime.ports import first_free_port

from base_images.assemble import BaseRecord, build_base
from base_images.definition import load_definition
from base_images.identity import Workshop, base_repository
from builder.facility import BaseChoice, BaseOffer, Bases, Facility
from launcher.context import open_context
from launcher.site_config import cache_directory
from registry_sync.client import RegistryClient
from tests.testbed.corpus import UNITS, Corpus
from tests.testbed.git_repository import commit_files, git
from tests.testbed.git_server import running_git_server
from tests.testbed.index_mirror import running_index_mirror
from tests.testbed.registry import Registry, running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.locking.resolver import PackageIndex

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


@pytest.fixture(scope="session")
def both_bases(real_base: BaseChoice, facility: Facility, workshop: Workshop) -> Bases:
    """All bases of the catalogue in the facility's registry, the default first."""
    older = build_base(load_definition("coffea-py311"), workshop, facility.store, facility.registry, PREFIX)
    choice = BaseChoice(facility.registry, base_repository(PREFIX, older.name), "current")
    return Bases((BaseOffer("coffea-py313", "3.13", real_base), BaseOffer("coffea-py311", "3.11", choice)))


@pytest.fixture(scope="session")
def index_pages() -> Path:
    """Where pages of the package index are kept from one run of the tests to the next."""
    return cache_directory() / "test-index" / "pages"


@pytest.fixture(scope="session")
def corpus(
    facility: Facility,
    both_bases: Bases,
    site_index: PackageIndex,
    index_pages: Path,
    base_record: BaseRecord,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Corpus]:
    """The corpus, whose cases are built when they are asked for."""
    scratch = tmp_path_factory.mktemp("corpus")
    commit_files(scratch / "units", UNITS)
    git(scratch / "units", "tag", "v1")
    # uv keeps what it knows by the index's address, so that this is the same in every run if it can be.
    port = first_free_port(28717)
    with running_git_server(scratch / "git") as server, running_index_mirror(site_index, index_pages, port) as index:
        server.add("units.git", scratch / "units")
        fill = {
            "index": index.url or "",
            "git": f"http://{server.address}",
            "base": f"{facility.registry}/{base_repository(PREFIX, base_record.name)}@{base_record.digest}",
        }
        index = replace(index, cache=index_pages.parent / "uv")
        yield Corpus(replace(facility, index=index), both_bases, fill, scratch)
