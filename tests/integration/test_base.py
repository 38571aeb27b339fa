"""Real bases: mmdebstrap, the locked wheels, and the same digest from a cache that knows nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from base_images.assemble import BaseRecord, build_base
from base_images.definition import load_definition, read_definition
from base_images.identity import Workshop, base_repository
from base_images.locking import lock_base
from base_images.rootfs import build_rootfs
from builder.base import load_base
from builder.image import ImageSettings, Parent, make_image
from builder.publish import Part, put_image, put_parts
from registry_sync.layout import LayoutStore
from tests.integration.conftest import PREFIX, cache_with_the_sites
from tests.testbed.registry import registry_is_installed

if TYPE_CHECKING:
    from pathlib import Path

    from builder.facility import Facility
    from tests.testbed.registry import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not registry_is_installed(), reason="needs docker-registry"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]


@dataclass(frozen=True)
class Anew:
    """The default base and the one that extends it, with every layer written anew; and the Debian packages in both."""

    digests: tuple[str, str]
    packages: tuple[str, ...]


def built_anew(workshop: Workshop, directory: Path) -> Anew:
    fresh = replace(workshop, cache=cache_with_the_sites(directory / "cache", ("wheels",)))
    store = LayoutStore(directory / "store")
    record = build_base(load_definition("coffea-cuda-py313"), fresh, store, "layout", "")
    base = load_base(store, "layout", base_repository("", "coffea-py313"), "current", fresh.cache)
    shutil.rmtree(directory)
    return Anew((base.digest, record.digest), base.inventory.system_packages)


def test_bases_made_from_nothing_have_the_same_digests(
    base_record: BaseRecord, facility: Facility, workshop: Workshop, tmp_path: Path
) -> None:
    repository = base_repository(PREFIX, base_record.name)
    cuda = build_base(load_definition("coffea-cuda-py313"), workshop, facility.store, facility.registry, PREFIX)
    first = load_base(facility.store, facility.registry, repository, "current", facility.cache)
    digests, packages = (first.digest, cuda.digest), first.inventory.system_packages
    again = built_anew(workshop, tmp_path / "again")
    if again.packages != packages:  # Debian moved on since the cached root file system was made
        digests = again.digests
        again = built_anew(workshop, tmp_path / "once more")
    assert again.digests == digests


def test_the_other_base_of_the_catalogue(workshop: Workshop, tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    record = build_base(load_definition("coffea-py311"), workshop, store, "layout", "")
    base = load_base(store, "layout", "bases/coffea-py311", "current", tmp_path)
    assert base.digest == record.digest
    target = base.inventory.target
    assert (target.python, target.python_full[:5], target.glibc) == ("3.11", "3.11.", "2.36")
    assert {"coffea", "dask", "numpy", "casabinder-runtime"} <= set(base.inventory.analysis.by_name)
    assert {"jupyterlab", "jupyterhub", "casabinder-runtime"} <= set(base.inventory.server.by_name)


def test_the_base_for_older_analyses_shares_its_notebook_server(workshop: Workshop, tmp_path: Path) -> None:
    store = LayoutStore(tmp_path / "store")
    for name in ("coffea-py311", "coffea-legacy-py311"):
        build_base(load_definition(name), workshop, store, "layout", "")
    usual, legacy = (
        load_base(store, "layout", f"bases/{name}", "current", tmp_path)
        for name in ("coffea-py311", "coffea-legacy-py311")
    )
    assert legacy.inventory.server == usual.inventory.server
    versions = {name: legacy.inventory.analysis.by_name[name].version for name in ("coffea", "awkward", "uproot")}
    assert versions == {"coffea": "0.7.21", "awkward": "1.10.5", "uproot": "4.3.7"}
    made_by = [entry["created_by"] for entry in legacy.config["history"]]
    analysis = made_by.index("casabinder: /srv/env: environment")
    assert analysis > 10
    assert legacy.manifest.layers[:analysis] == usual.manifest.layers[:analysis], "Debian and all of the server"
    shared = [layer.size for layer in legacy.manifest.layers if layer in usual.manifest.layers]
    assert sum(shared) > 0.5 * sum(layer.size for layer in legacy.manifest.layers)


def test_a_base_may_start_from_any_image(
    workshop: Workshop, site_registry: Registry, facility: Facility, tmp_path: Path
) -> None:
    rootfs_spec = load_definition("coffea-py313").document.rootfs
    assert rootfs_spec is not None
    rootfs = build_rootfs(rootfs_spec, workshop.layers, workshop.cache / "rootfs")
    image = make_image(Parent(), [rootfs.layer], ImageSettings(environment={"SITE": "here"}), {})
    put_parts(facility.store, "elsewhere/debian", [Part(rootfs.layer.descriptor, blob=rootfs.layer.blob)])
    put_image(facility.store, "elsewhere/debian", image, ["v1"])

    directory = tmp_path / "catalogue" / "small-py313"
    directory.mkdir(parents=True)
    start = {"image": f"{site_registry.address}/elsewhere/debian:v1", "python_full": "3.13.5", "glibc": "2.41"}
    document = {"name": "small-py313", "title": "small", "python": "3.13"}
    (directory / "base.yaml").write_text(
        json.dumps({**document, "start": {**start, "interpreter": "/usr/bin/python3.13"}})
    )
    (directory / "server.in").write_text("packaging\n")
    (directory / "analysis.in").write_text("packaging\n")
    lock_base(read_definition(directory), workshop)

    record = build_base(read_definition(directory), workshop, facility.store, facility.registry, PREFIX)
    base = load_base(facility.store, facility.registry, base_repository(PREFIX, record.name), "current", tmp_path)
    assert base.manifest.layers[0] == rootfs.layer.descriptor, "the image below is taken as it is"
    assert "SITE=here" in base.config["config"]["Env"], "and so are its settings"
    assert set(base.inventory.analysis.by_name) == {"casabinder-runtime", "packaging"}
    assert base.config["config"]["User"] == "1000:1000"
